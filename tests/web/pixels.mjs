/**
 * Runs the page's own modules in node: reads cases from standard input, one JSON a line, and prints one line for each.
 *
 * A case is {path, orientation, resize: {width, height, method, padding, resample, mode}}; a line is {decoded, pixels}, the sha256
 * of the pixels and of the network's input, or {error}.
 */

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

import { decodePhoto } from "../../docs/web/site/photo.js";
import { bytesOf, pixels } from "../../docs/web/site/resize.js";
import { openLibrary } from "../../docs/web/site/webp.js";

const MODULES = fileURLToPath(new URL("../../docs/web/node_modules/", import.meta.url));
const compile = (path) => new WebAssembly.Module(readFileSync(MODULES + path));
const jpeg = existsSync(MODULES) && compile("@cwasm/jpeg-turbo/jpeg-turbo.wasm");
const libraries = {
  jpeg: () => jpeg,
  webp: async () => {
    const folder = "@jsquash/webp/codec/dec/";
    const { default: create } = await import(pathToFileURL(`${MODULES}${folder}webp_dec.js`));
    return openLibrary(compile(`${folder}webp_dec.wasm`), create);
  },
  other: () => {
    throw new Error("neither JPEG nor PNG nor WebP");
  },
};
const sha256 = (data) => createHash("sha256").update(data).digest("hex");

async function answer({ path, orientation, resize }) {
  try {
    const image = await decodePhoto(new Uint8Array(readFileSync(path)), orientation, libraries);
    return { decoded: sha256(bytesOf(image, resize.mode)), pixels: sha256(pixels(image, resize)) };
  } catch (error) {
    return { error: error.message };
  }
}

for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
