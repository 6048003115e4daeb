// Numbers with their units, as text.py writes them on the screen. "–" where there is none.
const count = n => n == null ? "–" : n.toLocaleString("en-US", {maximumFractionDigits: n >= 100 || n === Math.round(n) ? 0 : 2});
function ms(n) {
  if (n == null) return "–";
  if (n > 0 && n < 0.001) return "<0.001 ms";
  return `${n >= 100 ? count(Math.round(n)) : n >= 10 ? n.toFixed(1) : n >= 1 ? n.toFixed(2) : Number(n.toPrecision(3)).toString()} ms`;
}
const even = (n, digits) => { // what lies in the middle goes to the even digit, as in Python
  const times = 10 ** digits, near = Math.round(n * times);
  return (((n * times) % 1 === 0.5 && near % 2 ? near - 1 : near) / times).toFixed(digits);
};
function bytes(n) {
  if (n == null) return "–";
  let unit = 0;
  for (; n >= 1024 && unit < 4; unit++) n /= 1024;
  return `${even(n, unit === 4 ? 2 : unit ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}
