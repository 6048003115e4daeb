// The numbers of page.py become bars, canvases and lists. Names only ever go in as text, never as HTML.
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const [NAME, ROWS, DIM, NUMBER, IDS, SHARDING, KERNEL, DEVICE, HOST, MS, SHARDS, REJECTED] = Array(12).keys();
const PAGE = 50;
const byId = id => document.getElementById(id);
const sum = values => values.reduce((a, b) => a + b, 0);
const most = values => values.reduce((a, b) => Math.max(a, b), -Infinity);
const least = values => values.reduce((a, b) => Math.min(a, b), Infinity);
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Numbers with their units
const count = n => n == null ? "–" : n.toLocaleString("en-US", {maximumFractionDigits: n >= 100 || n === Math.round(n) ? 0 : 2});
const money = n => n == null ? "–" : n.toLocaleString("en-US", {minimumFractionDigits: 2, maximumFractionDigits: 2});
const percent = part => part > 0 && part < 0.01 ? "<1%" : `${Math.round(part * 100)}%`;
function ms(n) {
  if (n == null) return "–";
  return `${n >= 100 ? count(Math.round(n)) : n >= 10 ? n.toFixed(1) : n >= 1 ? n.toFixed(2) : Number(n.toPrecision(3)).toString()} ms`;
}
function bytes(n) {
  if (n == null) return "–";
  let unit = 0;
  for (; n >= 1024 && unit < 4; unit++) n /= 1024;
  return `${unit ? n.toFixed(n < 10 ? 2 : 1) : count(n)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}
const place = rank => `rank ${rank} (node ${Math.floor(rank / data.local)}, device ${rank % data.local})`;
function ranksText(shards) {
  const runs = [];
  for (const [first, last] of shards) {
    const end = runs[runs.length - 1];
    if (end && first <= end[1] + 1) end[1] = Math.max(end[1], last);
    else runs.push([first, last]);
  }
  const shown = runs.slice(0, 4).map(([a, b]) => a === b ? `${a}` : `${a}–${b}`).join(", ");
  return runs.length > 4 ? `${shown}, … (${sum(runs.map(([a, b]) => b - a + 1))})` : shown;
}

// Elements
function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) key in node ? node[key] = value : node.setAttribute(key, value);
  node.append(...children);
  return node;
}
const cell = (text, className = "") => make("td", {className}, text);
const swatch = color => { const node = make("span", {className: "swatch"}); node.style.background = color; return node; };
const legend = (list, entries) => list.replaceChildren(...entries.map(([color, text]) => make("li", {}, swatch(color), text)));
const row = cells => make("tr", {}, ...cells);
const heads = names => make("thead", {}, row(names.map((name, i) => make("th", {className: i && name !== "most of the step" ? "" : "text", scope: "col"}, name))));
// Colours of stacked items: hues evenly apart, light and dark in turn so that neighbours differ
const itemColor = (i, n) => `hsl(${Math.round(215 + 360 * i / n) % 360} 58% var(--bar${i % 2}))`;
function bar(label, values, colors, names, format, scale) {
  const box = make("div");
  values.forEach((value, i) => {
    const part = make("i", {title: `${names[i]}: ${format(value)}`});
    part.style.width = `${100 * value / scale}%`;
    part.style.background = colors[i];
    if (value > 0) box.append(part);
  });
  return make("div", {className: "bar"}, make("span", {}, label), box);
}

// Canvas, sharp on any screen
function brush(canvas, height, background) {
  const ratio = window.devicePixelRatio || 1, width = canvas.parentElement.clientWidth;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  ctx.font = "11px system-ui, sans-serif";
  ctx.fillStyle = background || css("--page");
  ctx.fillRect(0, 0, width, height);
  return [ctx, width];
}
function ramp() {
  const parse = name => css(name).match(/\w\w/g).map(part => parseInt(part, 16));
  const stops = [parse("--low"), parse("--middle"), parse("--high")];
  return part => {
    const at = Math.min(Math.max(part, 0), 1) * 2, i = Math.min(Math.floor(at), 1);
    return `rgb(${stops[i].map((low, c) => Math.round(low + (stops[i + 1][c] - low) * (at - i))).join()})`;
  };
}

const perRank = value => Array.isArray(value) ? value : Array(data.ranks).fill(value);
const fullest = data.peak.indexOf(most(data.peak));
const tableTime = data.lookup.map((value, i) => value + data.update[i]);
let chosen = null; // the rank somebody clicked

// Heat maps: one cell a rank, nodes along the longer side
function heatMap(kind, items, format) {
  const canvas = byId(`${kind}-map`), select = byId(`${kind}-item`), told = byId(`${kind}-at`);
  const names = Object.keys(items), across = data.nodes > data.local;
  const columns = across ? data.nodes : data.local, lines = across ? data.local : data.nodes;
  const rankAt = (x, y) => across ? x * data.local + y : y * data.local + x;
  let at = fullest, wide = 1, tall = 1;
  const left = across ? 54 : 46, top = 18;
  select.append(...names.map(name => make("option", {value: name}, name)));
  const values = () => perRank(items[select.value]);
  function draw() {
    const ofRanks = values(), color = ramp(), middle = (most(ofRanks) + least(ofRanks)) / 2;
    const half = Math.max((most(ofRanks) - least(ofRanks)) / 2, 0.05 * middle); // ranks that are alike have to look alike
    const low = middle - half, high = middle + half;
    const width = canvas.parentElement.clientWidth;
    wide = Math.min(48, (width - left) / columns);
    tall = Math.max(14, Math.min(28, wide));
    const [ctx] = brush(canvas, top + tall * lines + 2);
    const gap = wide >= 5 ? 1 : 0;
    for (let x = 0; x < columns; x++) for (let y = 0; y < lines; y++) {
      const rank = rankAt(x, y);
      ctx.fillStyle = color(high > low ? (ofRanks[rank] - low) / (high - low) : 0);
      ctx.fillRect(left + x * wide, top + y * tall, wide - gap, tall - 1);
    }
    for (const [rank, width] of [[chosen, 3], [at, 1.5]]) if (rank !== null) {
      const x = across ? Math.floor(rank / data.local) : rank % data.local, y = across ? rank % data.local : Math.floor(rank / data.local);
      ctx.strokeStyle = css(rank === chosen ? "--mark" : "--ink");
      ctx.lineWidth = width;
      ctx.strokeRect(left + x * wide - 1, top + y * tall - 1, Math.max(wide - gap, 3) + 1, tall + 1);
    }
    ctx.fillStyle = css("--soft");
    const every = 2 ** Math.max(0, Math.ceil(Math.log2(26 / wide)));
    ctx.textAlign = "left";
    for (let x = 0; x < columns; x += every) ctx.fillText(`${x}`, left + x * wide, 12);
    ctx.fillText(across ? "node" : "device", 0, 12);
    for (let y = 0; y < lines; y++) ctx.fillText(across ? `device ${y}` : `node ${y}`, 0, top + y * tall + tall / 2 + 3);
    byId(`${kind}-scale`).replaceChildren(make("span", {}, format(low)), make("i"), make("span", {}, format(high)));
    canvas.setAttribute("aria-label", `${select.value} of ${data.ranks} ranks, from ${format(least(ofRanks))} to ${format(most(ofRanks))}`);
    told.textContent = `${place(at)}: ${format(ofRanks[at])}; mean ${format(sum(ofRanks) / data.ranks)}, least ${format(least(ofRanks))}, most ${format(most(ofRanks))}`;
  }
  function move(rank) { if (rank >= 0 && rank < data.ranks && rank !== at) { at = rank; draw(); } }
  const under = event => {
    const x = Math.floor((event.offsetX - left) / wide), y = Math.floor((event.offsetY - top) / tall);
    return x >= 0 && x < columns && y >= 0 && y < lines ? rankAt(x, y) : -1;
  };
  canvas.addEventListener("mousemove", event => move(under(event)));
  canvas.addEventListener("click", event => { const rank = under(event); if (rank >= 0) { move(rank); choose(rank); } });
  canvas.addEventListener("keydown", event => {
    const right = across ? data.local : 1, down = across ? 1 : data.local;
    const step = {ArrowRight: right, ArrowLeft: -right, ArrowDown: down, ArrowUp: -down}[event.key];
    if (step) move(at + step);
    else if (event.key === "Enter" || event.key === " ") choose(at);
    else return;
    event.preventDefault();
  });
  select.addEventListener("change", draw);
  return draw;
}

function choose(rank) {
  chosen = rank;
  byId("by-rank").value = rank === null ? "" : rank;
  drawMaps.forEach(draw => draw());
  memory();
  list();
}

function tiles() {
  const gap = data.search.bound_ms > 0 ? data.search.slowest_rank_ms / data.search.bound_ms - 1 : 0;
  const entries = [
    ["a step", ms(data.total_ms)], ["samples/s", count(Math.round(data.samples_per_second))], ["ranks", count(data.ranks)],
    ["tables", count(data.tables.length)], ["fullest rank", bytes(data.peak[fullest])], ["slowest rank's tables", ms(most(tableTime))],
  ];
  byId("tiles").append(...entries.map(([name, value]) => make("div", {className: "tile"}, make("span", {className: "soft"}, name), make("b", {}, value))));
  byId("about").textContent = `${count(data.batch)} rows a rank, ${data.device}. Most of a step is ${data.bottleneck}. By TorchRec's estimate the slowest rank takes ` +
    `${ms(data.search.slowest_rank_ms)} for its tables: ${gap < 1e-6 ? "proven best" : `within ${gap < 0.001 ? "0.1" : (100 * gap).toFixed(1)}% of a bound that no plan can beat`}.`;
}

