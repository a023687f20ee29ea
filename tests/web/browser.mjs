/** Headless Chromium with the built page, for the scripts beside this one. */

import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const WEB = fileURLToPath(new URL("../../docs/web/", import.meta.url));
const { chromium, devices } = createRequire(WEB)("playwright-core");
const QUIET = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];

export const IPHONE = { ...devices["iPhone 13"], defaultBrowserType: undefined };
export const PATIENCE = 120_000; // ms; this machine may be busy

/** The server of a built page: its address, a promise, and how to stop it. */
export function serve(folder) {
  const server = spawn(process.execPath, [join(WEB, "serve.mjs"), "0", folder], { stdio: ["ignore", "pipe", "inherit"] });
  const address = new Promise((resolve, reject) => {
    server.stdout.once("data", (line) => resolve(String(line).split(" ")[0]));
    server.once("exit", () => reject(new Error("the server ended")));
  });
  return { address, stop: () => server.kill() };
}

/** Chromium, from the path in the environment variable CHROMIUM. */
export function launch(...flags) {
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", ...QUIET, ...CAMERA, ...flags] });
}

async function sha256OfInput(page) {
  return page.evaluate(async () => {
    const canvas = document.getElementById("input");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const rgb = data.filter((_, i) => i % 4 < 3);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", rgb));
    return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  });
}

/** What the page shows of the answer, once it is there. */
export async function shown(page, name) {
  await page.waitForFunction((name) => document.body.dataset.answered === name, name);
  const text = (id) => page.textContent(`#${id}`);
  return { label: await text("label"), probability: await text("probability"), pixels: await sha256OfInput(page) };
}

export async function give(page, path) {
  await page.setInputFiles("#file", path);
  return shown(page, basename(path));
}
