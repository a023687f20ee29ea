/**
 * Uses the page in headless Chromium as a person would, and prints what it showed as JSON.
 *
 *     node drive_page.mjs SITE FOLDER MODEL PHOTO …
 *
 * SITE is the built page; screenshots go to FOLDER; MODEL is another model file, opened for the first photo after all others.
 */

import { basename, join } from "node:path";

import { give, IPHONE, launch, PATIENCE, serve, shown } from "./browser.mjs";

const [site, folder, model, ...photos] = process.argv.slice(2);

async function error(page, file) {
  await page.setInputFiles("#file", file);
  await page.waitForSelector("#status.bad");
  return page.textContent("#status");
}

/** How far anything reaches over the edge of its card, px; where the answer ends, and the height of the screen. */
const overflow = (page) =>
  page.evaluate(() => {
    const right = (each) => each.getBoundingClientRect().right;
    const over = [...document.querySelectorAll("main > section")].map((card) =>
      Math.max(...[...card.querySelectorAll("*")].map(right)) - right(card),
    );
    const answerEnds = document.getElementById("answer").getBoundingClientRect().bottom;
    return { across: Math.max(...over, right(document.body) - innerWidth), answerEnds, height: innerHeight };
  });

async function verdict(page) {
  await page.click("#verify");
  await page.waitForFunction(() => !document.getElementById("verify").disabled);
  return page.textContent("#verified");
}

async function useTheCamera(page) {
  await page.click("#camera");
  await page.waitForFunction(() => document.getElementById("video").videoWidth > 0);
  await page.click("#camera");
  return shown(page, "camera");
}

/** The directive that forbids the page to connect to another server. */
const forbidden = (page) =>
  page.evaluate(
    () =>
      new Promise((resolve) => {
        document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
        setTimeout(resolve, 10_000, "none");
        fetch("http://127.0.0.2:9/").catch(() => {});
      }),
  );

/** The page on a phone, whose browser says that it is Safari on an iPhone. */
async function onAPhone(address) {
  const context = await browser.newContext(IPHONE);
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  await page.goto(address);
  await page.click("#sample"); // before the model is ready
  const answer = await shown(page, "chelsea.jpg");
  const layout = await overflow(page);
  await page.screenshot({ path: join(folder, "phone.png") });
  const facts = await page.textContent("#facts");
  await context.close();
  return { ...answer, ...layout, facts };
}

/** Drop a file of the server's on the page. */
async function drop(page, url, name) {
  await page.evaluate(
    async ([url, name]) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([await (await fetch(url)).blob()], name));
      document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    },
    [url, name],
  );
  return shown(page, name);
}

/** Open another model file, and classify a photo with it. */
async function withModel(page, path, photo) {
  await page.setInputFiles("#model-file", path);
  await page.waitForFunction((name) => document.getElementById("facts").textContent.includes(name), basename(path));
  return { ...(await give(page, photo)), facts: await page.textContent("#facts") };
}

const server = serve(site);
const browser = await launch();
try {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, permissions: ["camera"] });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const address = await server.address;
  const [foreign, problems] = [[], []];
  context.on("request", (request) => {
    if (!request.url().startsWith(address) && !request.url().startsWith("blob:")) foreign.push(request.url());
  });
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (problem) => problems.push(String(problem)));

  await page.goto(address);
  await page.waitForSelector("body[data-ready]");
  const result = { device: await page.getAttribute("body", "data-ready"), answers: {} };
  for (const path of photos) result.answers[basename(path)] = await give(page, path);
  await page.click("#sample");
  result.sample = await shown(page, "chelsea.jpg");
  result.desktop = await overflow(page);
  await page.screenshot({ path: join(folder, "desktop.png") });
  result.verdict = await verdict(page);
  result.facts = await page.textContent("#facts");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.screenshot({ path: join(folder, "desktop-dark.png") });
  result.damaged = await error(page, { name: "damaged.jpg", mimeType: "image/jpeg", buffer: Buffer.from("no photo") });
  result.notAModel = await error(page, { name: "other.onnx", mimeType: "", buffer: Buffer.from("no model") });
  await page.emulateMedia({ colorScheme: "light" });
  result.camera = await useTheCamera(page);
  result.dropped = await drop(page, "golden/cat.jpg", "dropped.jpg");
  result.otherModel = await withModel(page, model, photos[0]);

  await page.waitForSelector("#offline:not([hidden])");
  result.phone = await onAPhone(address);
  server.stop();
  await page.reload();
  await page.waitForSelector("body[data-ready]");
  result.offline = { verdict: await verdict(page), isolated: await page.evaluate(() => crossOriginIsolated) };
  result.foreign = [...foreign];
  result.problems = [...problems];
  result.forbidden = await forbidden(page);
  console.log(JSON.stringify(result));
} finally {
  server.stop();
  await browser.close();
}