function memory() {
  const names = Object.keys(data.memory), items = names.map(name => perRank(data.memory[name]));
  const colors = names.map((_, i) => itemColor(i, names.length)), peak = data.peak[fullest];
  const extra = chosen !== null && chosen !== fullest;
  const shown = [[`rank ${fullest}, fullest`, of => of[fullest]], ["mean", of => sum(of) / data.ranks], ["least", least]];
  if (extra) shown.splice(1, 0, [`rank ${chosen}`, of => of[chosen]]);
  const moment = data.moment === "exchange" ? "the exchange of vectors" : "the start of the dense backward pass";
  byId("memory-about").textContent = `${bytes(peak)} of the ${bytes(data.usable)} to use (${percent(peak / data.usable)}) on the fullest rank, at ${moment}. ` +
    `A device has ${bytes(data.capacity)}; the rest is kept free.`;
  byId("memory-bars").replaceChildren(...shown.filter(([name]) => name !== "least")
    .map(([name, pick]) => bar(name, items.map(pick), colors, names, bytes, peak)));
  const rows = names.map((name, i) => row([make("td", {className: "text wrap"}, swatch(colors[i]), name), ...shown.map(([, pick]) => cell(bytes(pick(items[i]))))]));
  if (data.host) rows.push(row([cell("host memory", "text"), ...shown.map(([, pick]) => cell(bytes(pick(data.host))))]));
  byId("memory-items").replaceChildren(heads(["item", ...shown.map(([name]) => name)]), make("tbody", {}, ...rows));
}

