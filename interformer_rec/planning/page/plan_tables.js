// The list of tables and, in the same order, which shard lies where.
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
  return row(COLUMNS.map(([, , format], i) => i ? cell(format(t), WORDS.has(i) ? "text" : "") : make("th", {className: "text", scope: "row"}, button)));
}
function why(t) {
  const shards = t[SHARDS].slice(0, 8).map(([a, b, rows, columns]) =>
    `${a === b ? `rank ${a}` : `each of ranks ${a}–${b}`}: ${count(rows)} rows × ${columns} of ${t[DIM]} columns, ${bytes(rows * columns * t[NUMBER])} of weights`);
  if (t[SHARDS].length > 8) shards.push(`${t[SHARDS].length - 8} more groups of shards`);
  const box = make("div", {className: "why"}, make("p", {}, `${shards.join("; ")}.`));
  if (t[KEPT]) box.append(make("p", {}, `Constraints keep it on ${t[KEPT]}.`));
  if (t[HOST]) box.append(make("p", {}, `${bytes(t[HOST])} of it in host memory.`));
  if (t[REJECTED].length) box.append(make("table", {}, make("caption", {}, `What ${t[NAME]} did not get`), heads(["sharding", "kernel", "because"], 3),
    make("tbody", {}, ...t[REJECTED].map(([sharding, kernel, reason]) => row([rowHead(sharding), cell(kernel, "text"), cell(reason, "text wrap")])))));
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
