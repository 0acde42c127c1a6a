// The run file to repeat a run: its spec as TOML.

/** A text in TOML's basic form. JSON escapes as TOML does, but for DEL. */
function tomlText(text) {
  return JSON.stringify(text).replace(/\x7f/g, "\\u007F");
}

function tomlKey(key) {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : tomlText(key);
}

function isTable(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTables(value) {
  return Array.isArray(value) && value.length > 0 && value.every(isTable);
}

function tomlValue(value) {
  if (typeof value === "string") return tomlText(value);
  if (Array.isArray(value)) return `[${value.filter((part) => part !== null).map(tomlValue).join(", ")}]`;
  if (isTable(value)) return `{ ${Object.entries(value).filter(([, part]) => part !== null).map(([key, part]) => `${tomlKey(key)} = ${tomlValue(part)}`).join(", ")} }`;
  return String(value);
}

/** A table's own lines, then the tables in it. */
function toml(value, path = []) {
  const entries = Object.entries(value).filter(([, part]) => part !== null && part !== undefined);
  const lines = entries.filter(([, part]) => !isTable(part) && !isTables(part)).map(([key, part]) => `${tomlKey(key)} = ${tomlValue(part)}`);
  for (const [key, part] of entries) {
    const name = [...path, tomlKey(key)];
    if (isTable(part)) lines.push("", `[${name.join(".")}]`, toml(part, name));
    if (isTables(part)) for (const one of part) lines.push("", `[[${name.join(".")}]]`, toml(one, name));
  }
  return lines.join("\n").trim();
}

/** A spec with the seed that was chosen for it, so that the run is the same. */
function runFile(report) {
  const { spec, run } = report;
  const { name, ...rest } = spec;
  // A seed beyond 2^53 came as text: its digits are to stand as they are.
  const seed = spec.seed ?? run.seed;
  const text = toml({ ...(name ? { name } : {}), ...rest, seed: "SEED" });
  return `${text.replace('seed = "SEED"', `seed = ${seed}`)}\n`;
}

function renderRunFile({ report }) {
  if (!report?.spec?.group?.length) return null;
  const text = runFile(report);
  const code = h("code", { id: "runfile-text" }, text);
  const said = h("span", { role: "status", class: "muted" });
  const copy = async () => {
    said.textContent = (await copied(text, code)) ? "copied" : "select it and copy it by hand";
  };
  const flow = report.coder ? "This is the load as the daemon ran it; its targets came from the deployment, and only Coder's own commands ask for them again." : "Saved as run.toml, `scalectl start -f run.toml` runs it again.";
  const hidden = /\?…/.test(text) ? " Queries of URLs are left out, for they may be secrets: put them back where … stands." : "";
  return section("runfile", "Run file",
    h("p", {}, flow + hidden),
    h("p", {}, h("button", { type: "button", id: "copy", on: { click: copy } }, "Copy"), " ", said),
    h("pre", { tabindex: "0", role: "region", "aria-label": "Text of the run file" }, code));
}

/** Copies a text, also where a page from a file or without TLS may not write to the clipboard. */
async function copied(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand("copy");
  }
}