function step() {
  const names = Object.keys(data.step), values = Object.values(data.step), colors = names.map((_, i) => itemColor(i, names.length));
  byId("step-about").textContent = `${ms(data.total_ms)}, one after the other; lookup and update are those of the slowest rank.`;
  byId("step-bars").append(bar("a step", values, colors, names, ms, data.total_ms));
  byId("step-items").append(heads(["item", "time", "share"]), make("tbody", {}, ...names.map((name, i) =>
    row([make("td", {className: "text wrap"}, swatch(colors[i]), name), cell(ms(values[i])), cell(percent(values[i] / data.total_ms))]))));
  const help = Object.entries(data.help).sort((a, b) => a[1] - b[1]);
  byId("help").append(...help.map(([what, time]) => make("li", {}, `${what}: ${ms(time)} a step (${percent(1 - time / data.total_ms)} less)`)));
  if (!help.length) byId("help").append(make("li", {}, "nothing that was tried saves 1% of a step"));
}

// Tables: filter, sort, show a page of them; the layout canvas shows all that were found, in the same order
const COLUMNS = [
  ["table", t => t[NAME], t => t[NAME]], ["rows", t => t[ROWS], t => count(t[ROWS])], ["dim", t => t[DIM], t => count(t[DIM])],
  ["ids a row", t => t[IDS], t => count(t[IDS])], ["sharding", t => t[SHARDING], t => t[SHARDING]], ["kernel", t => t[KERNEL], t => t[KERNEL]],
  ["ranks", t => t.ranks, t => ranksText(t[SHARDS])], ["memory", t => t[DEVICE] + t[HOST], t => bytes(t[DEVICE] + t[HOST])],
  ["time over ranks", t => t[MS], t => ms(t[MS])],
];
const WORDS = new Set([0, 4, 5]);
const TYPES = [...new Set(data.tables.map(t => t[SHARDING]))].sort();
for (const t of data.tables) t.ranks = sum(t[SHARDS].map(([first, last]) => last - first + 1));
const typeColor = type => css(`--s${TYPES.indexOf(type) % 7 + 1}`);
const open = new Set();
let sorted = 8, down = true, first = 0, found = [], pointed = null;

