// Ranks, memory, a step, notes; then all of it is drawn. After all the others (page.py).
const perRank = value => Array.isArray(value) ? value : Array(data.ranks).fill(value);
const fullest = data.peak.indexOf(most(data.peak));
const tableTime = data.table_time;
let chosen = null; // the rank somebody clicked

// Heat maps: one cell a rank, nodes along the longer side
function heatMap(kind, items, format) {
  const canvas = byId(`${kind}-map`), select = byId(`${kind}-item`), caption = byId(`${kind}-at`);
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
    caption.textContent = `${place(at)}: ${format(ofRanks[at])}; mean ${format(sum(ofRanks) / data.ranks)}, least ${format(least(ofRanks))}, most ${format(most(ofRanks))}`;
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

// The clock: the texts are those of the screen (clock.py)
function tiles() {
  byId("tiles").append(...Object.entries(data.clock).map(([name, value]) => make("div", {className: "tile"}, make("dt", {className: "soft"}, name), make("dd", {}, value))));
  byId("about").textContent = `${count(data.ranks)} ranks, ${data.device}, ${count(data.batch)} rows a rank, ${count(data.tables.length)} tables. How sure: ${data.how_sure}.`;
}

function memory() {
  const names = Object.keys(data.memory), items = names.map(name => perRank(data.memory[name]));
  const colors = names.map((_, i) => itemColor(i, names.length)), peak = data.peak[fullest];
  const extra = chosen !== null && chosen !== fullest;
  const shown = [[`rank ${fullest}`, of => of[fullest]], ["mean", of => sum(of) / data.ranks], ["least", least]];
  if (extra) shown.splice(1, 0, [`rank ${chosen}`, of => of[chosen]]);
  const moment = data.moment === "exchange" ? "the exchange of vectors" : "the start of the dense backward pass";
  byId("memory-about").textContent = `Rank ${fullest} is the fullest: ${bytes(peak)} of the ${bytes(data.usable)} to use (${percent(peak / data.usable)}), at ${moment}. ` +
    `A device has ${bytes(data.capacity)}; the rest is kept free.${data.evaluation && ` ${data.evaluation}.`}`;
  byId("memory-bars").replaceChildren(...shown.filter(([name]) => name !== "least")
    .map(([name, pick]) => bar(name, items.map(pick), colors, names, bytes, peak)));
  const rows = names.map((name, i) => row([rowHead(swatch(colors[i]), name), ...shown.map(([, pick]) => cell(bytes(pick(items[i]))))]));
  if (data.host) rows.push(row([rowHead("host memory"), ...shown.map(([, pick]) => cell(bytes(pick(data.host))))]));
  byId("memory-items").replaceChildren(make("caption", {}, "Memory by item"), heads(["item", ...shown.map(([name]) => name)]), make("tbody", {}, ...rows));
}

function step() {
  const names = Object.keys(data.step), values = Object.values(data.step), colors = names.map((_, i) => itemColor(i, names.length));
  byId("step-about").textContent = `${ms(data.total_ms)}, one item after the other. Tables by rank: ${ms(least(tableTime))} to ${ms(most(tableTime))}, mean ${ms(sum(tableTime) / data.ranks)}.`;
  byId("step-bars").append(bar("a step", values, colors, names, ms, data.total_ms));
  byId("step-items").append(heads(["item", "time", "share"]), make("tbody", {}, ...names.map((name, i) =>
    row([rowHead(swatch(colors[i]), name), cell(ms(values[i])), cell(percent(values[i] / data.total_ms))]))));
  const help = Object.entries(data.help).sort((a, b) => a[1] - b[1]);
  byId("help").append(...help.map(([what, time]) => make("li", {}, `${what}: ${ms(time)} a step (${percent(1 - time / data.total_ms)} less)`)),
    make("li", {}, `other places of the tables: ${data.search.proof}; tables take ${ms(data.search.tables_ms)} of a step`),
    ...data.choice.map(text => make("li", {}, text)));
}

function notes() {
  const a = data.assumptions;
  const entries = [
    `${data.origin}: ${percent(a.memory)} of memory bandwidth, ${percent(a.links)} of link bandwidth, ${percent(a.matmul)} of the matmul rate, ${a.launch_us} us to start an operator.`,
    "Times of tables are lookup, exchange and update; time over ranks is their sum.",
    ...Object.entries(data.sources).map(([source, whats]) => `Sizes: ${whats.slice(0, 6).join(", ")}${whats.length > 6 ? ` and ${count(whats.length - 6)} more` : ""} (${source}).`),
  ];
  byId("notes").append(...entries.map(text => make("li", {}, text)));
}

tiles();
const memoryItems = {"all, at its peak": data.peak, ...data.memory, ...(data.host ? {"host memory": data.host} : {})};
const drawMaps = [heatMap("memory", memoryItems, bytes), heatMap("time", {"all of tables": tableTime, lookup: data.lookup, exchange: data.exchange, update: data.update}, ms)];
const drawHosts = hosts();
const redraw = () => { drawMaps.forEach(draw => draw()); drawHosts(); layoutLegend(); layout(); };
memory();
step();
tables();
notes();
list();
redraw();
let width = window.innerWidth;
addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; redraw(); } });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
