/**
 * Puts the page together in a folder: site/, the libraries from node_modules, a model file, the golden photos.
 *
 *     node build.mjs [MODEL.onnx [FOLDER]]    the bundled model and build/, unless others are named
 */

import { createHash } from "node:crypto";
import { cp, mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { readDescription } from "./site/model_file.js";

const HERE = dirname(fileURLToPath(import.meta.url));
const REPOSITORY = resolve(HERE, "../..");
const MODEL = resolve(process.argv[2] ?? join(REPOSITORY, "petinfer/models/pets-int8.onnx"));
const OUT = resolve(process.argv[3] ?? join(HERE, "build"));
const PARTS = `${OUT}.part`; // renamed at the end: a failed build leaves the last one as it is

/** From node_modules to build/vendor/. */
const LIBRARIES = {
  "ort.wasm.bundle.min.mjs": "onnxruntime-web/dist",
  "ort-wasm-simd-threaded.mjs": "onnxruntime-web/dist",
  "ort-wasm-simd-threaded.wasm": "onnxruntime-web/dist",
  "jpeg-turbo.wasm": "@cwasm/jpeg-turbo",
  "webp_dec.js": "@jsquash/webp/codec/dec",
  "webp_dec.wasm": "@jsquash/webp/codec/dec",
};
const GPU = {
  "ort.webgpu.bundle.min.mjs": "onnxruntime-web/dist",
  "ort-wasm-simd-threaded.asyncify.mjs": "onnxruntime-web/dist",
  "ort-wasm-simd-threaded.asyncify.wasm": "onnxruntime-web/dist",
};
/** No part of the page may connect to another server; compiling WebAssembly and onnxruntime's own code is allowed. */
const POLICY = "default-src 'self'; script-src 'self' 'unsafe-eval' blob:; worker-src 'self' blob:; img-src 'self' blob:";

async function filesBelow(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((each) => each.isFile()).map((each) => relative(folder, join(each.parentPath, each.name)));
}

async function copyAll() {
  const modules = join(HERE, "node_modules");
  await rm(PARTS, { recursive: true, force: true });
  await mkdir(join(PARTS, "vendor"), { recursive: true });
  await cp(join(HERE, "site"), PARTS, { recursive: true });
  for (const [name, folder] of Object.entries({ ...LIBRARIES, ...GPU })) {
    await cp(join(modules, folder, name), join(PARTS, "vendor", name));
  }
  await cp(MODEL, join(PARTS, "model.onnx"));
  await cp(join(REPOSITORY, "petinfer/golden"), join(PARTS, "golden"), { recursive: true });
  await cp(join(REPOSITORY, "docs/chelsea.jpg"), join(PARTS, "sample.jpg"));
}

/** Write the service worker with the files to keep, and a version that changes when one of them does. */
async function writeServiceWorker() {
  const later = Object.keys(GPU).map((name) => `vendor/${name}`);
  const names = (await filesBelow(PARTS)).sort();
  const hash = createHash("sha256");
  for (const name of names) hash.update(name).update(await readFile(join(PARTS, name)));
  const constants = {
    VERSION: `petinfer-${hash.digest("hex").slice(0, 16)}`,
    FILES: ["./", ...names.filter((name) => name !== "service-worker.js" && !later.includes(name))],
    LATER: later,
    POLICY,
  };
  const lines = Object.entries(constants).map(([name, value]) => `const ${name} = ${JSON.stringify(value)};\n`);
  const path = join(PARTS, "service-worker.js");
  await writeFile(path, lines.join("") + (await readFile(path, "utf8")));
}

async function writePolicy() {
  const path = join(PARTS, "index.html");
  const tag = `<meta http-equiv="Content-Security-Policy" content="${POLICY}">`;
  await writeFile(path, (await readFile(path, "utf8")).replace('<meta charset="utf-8">', `<meta charset="utf-8">\n${tag}`));
}

/** The last build makes way; a folder with anything else in it does not. */
async function replaceLast() {
  const names = await readdir(OUT).catch(() => []);
  if (names.length > 0 && !names.includes("service-worker.js")) throw new Error(`${OUT} is not a build of this page`);
  await rm(OUT, { recursive: true, force: true });
  await rename(PARTS, OUT);
}

const { labels } = readDescription(new Uint8Array(await readFile(MODEL))); // a wrong file is noticed now
await copyAll();
await writePolicy();
await writeServiceWorker();
await replaceLast();
console.log(`${relative(process.cwd(), OUT) || "."}: ${MODEL}, ${labels.length} labels`);