function list() {
  const text = byId("by-name").value.toLowerCase(), number = id => byId(id).value === "" ? null : Number(byId(id).value);
  const sharding = byId("by-sharding").value, kernel = byId("by-kernel").value;
  const time = number("by-ms"), mib = number("by-mib"), rank = number("by-rank"), key = COLUMNS[sorted][1];
  found = data.tables.filter(t => t[NAME].toLowerCase().includes(text) && (!sharding || t[SHARDING] === sharding) && (!kernel || t[KERNEL] === kernel) &&
    (time === null || t[MS] >= time) && (mib === null || (t[DEVICE] + t[HOST]) / 2 ** 20 >= mib) &&
    (rank === null || t[SHARDS].some(([a, b]) => a <= rank && rank <= b)));
  const way = down ? -1 : 1;
  found.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    return x < y ? -way : x > y ? way : a[NAME] < b[NAME] ? -1 : 1;
  });
  first = 0;
  pointed = null;
  byId("layout-at").textContent = found.length ? "Each line is a table, in the order of the list; move over it, or use the arrow keys." : "";
  page();
  layout();
}
function page() {
  const last = Math.min(first + PAGE, found.length);
  byId("found").textContent = found.length ? `${count(first + 1)}–${count(last)} of ${count(found.length)} tables` : "no table is like that";
  byId("back").disabled = first === 0;
  byId("next").disabled = last >= found.length;
  byId("tables").tBodies[0].replaceChildren(...found.slice(first, last).flatMap(t => open.has(t) ? [entry(t), why(t)] : [entry(t)]));
  [...byId("tables").tHead.rows[0].cells].forEach((head, i) => {
    head.setAttribute("aria-sort", i !== sorted ? "none" : down ? "descending" : "ascending");
    head.firstChild.textContent = COLUMNS[i][0] + (i !== sorted ? "" : down ? " ▼" : " ▲");
  });
}
function entry(t) {
  const button = make("button", {type: "button", title: "why it lies so", "aria-expanded": String(open.has(t))}, `${open.has(t) ? "▾" : "▸"} ${t[NAME]}`);
  button.addEventListener("click", () => {
    if (!open.delete(t)) open.add(t);
    page();
    [...byId("tables").querySelectorAll("button[aria-expanded]")].find(other => other.textContent.slice(2) === t[NAME]).focus();
  });
  return row(COLUMNS.map(([, , format], i) => i ? cell(format(t), WORDS.has(i) ? "text" : "") : make("td", {className: "text"}, button)));
}
function why(t) {
  const shards = t[SHARDS].slice(0, 8).map(([a, b, rows, columns]) =>
    `${a === b ? `rank ${a}` : `each of ranks ${a}–${b}`}: ${count(rows)} rows × ${columns} of ${t[DIM]} columns, ${bytes(rows * columns * t[NUMBER])} of weights`);
  if (t[SHARDS].length > 8) shards.push(`${t[SHARDS].length - 8} more groups of shards`);
  const box = make("div", {className: "why"}, make("p", {}, `${shards.join("; ")}.`));
  if (t[HOST]) box.append(make("p", {}, `${bytes(t[HOST])} of it in host memory.`));
  if (t[REJECTED].length) box.append(make("table", {}, make("thead", {}, row([make("th", {className: "text", scope: "col"}, "not taken"), make("th"), make("th", {className: "text", scope: "col"}, "because")])),
    make("tbody", {}, ...t[REJECTED].map(([sharding, kernel, reason]) => row([cell(sharding, "text"), cell(kernel, "text"), cell(reason, "text wrap")])))));
  else box.append(make("p", {}, "What it did not get was worked out for the costliest tables only; ask with --why and its name."));
  return row([make("td", {colSpan: COLUMNS.length, className: "text"}, box)]);
}

