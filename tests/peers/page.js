// Opens pages of ours in Chromium as people do, and says what is there; a page that is not right is an error.
//
//   node page.js report FILE PDF    a report: its figures, its run file
//   node page.js opens FILE…        pages that open without a complaint: how long it took, and what they say
//   node page.js unfolds FILE ID    what a folded part says once it is opened by keyboard
//   node page.js reds FILE CHART AT…  how red a chart is at parts of its time, 0 to 1
//   node page.js disrupted ADDRESS  a run that goes, disrupted: what is said while streams are away, and at its end
//   node page.js live ADDRESS       a run that goes, from before it begins until it has ended

const assert = require("node:assert");
const { chromium } = require("playwright-core");

const AXE = require("axe-core").source;
const WAIT_MS = 120_000;
const ENDED = /^(Passed|Failed|Incomplete|Aborted)/;

/** A page at `address`; `seen` is what it asked for and complained of. */
async function open(browser, address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const seen = { asked: [], wrong: [] };
  await page.route("**/*", (route) => {
    seen.asked.push(route.request().url());
    return route.continue();
  });
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) seen.wrong.push(message.text());
  });
  page.on("pageerror", (error) => seen.wrong.push(String(error.stack)));
  page.on("dialog", (dialog) => {
    seen.wrong.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(address);
  await page.waitForFunction(() => document.documentElement.dataset.ready, null, { timeout: WAIT_MS });
  const took = await page.evaluate(async () => {
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
    return performance.now();
  });
  return { page, context, seen, took };
}

/** Every chart: rows that can be walked through, what a screen reader is told, colours and share of what is drawn. */
function charts(page) {
  return page.$$eval("figure.chart", (figures) =>
    figures.map((figure) => {
      const canvas = figure.querySelector("canvas");
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
      const colours = new Set();
      let drawn = 0;
      for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] === 0) continue;
        drawn += 1;
        colours.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
      }
      const plot = figure.querySelector(".plot");
      const look = { id: figure.id, title: figure.querySelector("h3").textContent, summary: figure.querySelector(".summary").textContent };
      return { ...look, rows: Number(plot.getAttribute("aria-valuemax")) + 1, colours: colours.size, drawn: drawn / (data.length / 4) };
    }),
  );
}

/** Every figure that says its place in report.json. */
function figuresOf(page) {
  return page.$$eval("data[data-path]", (all) => all.map(({ value, dataset, textContent }) => ({ path: dataset.path, value, text: textContent })));
}

function none(what, found) {
  assert(found.length === 0, `${what}:\n${found.join("\n")}`);
}

function assertDrawn(found) {
  for (const chart of found) {
    assert(chart.rows > 1 && chart.colours > 5 && chart.drawn > 0.01, `not drawn: ${JSON.stringify(chart)}`);
    assert(chart.summary.length > 10, `no sentence: ${JSON.stringify(chart)}`);
  }
}

