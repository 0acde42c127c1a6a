// Numbers as people say them, by the rules of `scalectl report` (ctl/src/render.rs), so that both say the same.

/** What stands where there is no value. */
const NONE = "-";

/** `value` with `digits` decimals. A tie goes to the even digit, as Rust has it; `toFixed` takes the larger. */
function fixed(value, digits) {
  const text = value.toFixed(digits);
  const places = 60; // beyond the last digit of any tie
  const exact = value.toFixed(Math.min(100, digits + places));
  const cut = exact.length - (Math.min(100, digits + places) - digits);
  if (!/^\.?50*$/.test(exact.slice(cut))) return text;
  const down = exact.slice(0, cut).replace(/\.$/, "");
  return Number(down.at(-1)) % 2 === 0 ? down : text;
}

/** 1234567 is `1,234,567`. */
function thousands(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

function seconds(value) {
  if (value < 0.001) return `${fixed(value * 1e6, 0)} us`;
  if (value < 1) return `${fixed(value * 1e3, 1)} ms`;
  if (value < 120) return `${fixed(value, 1)} s`;
  return `${fixed(Math.floor(value / 60), 0)} m ${fixed(value % 60, 0)} s`;
}

function rate(value) {
  return value >= 1e6 ? `${fixed(value / 1e6, 1)} MB/s` : `${fixed(value / 1e3, 1)} KB/s`;
}

function bytes(value) {
  return `${thousands(value)} B`;
}

function megabytes(value) {
  return `${thousands(Math.floor(value / 1e6))} MB`;
}

/** A share, as exactly as the report is read. */
function percent(value) {
  return `${fixed(value * 100, 3)} %`;
}

/** A share, as roughly as a core is busy. */
function roughly(value) {
  return `${fixed(value * 100, 0)} %`;
}

/** A figure beside an axis: `100 ms`, `20 MB/s`, `0`. */
function onAxis(show) {
  return (value) => (value === 0 ? "0" : show(value).replace(/\.0+(?= )/, ""));
}

/** Any figure: six decimals at most, none that say nothing. */
function plain(value) {
  return Number.isInteger(value) ? thousands(value) : String(Number(value.toPrecision(6)));
}

/** A count of things: `1 stream`, `2,000 streams`. */
function many(count, one) {
  return `${thousands(count)} ${one}${count === 1 ? "" : "s"}`;
}

/** A length of time for people who plan: `45 s`, `12 m 30 s`, `24 h`. */
function span(value) {
  const whole = Math.round(value);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const parts = [[h, "h"], [m, "m"], [s, "s"]].filter(([count]) => count > 0);
  return parts.length ? parts.map(([count, unit]) => `${count} ${unit}`).join(" ") : "0 s";
}

/** A moment of a run: `0:07`, `12:30`, `23:59:59`. */
function clock(value) {
  const whole = Math.round(value);
  const two = (part) => String(part).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  const tail = two(whole % 60);
  return minutes < 60 ? `${minutes}:${tail}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${tail}`;
}

/** Unix time, in UTC. */
function moment(value) {
  return value > 0 ? `${new Date(value * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC` : NONE;
}

/** The same with a capital at its front. */
function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** `value` by `show`, or what stands for none. */
function optional(value, show) {
  return value === null || value === undefined ? NONE : show(value);
}
