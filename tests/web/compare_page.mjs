/** Reads paths of photos from standard input, and prints what the page's code makes of each in Chromium; see compare.py. */

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { launch, serve } from "./browser.mjs";

/** Runs in the page: opens a worker of the page's, and leaves the function `compare` there. */
async function prepare() {
  const { decodePhoto } = await import("./photo.js");
  const { bytesOf, pixels } = await import("./resize.js");
  const { sha256 } = await import("./model_file.js");
  const jpeg = WebAssembly.compile(await (await fetch("vendor/jpeg-turbo.wasm")).arrayBuffer());
  const worker = new Worker("worker.js", { type: "module" });
  const ask = (task, argument) =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.result));
      worker.postMessage({ id: 0, task, argument });
    });
  const model = new Uint8Array(await (await fetch("model.onnx")).arrayBuffer());
  const threads = Math.min(4, navigator.hardwareConcurrency);
  const { description } = await ask("open", { model, device: "wasm", threads });
  const [height, width] = description.resize.size;
  const resize = { height, width, mode: description.mode, ...description.resize };

  async function inBrowser(bytes) {
    const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
    return { width: bitmap.width, height: bitmap.height, channels: 4, data };
  }
  function difference(mine, theirs) {
    const distances = mine.map((value, i) => Math.abs(value - theirs[i]));
    return { bytes: mine.length, differing: distances.filter(Boolean).length, largest: distances.reduce((a, b) => Math.max(a, b)) };
  }
  self.compare = async (encoded) => {
    const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
    const answer = await ask("classify", { bytes });
    const mine = await decodePhoto(bytes, description.orientation, { jpeg: () => jpeg });
    const theirs = await inBrowser(bytes);
    const result = { times: answer.times, probabilities: answer.probabilities, pixels: await sha256(answer.input) };
    const own = { input: difference(answer.input, pixels(theirs, resize)), probabilities: answer.probabilities };
    if (own.input.differing) own.probabilities = (await ask("classify", { image: theirs })).probabilities;
    if (mine.width === theirs.width) own.decoded = difference(bytesOf(mine, "RGB"), bytesOf(theirs, "RGB"));
    return { ...result, own };
  };
}

const server = serve(process.argv[2]);
const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(await server.address);
  await page.waitForSelector("body[data-ready]");
  await page.evaluate(prepare);
  for await (const path of createInterface({ input: process.stdin })) {
    const encoded = readFileSync(path).toString("base64");
    console.log(JSON.stringify(await page.evaluate((encoded) => self.compare(encoded), encoded)));
  }
} finally {
  server.stop();
  await browser.close();
}
