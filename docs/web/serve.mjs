/**
 * Serves the page on this machine: node serve.mjs [PORT [FOLDER]], 8000 and build/ unless others are named.
 *
 * Any static server does; this one also lets the first visit use threads.
 */

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = resolve(process.argv[3] ?? fileURLToPath(new URL("./build", import.meta.url))) + sep;
const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".jpg": "image/jpeg",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
  ".webp": "image/webp",
};
const ISOLATION = { "Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Opener-Policy": "same-origin" };

/** A path inside ROOT, or undefined. */
function pathOf(url) {
  const path = normalize(join(ROOT, decodeURIComponent(new URL(url, "http://localhost").pathname)));
  if (!path.startsWith(ROOT)) return undefined;
  return path.endsWith(sep) ? join(path, "index.html") : path;
}

async function respond(request, response) {
  const path = pathOf(request.url);
  const found = path && (await stat(path).catch(() => undefined));
  if (!found?.isFile()) return response.writeHead(404).end();
  const tag = `"${found.size}-${found.mtimeMs}"`;
  const headers = { ...ISOLATION, ETag: tag, "Cache-Control": "no-cache" };
  if (request.headers["if-none-match"] === tag) return response.writeHead(304, headers).end();
  const type = TYPES[extname(path)] ?? "application/octet-stream";
  response.writeHead(200, { ...headers, "Content-Type": type, "Content-Length": found.size });
  return createReadStream(path).pipe(response);
}

const server = createServer((request, response) => {
  respond(request, response).catch(() => response.writeHead(400).end()); // an address that cannot be decoded
});
server.listen(Number(process.argv[2] ?? 8000), "127.0.0.1", () => {
  console.log(`http://localhost:${server.address().port}/ (Ctrl-C to stop)`);
});
