/**
 * Classifies photos with the page on WebGPU, computed by Chromium's own processor-only driver, and prints what it shows.
 *
 *     node drive_webgpu.mjs SITE PHOTO …
 */

import { basename } from "node:path";

import { give, launch, PATIENCE, serve } from "./browser.mjs";

const [site, ...photos] = process.argv.slice(2);
const server = serve(site);
const browser = await launch("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan");
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(await server.address);
  await page.waitForSelector("body[data-ready]");
  const result = { auto: await page.getAttribute("body", "data-ready") }; // not WebGPU: this one has no GPU behind it
  await page.waitForSelector("#offline:not([hidden])");
  await page.goto(`${await server.address}?device=webgpu`); // from now on with the service worker's policy
  await Promise.race([page.waitForSelector("body[data-ready]"), page.waitForSelector("#status.bad")]);
  Object.assign(result, { status: await page.textContent("#status"), facts: await page.textContent("#facts"), answers: {} });
  for (const path of photos) result.answers[basename(path)] = await give(page, path);
  await page.click("#verify");
  await page.waitForFunction(() => !document.getElementById("verify").disabled);
  result.verdict = await page.textContent("#verified");
  console.log(JSON.stringify(result));
} finally {
  server.stop();
  await browser.close();
}
