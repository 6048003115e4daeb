// Draws the study whose numbers are in #data: history, importance, parallel coordinates. All text goes in as text.
const began = performance.now();
const study = JSON.parse(document.getElementById("data").textContent);
const keys = Object.keys(study.space);
const shown = (trial) => trial.value ?? (trial.evaluations.length ? trial.evaluations.at(-1)[1] : null);
const scored = study.trials.filter((trial) => shown(trial) !== null);
const best = study.best && study.best.trial;

function canvas(id, width, height) {
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }, document.getElementById(id));
  svg.style.minWidth = `${Math.min(width, 900)}px`;
  return svg;
}

const number = (value) => (value === null ? "–" : Number(value.toPrecision(4)).toString());

function classOf(kind, trial) {
  return [kind, trial.trial === best ? "best" : "", trial.value === null ? "other" : ""].join(" ").trim();
}

function history() {
  const width = 900, height = 260, left = 60, bottom = 30;
  const svg = canvas("history", width, height);
  const x = scale(scored.map((_, place) => place), left + 10, width - 12);
  const y = scale(scored.map(shown), height - bottom - 8, 12);
  for (const value of y.ends) {
    element("line", { class: "axis", x1: left, x2: width, y1: y(value), y2: y(value) }, svg);
    element("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, svg, number(value));
  }
  const better = study.higher_is_better ? Math.max : Math.min;
  let top = null, path = "";
  scored.forEach((trial, place) => {
    if (trial.value === null) return;
    const next = top === null ? trial.value : better(top, trial.value);
    path += top === null ? `M${x(place)},${y(next)}` : `H${x(place)}V${y(next)}`;
    top = next;
  });
  if (path) element("path", { class: "step", d: `${path}H${width - 8}` }, svg);
  scored.forEach((trial, place) => {
    const dot = element("circle", { class: classOf("dot", trial), cx: x(place), cy: y(shown(trial)), r: 4 }, svg);
    dot.dataset.trial = trial.trial;
    element("title", {}, dot, `trial ${trial.trial}: ${number(shown(trial))}`);
  });
  element("text", { x: left + 6, y: height - 8 }, svg, `trial ${scored[0].trial}`);
  element("text", { x: width - 8, y: height - 8, "text-anchor": "end" }, svg, `trial ${scored.at(-1).trial}`);
}

function importance() {
  const shares = Object.entries(study.importance.shares).sort((a, b) => b[1] - a[1]);
  const row = 24, left = 260, width = 900;
  const svg = canvas("importance", width, row * shares.length + 4);
  shares.forEach(([key, share], place) => {
    const y = place * row + 4;
    element("text", { class: "name", x: left - 8, y: y + 13, "text-anchor": "end" }, svg, key);
    element("rect", { class: "bar", x: left, y, width: Math.max(1, share * (width - left - 60)), height: row - 8 }, svg);
    element("text", { x: left + share * (width - left - 60) + 6, y: y + 13 }, svg, `${(100 * share).toFixed(1)}%`);
  });
}

// One axis: the position of a trial on it, and its labels. Values that are no number of the range get a place of their own below.
function axis(key, top, bottom) {
  const range = study.space[key], of = (trial) => (key in trial.settings ? trial.settings[key] : study.own[key]);
  if (range.choices) {
    const names = [...new Set([study.own[key], ...range.choices].map((value) => JSON.stringify(value)))];
    const step = (bottom - top) / Math.max(1, names.length - 1);
    const place = (trial) => bottom - step * names.indexOf(JSON.stringify(of(trial)));
    return { place, labels: names.map((name, number) => [name, bottom - step * number]) };
  }
  const ends = range.log || range.linear || range.int, at = scale(ends, bottom - 26, top, { log: Boolean(range.log) });
  const outside = (value) => typeof value !== "number" || value < ends[0] || value > ends[1];
  const place = (trial) => (outside(of(trial)) ? bottom : at(of(trial)));
  const labels = ends.map((end) => [number(end), at(end)]);
  if (outside(study.own[key])) labels.push([JSON.stringify(study.own[key]), bottom]);
  return { place, labels };
}

function parallel() {
  const gap = 150, left = 30, top = 44, bottom = 300;
  const svg = canvas("parallel", left + gap * keys.length + 130, bottom + 16);
  const y = scale(scored.map(shown), bottom, top);
  const axes = keys.map((key) => ({ name: key, ...axis(key, top, bottom) }));
  axes.push({ name: study.metric, place: (trial) => y(shown(trial)), labels: y.ends.map((end) => [number(end), y(end)]) });
  axes.forEach(({ name, labels }, place) => {
    const x = left + gap * place;
    element("line", { class: "axis", x1: x, x2: x, y1: top, y2: bottom }, svg);
    element("text", { class: "name", x: x - 4, y: place % 2 ? 14 : 30 }, svg, name);
    for (const [text, at] of labels) element("text", { x: x + 5, y: at + 4 }, svg, text);
  });
  const order = [...scored].sort((a, b) => (a.trial === best) - (b.trial === best)); // the best on top
  for (const trial of order) {
    const points = axes.map(({ place }, number) => `${left + gap * number},${place(trial).toFixed(1)}`);
    const track = element("polyline", { class: classOf("track", trial), points: points.join(" ") }, svg);
    track.dataset.trial = trial.trial;
    element("title", {}, track, `trial ${trial.trial}: ${number(shown(trial))}`);
  }
}

function mark(event) {
  const over = event.target.closest("[data-trial]");
  for (const node of document.querySelectorAll(".marked")) node.classList.remove("marked");
  if (!over) return;
  for (const node of document.querySelectorAll("[data-trial]")) {
    if (node.dataset.trial === over.dataset.trial) node.classList.add("marked");
  }
}

if (scored.length) { history(); parallel(); }
if (study.importance) importance();
document.addEventListener("mouseover", mark);
document.body.dataset.drawMs = (performance.now() - began).toFixed(1);
