// What the page is drawn with: numbers with their units, elements, canvases. Names only ever go in as text, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const [NAME, ROWS, DIM, NUMBER, IDS, SHARDING, KERNEL, DEVICE, HOST, MS, SHARDS, REJECTED, KEPT] = Array(13).keys();
const PAGE = 50;
const byId = id => document.getElementById(id);
const sum = values => values.reduce((a, b) => a + b, 0);
const most = values => values.reduce((a, b) => Math.max(a, b), -Infinity);
const least = values => values.reduce((a, b) => Math.min(a, b), Infinity);
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Numbers and places as text
const money = n => n == null ? "–" : n.toLocaleString("en-US", {minimumFractionDigits: 2, maximumFractionDigits: 2});
const percent = part => `${Math.round(part * 100)}%`;
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
const rowHead = (...content) => make("th", {className: "text wrap", scope: "row"}, ...content);
const swatch = color => { const node = make("span", {className: "swatch"}); node.style.background = color; return node; };
const legend = (list, entries) => list.replaceChildren(...entries.map(([color, text]) => make("li", {}, swatch(color), text)));
const row = cells => make("tr", {}, ...cells);
const heads = (names, words = 1) => make("thead", {}, row(names.map((name, i) => make("th", {className: i < words || name === "most of the step" ? "text" : "", scope: "col"}, name))));
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
