/** Does all work beside the page, so that it never freezes: opens a model, classifies photos, verifies. */

import { Classifier, hasGpu } from "./classifier.js";
import { isAsExported, readDescription } from "./model_file.js";
import { decodePhoto } from "./photo.js";
import { pixels } from "./resize.js";
import { verify } from "./verify.js";
import createWebp from "./vendor/webp_dec.js";
import { openLibrary } from "./webp.js";

const compiled = {};
const compile = (name) =>
  (compiled[name] ??= fetch(new URL(`./vendor/${name}.wasm`, import.meta.url))
    .then((response) => response.arrayBuffer())
    .then((bytes) => WebAssembly.compile(bytes)));

const libraries = {
  jpeg: () => compile("jpeg-turbo"),
  webp: async () => openLibrary(await compile("webp_dec"), createWebp),
  other: decodeInBrowser,
};

/** What only the browser can decode (GIF, BMP, AVIF, HEIC in Safari): its pixels may differ from petinfer's by a little. */
async function decodeInBrowser(bytes) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes]), options).catch(() => {
    throw new Error("not a photo in a format that this browser can read");
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, channels: 4, data: context.getImageData(0, 0, width, height).data };
}

let classifier;

/** Open a model file; `device` is auto, wasm or webgpu. */
async function open({ model, device, threads }) {
  const description = readDescription(model);
  const asExported = await isAsExported(model, description.sha256);
  const [opened, note] = await openOn(device, model, description, threads);
  await classifier?.close();
  classifier = opened;
  pixels({ width: 300, height: 300, channels: 3, data: new Uint8Array(270_000) }, opened.resize); // compiles the resize
  const { device: found, threads: used } = opened;
  return { description, asExported, size: model.length, device: found, threads: used, note };
}

/**
 * [classifier, note]: on the GPU if there is one and its answers pass the model's own test.
 *
 * int8 stays on the processor: WebGPU has no QuantizeLinear, so each layer's numbers would travel to the processor and back.
 */
async function openOn(device, model, description, threads) {
  if (device !== "auto") return [await Classifier.open(model, description, device, threads), ""];
  let note = "";
  if (description.precision !== "int8" && (await hasGpu())) {
    try {
      const onGpu = await Classifier.open(model, description, "webgpu", threads);
      const [failure] = (await verify(onGpu, libraries)).failures;
      if (!failure) return [onGpu, ""];
      await onGpu.close();
      note = `not on WebGPU: ${failure}`;
    } catch (error) {
      note = `not on WebGPU: ${error.message}`;
    }
  }
  return [await Classifier.open(model, description, "wasm", threads), note];
}

/** Classify a photo: its bytes, or an image that is decoded already. Times are milliseconds. */
async function classify({ bytes, image }) {
  const times = {};
  const timed = async (name, task) => {
    const start = performance.now();
    const result = await task();
    times[name] = performance.now() - start;
    return result;
  };
  if (bytes) await libraries.jpeg(); // loading the decoder is not decoding
  const decoded = await timed("decode", () => image ?? decodePhoto(bytes, classifier.description.orientation, libraries));
  const input = await timed("resize", () => pixels(decoded, classifier.resize));
  const probabilities = await timed("network", () => classifier.run(input));
  return { times, input, probabilities: [...probabilities], width: decoded.width, height: decoded.height };
}

const TASKS = { open, classify, verify: () => verify(classifier, libraries) };

let last = Promise.resolve(); // one task after the other: a session runs one photo at a time
self.onmessage = ({ data: { id, task, argument } }) => {
  last = last.then(async () => {
    try {
      self.postMessage({ id, result: await TASKS[task](argument) });
    } catch (error) {
      self.postMessage({ id, error: error.message });
    }
  });
};
