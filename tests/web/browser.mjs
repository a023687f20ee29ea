/** Headless Chromium with the built page, for the scripts beside this one. */

import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const WEB = fileURLToPath(new URL("../../docs/web/", import.meta.url));
const { chromium, devices } = createRequire(WEB)("playwright-core");
const QUIET = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];

export const IPHONE = { ...devices["iPhone 13"], defaultBrowserType: undefined };
export const PATIENCE = 120_000; // ms; this machine may be busy

/** The server of the built page: its address, a promise, and how to stop it. */
export function serve() {
  const server = spawn(process.execPath, [join(WEB, "serve.mjs"), "0"], { stdio: ["ignore", "pipe", "inherit"] });
  const address = new Promise((resolve, reject) => {
    server.stdout.once("data", (line) => resolve(String(line).split(" ")[0]));
    server.once("exit", () => reject(new Error("the server ended")));
  });
  return { address, stop: () => server.kill() };
}

/** Chromium, from the path in the environment variable CHROMIUM. */
export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", ...QUIET, ...CAMERA] });
}
