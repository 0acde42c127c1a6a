// Elements. Text goes in as text, never as markup.

/** An element. Attributes that are null or false are left out; `on` holds listeners. */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A figure of the report: shown by `show`, with its place in report.json and its exact value beside it. */
function figure(path, value, show) {
  if (value === null || value === undefined) return h("data", { value: "", "data-path": path, class: "none" }, NONE);
  return h("data", { value: String(value), "data-path": path }, show(value));
}

/**
 * A table. `head`: names of its columns; a column is of numbers where its name begins with `#`. `rows`: cells,
 * the first of which names the row. One without rows is none; a column that says nothing is left out.
 */
function table(caption, names, everything, note) {
  if (everything.length === 0) return null;
  const says = names.map((_, at) => at === 0 || everything.some((cells) => cells[at] !== "" && cells[at] !== null && cells[at] !== undefined));
  const rows = everything.map((cells) => cells.filter((_, at) => says[at]));
  const head = names.filter((_, at) => says[at]);
  const numeric = head.map((name) => name.startsWith("#"));
  const cell = (content, at) =>
    at === 0
      ? h("th", { scope: "row" }, content)
      : h("td", { class: numeric[at] ? "number" : null }, content ?? "");
  const columns = head.map((name, at) =>
    h("th", { scope: "col", class: numeric[at] ? "number" : null }, name.replace(/^#/, "")),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", {}, caption, note ? h("span", { class: "note" }, ` ${note}`) : null),
      h("thead", {}, h("tr", {}, columns)),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map(cell)))),
    ),
  );
}

/** Terms and what they are; a pair without a value is left out. */
function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, known.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

/** Content that is made when it is first asked for. */
function later(id, title, make) {
  const details = h("details", { id }, h("summary", {}, title));
  details.addEventListener("toggle", () => {
    details.querySelector(":scope > .made")?.remove();
    if (details.open) details.append(h("div", { class: "made" }, make()));
  });
  return details;
}

/** A section of the page. One without content is none. */
function section(id, title, ...content) {
  const there = content.flat(3).filter(Boolean);
  if (there.length === 0) return null;
  const name = `${id}-title`;
  return h("section", { id, "aria-labelledby": name }, h("h2", { id: name }, title), there);
}

