/** Compares this browser with the golden answers in a model file, by the rules at the end of docs/model-file.md. */

import { decided } from "./decision.js";
import { sha256 } from "./model_file.js";
import { decodePhoto } from "./photo.js";
import { bytesOf, pixels } from "./resize.js";

const TOLERANCES = { fp32: 1e-5, fp16: 5e-3, int8: 5e-3 };
const INT8_ELSEWHERE = 2e-2; // other kernels round int8 in other places

/** Whether the label is not the Learner's; of several labels, whether one is not the file's where it was exported. */
function isFlipped(probabilities, golden, threshold, tolerance) {
  if (threshold === null) return decided(probabilities, null)[0] !== decided(golden.learner, null)[0];
  const [here, exported] = [probabilities, golden.file].map((each) => decided(each, threshold));
  const isNear = (p) => Math.abs(p - threshold) <= tolerance;
  return golden.file.some((p, i) => here.includes(i) !== exported.includes(i) && !isNear(p));
}

async function check(classifier, libraries, name, golden, tolerance) {
  const response = await fetch(new URL(`./golden/${name}`, import.meta.url));
  if (!response.ok) throw new Error(`golden photo ${name}: HTTP ${response.status} (build this page again)`);
  const image = await decodePhoto(new Uint8Array(await response.arrayBuffer()), "stored", libraries);
  const input = pixels(image, classifier.resize);
  const probabilities = [...(await classifier.run(input))];
  return {
    name,
    decodedEqual: (await sha256(bytesOf(image, classifier.resize.mode))) === golden.decoded,
    pixelsEqual: (await sha256(input)) === golden.pixels,
    moved: Math.max(...probabilities.map((p, i) => Math.abs(p - golden.file[i]))),
    flipped: isFlipped(probabilities, golden, classifier.description.threshold, tolerance),
    probabilities,
  };
}

function failuresOf({ name, decodedEqual, pixelsEqual, moved, flipped }, tolerance) {
  const failures = [];
  if (!decodedEqual && !name.endsWith(".jpg")) failures.push("decoded to another image");
  if (decodedEqual && !pixelsEqual) failures.push("resized to other pixels");
  if (pixelsEqual && !(moved <= tolerance)) failures.push(`a probability differs by ${moved.toExponential(1)}`);
  if (flipped) failures.push("the decision is not the Learner's");
  return failures.map((failure) => `${name}: ${failure}`);
}

/** {checks, failures}: one check for each golden photo of the model file; it passes if there are no failures. */
export async function verify(classifier, libraries) {
  const { golden, precision } = classifier.description;
  if (!globalThis.crypto?.subtle) throw new Error("needs https, or a page from this device (digests are not available)");
  if (Object.keys(golden).length === 0) throw new Error("the model file contains no golden answers");
  const elsewhere = precision === "int8" && classifier.device !== "wasm";
  const tolerance = elsewhere ? INT8_ELSEWHERE : TOLERANCES[precision];
  const checks = [];
  for (const [name, expected] of Object.entries(golden)) {
    checks.push(await check(classifier, libraries, name, expected, tolerance));
  }
  return { checks, failures: checks.flatMap((each) => failuresOf(each, tolerance)) };
}
