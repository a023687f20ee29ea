/**
 * Keeps the page on the device, so that it works offline; build.mjs writes FILES and VERSION above this text.
 *
 * Static servers cannot always set headers, so they are set here: the page may share memory between threads
 * (cross-origin isolation), and no part of it may connect to another server.
 */

/* global FILES, LATER, VERSION, POLICY */

const HEADERS = {
  "Content-Security-Policy": POLICY,
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(FILES)));
});

self.addEventListener("activate", (event) => {
  const others = caches.keys().then((names) => names.filter((name) => name !== VERSION && name.startsWith("petinfer-")));
  event.waitUntil(others.then((names) => Promise.all(names.map((name) => caches.delete(name)))));
  event.waitUntil(self.clients.claim());
});

/** From the device if it is there; the GPU's part, which most browsers do not need, is kept once it was used. */
async function answer(request) {
  const cache = await caches.open(VERSION);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept) return withHeaders(kept);
  const response = await fetch(request);
  const name = new URL(request.url).pathname.slice(new URL("./", self.location).pathname.length);
  if (response.ok && LATER.includes(name)) await cache.put(request, response.clone());
  return withHeaders(response);
}

function withHeaders(response) {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

self.addEventListener("fetch", (event) => {
  const own = new URL(event.request.url).origin === self.location.origin;
  if (own && event.request.method === "GET") event.respondWith(answer(event.request));
});
