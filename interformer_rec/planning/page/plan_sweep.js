// Other jobs beside the plan, or without one.
// What if: curves over nodes, or over the batch where only that was varied; a cross where the tables do not fit
function draw(tag, props, ...children) {
  const node = element(tag, props);
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
      const v = value(job), caption = draw("title", {}, `${name}, ${count(series.x(job))}: ${v == null ? "does not fit" : format(v)}`);
      svg.append(v == null ? draw("text", {x: x(job), y: height - bottom - 2, "text-anchor": "middle", style: `fill:${color}`}, caption, "×")
        : draw("circle", {cx: x(job), cy: y(v), r: 3.5, style: `fill:${color}`}, caption));
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
  const priced = data.sweep.every(job => job.step_ms == null || job.price_per_million_samples != null);
  const hours = job => job.samples_per_second ? job.ranks / job.samples_per_second * 1e9 / 3600 : null;
  const short = v => v >= 1e6 ? `${(v / 1e6).toFixed(v < 1e7 ? 1 : 0)} M` : v >= 1e4 ? `${Math.round(v / 1e3)} k` : count(v);
  legend(byId("sweep-legend"), series.map(({color, name}) => [color, name]));
  byId("sweep-plots").append(
    curves("Samples/s", series, xs, job => job.samples_per_second, short),
    curves("Memory of the fullest rank", series, xs, job => job.peak_gib, v => v ? `${v.toFixed(v < 10 ? 2 : 1)} GiB` : "0"),
    priced ? curves("Price of 10⁶ samples", series, xs, job => job.price_per_million_samples, money) : curves("Device hours for 10⁹ samples", series, xs, hours, short));
  byId("sweep-rows").append(heads(["cluster", "nodes", "ranks", "rows a rank", "a step", "samples/s", "fullest rank", ...(priced ? ["price an hour", "price of 10⁶ samples"] : ["device hours for 10⁹ samples"]), "most of the step"]),
    make("tbody", {}, ...data.sweep.map(job => row([rowHead(job.cluster), cell(count(job.nodes)), cell(count(job.ranks)), cell(count(job.batch_size)), cell(ms(job.step_ms)),
      cell(job.samples_per_second == null ? "–" : count(Math.round(job.samples_per_second))), cell(job.peak_gib == null ? "–" : `${job.peak_gib.toFixed(2)} GiB`),
      ...(priced ? [cell(money(job.price_per_hour)), cell(money(job.price_per_million_samples))] : [cell(count(hours(job)))]),
      cell(job.step_ms == null ? "does not fit" : job.bottleneck, "text wrap")]))));
}

sweep();