/** What axe has to say of the page as it is. */
async function complaints(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 200)} ${failureSummary}`));
}

/** What Tab comes by, from the top to the end. */
async function stops(page) {
  const found = [];
  await page.evaluate(() => document.body.focus());
  for (let press = 0; press < 400; press++) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const { tagName, id, role, className } = document.activeElement;
      return { tag: tagName.toLowerCase(), id, role: role ?? "", className };
    });
    if (stop.tag === "body") break;
    found.push(stop);
  }
  return found;
}

async function keyboard(page) {
  const found = await stops(page);
  const has = (what, test) => assert(found.some(test), `Tab does not come to ${what}: ${JSON.stringify(found)}`);
  has("the link past the head", ({ className }) => className === "skip");
  has("a link to a section", ({ tag, className }) => tag === "a" && className !== "skip");
  has("a chart", ({ role }) => role === "slider");
  has("a chart's data", ({ tag }) => tag === "summary");
  has("a table", ({ className }) => className === "scroll");
  has("the copy button", ({ id }) => id === "copy");

  await page.focus("#chart-response-plot");
  const said = () => page.getAttribute("#chart-response-plot", "aria-valuetext");
  await page.keyboard.press("Home");
  const first = await said();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  const third = await said();
  assert(first !== third && /p50 .*p99 /.test(third), `${first} and then ${third}`);
  await page.focus("#chart-response-data summary");
  await page.keyboard.press("Enter");
  const rows = await page.waitForSelector("#chart-response-data tbody").then((body) => body.$$eval("tr", (all) => all.length));
  assert.equal(rows, Number(await page.getAttribute("#chart-response-plot", "aria-valuemax")) + 1, "the data of a chart");
  await page.focus("#copy");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#runfile [role=status]").textContent !== "");
  assert.equal(await page.textContent("#runfile [role=status]"), "copied");
}

/** A part of time that was dragged over is looked at in every chart, and Escape gives all of it back. */
async function zoomed(page) {
  const box = await page.locator("#chart-rates .u-over").boundingBox();
  await page.locator("#chart-rates").scrollIntoViewIfNeeded();
  const at = await page.locator("#chart-rates .u-over").boundingBox();
  await page.mouse.move(at.x + box.width * 0.3, at.y + 40);
  await page.mouse.down();
  await page.mouse.move(at.x + box.width * 0.6, at.y + 40, { steps: 5 });
  await page.mouse.up();
  assert(await page.isVisible(".reset"), "a drag looks closer");
  await page.focus("#chart-response-plot");
  await page.keyboard.press("Escape");
  assert(!(await page.isVisible(".reset")), "Escape gives all of it back");
}

async function report(browser, file, pdf) {
  const address = `file://${file}`;
  const light = await open(browser, address, { colorScheme: "light" });
  const { page, seen } = light;
  const found = await charts(page);
  assertDrawn(found);
  const backs = [await page.evaluate(() => getComputedStyle(document.body).backgroundColor)];
  const wrong = await complaints(page);
  await keyboard(page);
  await zoomed(page);
  const figures = await figuresOf(page);
  const text = await page.innerText("body");
  const runfile = await page.textContent("#runfile-text");
  const printed = await page.pdf({ path: pdf, format: "A4" });
  assert(printed.length > 30_000 && printed.subarray(0, 5).toString() === "%PDF-", `${printed.length} B of PDF`);

  const dark = await open(browser, address, { colorScheme: "dark" });
  assertDrawn(await charts(dark.page));
  backs.push(await dark.page.evaluate(() => getComputedStyle(document.body).backgroundColor));
  assert.notEqual(backs[0], backs[1], "by night it is dark");
  wrong.push(...(await complaints(dark.page)));

  const narrow = await open(browser, address, { viewport: { width: 400, height: 800 } });
  assertDrawn(await charts(narrow.page));
  const wide = await narrow.page.evaluate(() => document.documentElement.scrollWidth);
  assert(wide <= 400, `${wide} px wide on a screen of 400`);
  wrong.push(...(await complaints(narrow.page)));

  for (const one of [light, dark, narrow]) {
    assert.deepEqual(one.seen.asked, [address], "nothing but the file is asked for");
    none("said by the browser", one.seen.wrong);
  }
  none("axe", wrong);
  return { figures, runfile, text, title: await page.title(), charts: found.map(({ id }) => id), took: light.took, seen };
}

async function opens(browser, files) {
  const pages = [];
  for (const file of files) {
    const { page, context, seen, took } = await open(browser, `file://${file}`);
    const found = await charts(page);
    assertDrawn(found);
    assert.deepEqual(seen.asked, [`file://${file}`], "nothing but the file is asked for");
    none("said by the browser", seen.wrong);
    none("axe", await complaints(page));
    pages.push({ text: await page.innerText("body"), figures: await figuresOf(page), charts: found.map(({ id, rows }) => ({ id, rows })), took });
    await context.close();
  }
  return pages;
}

