// What travels between hosts: a matrix, a row for each host that sends and a column for each that receives; then the same as a table.
function hosts() {
  const {sent, pairs: [forward, back]} = data.hosts, names = Object.keys(sent), nodes = forward.length;
  const total = forward.map((_, host) => sum(names.map(name => sent[name][host]))), first = total.indexOf(most(total));
  if (nodes === 1) {
    byId("hosts-about").textContent = "There is one host: nothing travels between hosts.";
    byId("hosts").hidden = true;
    return () => {};
  }
  byId("hosts-about").textContent = "Bytes a step, from the host of a row to the host of a column. Vectors go from a table's host to those that asked, gradients and ids to it; an all-reduce goes from each host to the next.";
  byId("hosts-items").append(heads(["a host sends to others", `host ${first}, most`, "mean"]), make("tbody", {}, ...names.map(name =>
    row([rowHead(name), cell(bytes(sent[name][first])), cell(bytes(sum(sent[name]) / nodes))]))));
  const matrix = forward.map((from, i) => back.map((to, j) => i === j ? 0 : from + to + (j === (i + 1) % nodes ? sent["all-reduce"][i] : 0)));
  const canvas = byId("hosts-map"), cells = matrix.flatMap((line, i) => line.filter((_, j) => j !== i)), low = least(cells), high = most(cells);
  let at = [first, matrix[first].indexOf(most(matrix[first]))], size = 1;
  const left = 46, top = 18;
  function draw() {
    const color = ramp(), width = canvas.parentElement.clientWidth;
    size = Math.min(36, (width - left) / nodes);
    const [ctx] = brush(canvas, top + size * nodes + 2), gap = size >= 5 ? 1 : 0;
    matrix.forEach((line, i) => line.forEach((value, j) => {
      ctx.fillStyle = i === j ? css("--panel") : color(high > low ? (value - low) / (high - low) : 0);
      ctx.fillRect(left + j * size, top + i * size, size - gap, size - gap);
    }));
    ctx.strokeStyle = css("--ink");
    ctx.lineWidth = 1.5;
    ctx.strokeRect(left + at[1] * size - 1, top + at[0] * size - 1, Math.max(size - gap, 3) + 1, Math.max(size - gap, 3) + 1);
    ctx.fillStyle = css("--soft");
    const every = 2 ** Math.max(0, Math.ceil(Math.log2(22 / size)));
    ctx.fillText("from, to", 0, 12);
    for (let node = 0; node < nodes; node += every) {
      ctx.fillText(`${node}`, left + node * size, 12);
      ctx.fillText(`${node}`, 20, top + node * size + Math.min(size, 14));
    }
    byId("hosts-scale").replaceChildren(make("span", {}, bytes(low)), make("i"), make("span", {}, bytes(high)));
    canvas.setAttribute("aria-label", `Bytes between ${nodes} hosts, from ${bytes(low)} to ${bytes(high)}`);
    byId("hosts-at").textContent = at[0] === at[1] ? `host ${at[0]}: to itself, not over the network`
      : `from host ${at[0]} to host ${at[1]}: ${bytes(matrix[at[0]][at[1]])}; host ${at[0]} sends ${bytes(total[at[0]])} in all`;
  }
  function move(line, column) {
    if (line < 0 || line >= nodes || column < 0 || column >= nodes || line === at[0] && column === at[1]) return;
    at = [line, column];
    draw();
  }
  canvas.addEventListener("mousemove", event => move(Math.floor((event.offsetY - top) / size), Math.floor((event.offsetX - left) / size)));
  canvas.addEventListener("keydown", event => {
    const step = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0]}[event.key];
    if (!step) return;
    event.preventDefault();
    move(at[0] + step[0], at[1] + step[1]);
  });
  return draw;
}