// Which shard lies where: a line a table, a column a rank
const side = () => lineHeight() >= 11 ? 150 : 0, lineHeight = () => found.length <= 60 ? 13 : found.length <= 250 ? 4 : found.length <= 600 ? 2 : 1;
function layout() {
  const canvas = byId("layout"), tall = lineHeight(), left = side(), top = 16;
  const [ctx, width] = brush(canvas, top + Math.max(found.length, 1) * tall + 2), wide = (width - left - 1) / data.ranks;
  ctx.fillStyle = css("--panel");
  ctx.fillRect(left, top, width - left, found.length * tall);
  ctx.fillStyle = css("--soft");
  const every = 2 ** Math.max(0, Math.ceil(Math.log2(40 / wide)));
  for (let rank = 0; rank < data.ranks; rank += every) ctx.fillText(rank ? `${rank}` : "rank 0", left + rank * wide, 11);
  const colors = Object.fromEntries(TYPES.map(type => [type, typeColor(type)])), gap = tall > 3 ? 1 : 0;
  found.forEach((t, i) => {
    ctx.fillStyle = colors[t[SHARDING]];
    for (const [a, b] of t[SHARDS]) ctx.fillRect(left + a * wide, top + i * tall, Math.max((b - a + 1) * wide, 2), tall - gap);
    if (left) {
      ctx.fillStyle = css("--ink");
      let name = t[NAME];
      while (name.length > 4 && ctx.measureText(name).width > left - 8) name = `${name.slice(0, -2)}…`.replace("……", "…");
      ctx.fillText(name, 0, top + i * tall + 10);
    }
  });
  ctx.strokeStyle = css("--page");
  ctx.lineWidth = 0.5;
  if (wide * data.local >= 6) for (let rank = 0; rank <= data.ranks; rank += data.local) {
    ctx.beginPath();
    ctx.moveTo(left + rank * wide, top);
    ctx.lineTo(left + rank * wide, top + found.length * tall);
    ctx.stroke();
  }
  if (pointed) {
    ctx.strokeStyle = css("--ink");
    ctx.lineWidth = 1.5;
    ctx.strokeRect(left + pointed[1] * wide - 1, top + pointed[0] * tall - 1, Math.max(wide, 2) + 2, tall + 2);
  }
  canvas.setAttribute("aria-label", `${found.length} tables on ${data.ranks} ranks`);
}
function point(line, rank) {
  if (line < 0 || line >= found.length || rank < 0 || rank >= data.ranks) return;
  if (pointed && pointed[0] === line && pointed[1] === rank) return;
  pointed = [line, rank];
  const t = found[line], here = t[SHARDS].filter(([a, b]) => a <= rank && rank <= b);
  byId("layout-at").textContent = `${t[NAME]}, ${t[SHARDING]}, on ${place(rank)}: ` +
    (here.map(([, , rows, columns]) => `${count(rows)} rows × ${columns} columns, ${bytes(rows * columns * t[NUMBER])}`).join(" and ") || "nothing");
  layout();
}
function layoutEvents() {
  const canvas = byId("layout");
  canvas.addEventListener("mousemove", event => {
    const wide = (canvas.clientWidth - side() - 1) / data.ranks;
    point(Math.floor((event.offsetY - 16) / lineHeight()), Math.floor((event.offsetX - side()) / wide));
  });
  canvas.addEventListener("keydown", event => {
    const move = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0]}[event.key];
    if (!move) return;
    event.preventDefault();
    const [line, rank] = pointed || [0, -move[1]];
    point(pointed ? line + move[0] : 0, rank + move[1]);
  });
}
function tables() {
  const options = (id, all, values) => byId(id).append(make("option", {value: ""}, all), ...values.map(value => make("option", {value}, value)));
  options("by-sharding", "any", TYPES);
  options("by-kernel", "any", [...new Set(data.tables.map(t => t[KERNEL]))].sort());
  byId("by-rank").max = data.ranks - 1;
  byId("tables").tHead.append(row(COLUMNS.map(([name], i) => {
    const button = make("button", {type: "button"}, name);
    button.addEventListener("click", () => {
      down = i === sorted ? !down : !WORDS.has(i);
      sorted = i;
      list();
    });
    return make("th", {scope: "col", className: WORDS.has(i) ? "text" : ""}, button);
  })));
  const rankChanged = () => choose(byId("by-rank").value === "" ? null : Math.min(Math.max(0, Math.round(Number(byId("by-rank").value))), data.ranks - 1));
  byId("filters").addEventListener("input", event => event.target.id === "by-rank" ? rankChanged() : list());
  byId("filters").addEventListener("submit", event => event.preventDefault());
  byId("filters").addEventListener("reset", () => setTimeout(() => choose(null)));
  byId("back").addEventListener("click", () => { first = Math.max(0, first - PAGE); page(); });
  byId("next").addEventListener("click", () => { first += PAGE; page(); });
  layoutEvents();
}
function layoutLegend() {
  legend(byId("layout-legend"), TYPES.map(type => {
    const those = data.tables.filter(t => t[SHARDING] === type);
    return [typeColor(type), `${type}: ${count(those.length)} (${bytes(sum(those.map(t => t[DEVICE] + t[HOST])))})`];
  }));
}

