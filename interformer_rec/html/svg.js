"use strict";
// What the pages with plots share. A page's own script follows it in the same script element.

function element(name, attributes, parent, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

// A function value -> position between two ends; larger values are nearer the second. log: values are above 0. origin: the range has 0 in it.
function scale(values, from, to, { log = false, origin = false } = {}) {
  const at = log ? Math.log : (value) => value, all = origin && !log ? [0, ...values] : values;
  let low = Math.min(...all.map(at)), high = Math.max(...all.map(at));
  if (!(high > low)) { low -= 0.5; high += 0.5; }
  const back = log ? Math.exp : (value) => value;
  const place = (value) => from + ((at(value) - low) / (high - low)) * (to - from);
  place.ends = [back(low), back(high)];
  place.ticks = [0, 1, 2, 3].map((part) => back(low + ((high - low) * part) / 3));
  return place;
}