async function unfolds(browser, file, id) {
  const { page } = await open(browser, `file://${file}`);
  await page.focus(`#${id} summary`);
  await page.keyboard.press("Enter");
  await page.waitForSelector(`#${id} tbody`);
  none("axe", await complaints(page));
  return { text: await page.innerText(`#${id}`) };
}

/** Mean red over green of the upper half of a drawing, below its names: colours on white are compared, lines are few. */
async function reds(browser, file, chart, ...at) {
  const { page } = await open(browser, `file://${file}`, { colorScheme: "light" });
  return page.evaluate(({ chart, at }) => {
    const figure = document.getElementById(chart);
    const [canvas, over] = [figure.querySelector("canvas"), figure.querySelector(".u-over")];
    const ratio = canvas.width / canvas.clientWidth;
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const [left, top] = [over.offsetLeft * ratio, over.offsetTop * ratio];
    const [width, height] = [over.clientWidth * ratio, over.clientHeight * ratio];
    return at.map((part) => {
      const { data } = copy.getImageData(Math.round(left + width * Number(part)) - 8, Math.round(top + height * 0.5), 16, Math.round(height * 0.4));
      let red = 0;
      for (let pixel = 0; pixel < data.length; pixel += 4) red += ((data[pixel] - data[pixel + 1]) * data[pixel + 3]) / 255;
      return red / (data.length / 4);
    });
  }, { chart, at });
}

async function disrupted(browser, address) {
  const { page, seen } = await open(browser, `http://${address}/`);
  const said = () => page.innerText("#disruptions");
  await page.waitForFunction(() => /200 away/.test(document.getElementById("disruptions")?.textContent), null, { timeout: WAIT_MS });
  const away = await said();
  const wrong = await complaints(page);
  await page.request.get(`http://${address}/seen`);
  await page.waitForFunction(() => / 0 never/.test(document.getElementById("disruptions")?.textContent), null, { timeout: WAIT_MS });
  none("said by the browser, and axe", [...seen.wrong, ...wrong, ...(await complaints(page))]);
  return { away, back: await said() };
}

async function live(browser, address) {
  const { page, seen } = await open(browser, `http://${address}/`);
  const word = () => page.textContent(".word").then((text) => text.replace(/^\W+/, ""));
  process.stderr.write("open\n");
  await page.waitForFunction(() => document.querySelectorAll("figure.chart").length >= 4, null, { timeout: WAIT_MS });
  const going = await word();
  assert(!ENDED.test(going), going);
  const rows = () => page.getAttribute("#chart-rates-plot", "aria-valuemax").then(Number);
  const before = await rows();
  await page.waitForFunction((n) => Number(document.getElementById("chart-rates-plot").getAttribute("aria-valuemax")) > n, before, { timeout: WAIT_MS });
  assertDrawn(await charts(page));
  const wrong = await complaints(page);
  const ended = new RegExp(ENDED.source);
  await page.waitForFunction((source) => new RegExp(source).test(document.querySelector(".word").lastElementChild.textContent), ended.source, { timeout: WAIT_MS });
  assertDrawn(await charts(page));
  const figures = await figuresOf(page);
  assert.deepEqual([...new Set(seen.asked)].sort(), [`http://${address}/`, `http://${address}/live`]);
  none("said by the browser, and axe", [...seen.wrong, ...wrong]);
  return { going, ended: await word(), figures };
}

async function main([mode, ...rest]) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, chromiumSandbox: false });
  try {
    const modes = { report: () => report(browser, ...rest), opens: () => opens(browser, rest), unfolds: () => unfolds(browser, ...rest), reds: () => reds(browser, ...rest), disrupted: () => disrupted(browser, ...rest), live: () => live(browser, ...rest) };
    const answer = await modes[mode]();
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  } finally {
    await browser.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