// What if: curves over nodes, or over the batch where only that was varied; a cross where the tables do not fit
function draw(tag, props, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(props)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
function curves(title, series, xs, value, format) {
  const [width, height, left, bottom, top] = [380, 220, 62, 34, 10];
  const high = most(series.flatMap(one => one.jobs.map(value)).filter(v => v != null).concat(0)) || 1;
  const x = job => left + (width - left - 16) * (xs.length < 2 ? 0.5 : xs.indexOf(series.x(job)) / (xs.length - 1));
  const y = v => height - bottom - (height - bottom - top) * v / high;
  const svg = draw("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}; the numbers are in the table below`});
  for (const part of [0, 0.5, 1]) {
    svg.append(draw("line", {x1: left, x2: width, y1: y(high * part), y2: y(high * part), stroke: "var(--line)"}));
    svg.append(draw("text", {x: left - 6, y: y(high * part) + 4, "text-anchor": "end"}, format(high * part)));
  }
  for (const at of xs) svg.append(draw("text", {x: x({nodes: at, batch_size: at}), y: height - 16, "text-anchor": "middle"}, count(at)));
  svg.append(draw("text", {x: (left + width) / 2, y: height - 2, "text-anchor": "middle"}, series.axis));
  for (const {jobs, color, name} of series) {
    const there = jobs.filter(job => value(job) != null);
    if (there.length > 1) svg.append(draw("polyline", {points: there.map(job => `${x(job)},${y(value(job))}`).join(" "), fill: "none", style: `stroke:${color};stroke-width:2`}));
    for (const job of jobs) {
      const v = value(job), told = draw("title", {}, `${name}, ${count(series.x(job))}: ${v == null ? "does not fit" : format(v)}`);
      svg.append(v == null ? draw("text", {x: x(job), y: height - bottom - 2, "text-anchor": "middle", style: `fill:${color}`}, told, "×")
        : draw("circle", {cx: x(job), cy: y(v), r: 3.5, style: `fill:${color}`}, told));
    }
  }
  return make("figure", {}, make("h3", {}, title), svg);
}
function sweep() {
  if (!data.sweep.length) return;
  byId("sweep").hidden = false;
  const values = key => [...new Set(data.sweep.map(job => job[key]))].sort((a, b) => a - b);
  const overBatch = values("nodes").length === 1 && values("batch_size").length > 1, xs = values(overBatch ? "batch_size" : "nodes");
  const groups = new Map();
  for (const job of data.sweep) {
    const name = overBatch ? job.cluster : `${job.cluster}, ${count(job.batch_size)} rows a rank`;
    groups.set(name, [...(groups.get(name) || []), job]);
  }
  const series = [...groups].map(([name, jobs], i) => ({name, color: `var(--s${i % 7 + 1})`, jobs: jobs.sort((a, b) => (overBatch ? a.batch_size - b.batch_size : a.nodes - b.nodes))}));
  series.x = job => overBatch ? job.batch_size : job.nodes;
  series.axis = overBatch ? "rows a rank" : "nodes";
  const priced = data.sweep.every(job => job.step_ms == null || job.price_per_billion_samples != null);
  const hours = job => job.samples_per_second ? job.ranks / job.samples_per_second * 1e9 / 3600 : null;
  const short = v => v >= 1e6 ? `${(v / 1e6).toFixed(v < 1e7 ? 1 : 0)} M` : v >= 1e4 ? `${Math.round(v / 1e3)} k` : count(v);
  legend(byId("sweep-legend"), series.map(({color, name}) => [color, name]));
  byId("sweep-plots").append(
    curves("Samples/s", series, xs, job => job.samples_per_second, short),
    curves("Memory of the fullest rank", series, xs, job => job.peak_gib, v => v ? `${v.toFixed(v < 10 ? 2 : 1)} GiB` : "0"),
    priced ? curves("Price of 10⁹ samples", series, xs, job => job.price_per_billion_samples, short) : curves("Device hours for 10⁹ samples", series, xs, hours, short));
  byId("sweep-rows").append(heads(["cluster", "nodes", "ranks", "rows a rank", "a step", "samples/s", "fullest rank", ...(priced ? ["price an hour", "price of 10⁹ samples"] : ["device hours for 10⁹ samples"]), "most of the step"]),
    make("tbody", {}, ...data.sweep.map(job => row([cell(job.cluster, "text"), cell(count(job.nodes)), cell(count(job.ranks)), cell(count(job.batch_size)), cell(ms(job.step_ms)),
      cell(job.samples_per_second == null ? "–" : count(Math.round(job.samples_per_second))), cell(job.peak_gib == null ? "–" : `${job.peak_gib.toFixed(2)} GiB`),
      ...(priced ? [cell(money(job.price_per_hour)), cell(money(job.price_per_billion_samples))] : [cell(count(hours(job)))]),
      cell(job.step_ms == null ? "does not fit" : job.bottleneck, "text wrap")]))));
}

function notes() {
  const a = data.assumptions;
  const entries = [
    `Assumed, not measured: ${percent(a.memory)} of memory bandwidth, ${percent(a.links)} of link bandwidth, ${percent(a.matmul)} of the matmul rate, ${a.launch_us} us to start an operator.`,
    "Times of tables are TorchRec's estimates with this cluster's bandwidths; time over ranks is their sum.",
    ...Object.entries(data.sources).map(([source, whats]) => `Sizes: ${whats.slice(0, 6).join(", ")}${whats.length > 6 ? ` and ${count(whats.length - 6)} more` : ""} (${source}).`),
  ];
  byId("notes").append(...entries.map(text => make("li", {}, text)));
}

tiles();
const memoryItems = {"all, at its peak": data.peak, ...data.memory, ...(data.host ? {"host memory": data.host} : {})};
const drawMaps = [heatMap("memory", memoryItems, bytes), heatMap("time", {"lookup and update": tableTime, lookup: data.lookup, update: data.update}, ms)];
const redraw = () => { drawMaps.forEach(draw => draw()); layoutLegend(); layout(); };
memory();
step();
tables();
sweep();
notes();
list();
redraw();
let width = window.innerWidth;
addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; redraw(); } });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
document.body.dataset.drawMs = Math.round(performance.now()); // since the page was asked for: what benchmarks and tests read
})();
