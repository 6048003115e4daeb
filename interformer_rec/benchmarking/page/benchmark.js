// Draws the benchmark whose numbers are in #data: a plot for each number, a curve for each model, candidates and ranks. Text goes in as text.
const began = performance.now();
const benchmark = JSON.parse(document.getElementById("data").textContent);
const measured = benchmark.cases.filter((one) => one.step_ms !== undefined);
const shown = measured.length ? benchmark.cases : [];
const COLOURS = 7, WIDTH = 520, HEIGHT = 280, LEFT = 62, RIGHT = 14, TOP = 12, BOTTOM = 40;

function lineOf(one) {
  const parts = [one.kind];
  if (one.candidates !== null) parts.push(`${one.candidates} candidates`);
  if (benchmark.cases.some((other) => other.ranks !== one.ranks)) parts.push(`${one.ranks} ranks`);
  return parts.join(", ");
}

const lines = [...new Set(shown.map(lineOf))];

const PLOTS = [
  { title: "samples a second", of: (one) => one.samples_per_second, low: "samples_per_second_low", high: "samples_per_second_high",
    said: (one) => one.predicted.samples_per_second, log: true, text: short },
  { title: "events a second", of: (one) => one.events_per_second, log: true, text: short },
  { title: "MFU on real events", of: (one) => one.mfu, text: (value) => `${(100 * value).toPrecision(2)}%` },
  { title: "peak memory of a rank", of: (one) => one.peak_bytes, said: (one) => one.predicted.peak_bytes, log: true, text: bytes },
  { title: "waiting for data", of: (one) => one.wait_share, text: (value) => `${(100 * value).toPrecision(2)}%` },
  { title: "bytes to other ranks, a step", of: (one) => one.sent_bytes || null, said: (one) => one.predicted.sent_bytes || null,
    log: true, text: bytes },
  { title: "price of a million samples", of: (one) => one.price_per_million_samples,
    said: (one) => one.predicted.price_per_million_samples, log: true, text: short },
];

function short(value) {
  for (const [unit, size] of [["M", 1e6], ["k", 1e3]]) if (value >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
  return String(Number(value.toPrecision(3)));
}

const usable = (value) => typeof value === "number" && Number.isFinite(value) && value >= 0;

function plot(what) {
  const points = [];
  for (const one of shown) {
    if (usable(what.of(one))) points.push({ one, value: what.of(one), kind: "curve" });
    if (what.said && usable(what.said(one))) points.push({ one, value: what.said(one), kind: "curve predicted" });
  }
  const drawn = what.log ? points.filter((point) => point.value > 0) : points;
  if (!drawn.some((point) => point.kind === "curve" || what.title.startsWith("price"))) return;
  const figure = document.createElement("figure"), title = document.createElement("h3");
  title.textContent = what.title;
  figure.append(title);
  document.getElementById("plots").append(figure);
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, figure);
  const ends = drawn.map((point) => point.value);
  if (what.low) for (const { one } of drawn) if (one[what.low] > 0) ends.push(one[what.low], one[what.high]);
  const x = scale(drawn.map(({ one }) => one.longest), LEFT + 8, WIDTH - RIGHT - 8, { log: true });
  const y = scale(ends, HEIGHT - BOTTOM, TOP, { log: what.log, origin: true });
  axes(svg, x, y, what.text, [...new Set(drawn.map(({ one }) => one.longest))]);
  lines.forEach((name, number) => {
    for (const kind of ["curve predicted", "curve"]) {
      const line = drawn.filter((point) => point.kind === kind && lineOf(point.one) === name).sort((a, b) => a.one.longest - b.one.longest);
      draw(svg, line, kind, `l${number % COLOURS}`, x, y, what);
    }
  });
}

function axes(svg, x, y, text, lengths) {
  for (const value of y.ticks) {
    element("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }, svg);
    element("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, svg, text(value));
  }
  for (const length of lengths) {
    element("text", { x: x(length), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, svg, short(length));
  }
  element("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, svg, "longest history, events");
}

function draw(svg, line, kind, colour, x, y, what) {
  if (!line.length) return;
  const path = line.map(({ one, value }, place) => `${place ? "L" : "M"}${x(one.longest).toFixed(1)},${y(value).toFixed(1)}`);
  element("path", { class: `${kind} ${colour}`, d: path.join("") }, svg);
  if (kind !== "curve") return;
  for (const { one, value } of line) {
    const at = x(one.longest);
    if (what.low && one[what.high] > one[what.low]) {
      element("line", { class: `spread ${colour}`, x1: at, x2: at, y1: y(one[what.low]), y2: y(one[what.high]) }, svg);
    }
    const dot = element("circle", { class: colour, cx: at, cy: y(value), r: 3.5 }, svg);
    element("title", {}, dot, `${lineOf(one)}, ${one.longest} events: ${what.text(value)}`);
  }
}

lines.forEach((name, number) => {
  const item = document.createElement("li"), key = document.createElement("span");
  key.className = `key l${number % COLOURS}`;
  item.append(key, name);
  document.getElementById("legend").append(item);
});
for (const what of PLOTS) plot(what);
document.body.dataset.drawMs = (performance.now() - began).toFixed(1);
