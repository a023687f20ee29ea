/** The page: takes a photo, hands it to the worker, shows the answer. */

import { decided } from "./decision.js";

const TOP = 5; // classes that are shown
const element = (id) => document.getElementById(id);
const percent = (probability) => `${(100 * probability).toFixed(2)} %`;
const milliseconds = (time) => `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`;

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let calls = 0;

worker.onmessage = ({ data: { id, result, error } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(result);
  else reject(new Error(error));
};
worker.onerror = (event) => fail(`this browser cannot run the page: ${event.message ?? "its worker does not start"}`);

/** Let the worker do a task; `moved` are buffers that it gets without a copy. */
function ask(task, argument, moved = []) {
  const id = calls++;
  worker.postMessage({ id, task, argument }, moved);
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

/** Show a message; `spoken` is for screen readers alone, as the page shows it elsewhere. */
function say(message, spoken = "") {
  element("status").className = "status";
  element("status").replaceChildren(message, withText("span", spoken, "unseen"));
}

function fail(message) {
  element("loading").hidden = true;
  element("status").className = "status bad";
  element("status").textContent = message;
}

/** One thread on iOS, where the memory that threads share runs out; elsewhere only an isolated page can share memory. */
function threads() {
  const ios = /iPad|iPhone|iPod/.test(navigator.userAgent) || (/Mac/.test(navigator.platform) && navigator.maxTouchPoints > 1);
  return ios || !self.crossOriginIsolated ? 1 : Math.min(4, navigator.hardwareConcurrency ?? 1);
}

/** The bytes of a file that is loaded, with the progress shown. */
async function load(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status} (build this page again)`);
  const size = Number(response.headers.get("content-length"));
  const parts = [];
  let loaded = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    loaded += value.length;
    if (size) element("loading").value = loaded / size;
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

let orientation = "upright";

/** Open a model file; `name` is shown in errors. */
async function openModel(name, bytes) {
  const model = await bytes;
  say("Preparing the model …");
  element("loading").removeAttribute("value");
  const device = new URLSearchParams(location.search).get("device") ?? "auto";
  const opened = await ask("open", { model, device, threads: threads() }, [model.buffer]);
  orientation = opened.description.orientation;
  element("loading").hidden = true;
  showModel(name, opened);
  document.body.dataset.ready = opened.device;
  say("Ready: choose a photo.");
  return opened;
}

function showModel(name, { description, asExported, size, device, threads: used, note }) {
  const { labels, resize, precision, sha256 } = description;
  const [height, width] = resize.size;
  const where = device === "webgpu" ? "WebGPU" : `WebAssembly, ${used === 1 ? "1 thread" : `${used} threads`}`;
  const seal = { true: "as exported", false: "damaged or edited", undefined: "not checked: needs https" }[asExported];
  const facts = {
    File: `${name}, ${(size / 1e6).toFixed(1)} MB`,
    Labels: labels.length > 12 ? `${labels.slice(0, 12).join(", ")}, … (${labels.length})` : labels.join(", "),
    Input: `${width} × ${height}, ${resize.method}, ${resize.resample}, ${description.orientation}, ${description.mode}`,
    Network: `${description.origin.architecture ?? "unknown"}, ${precision}`,
    "Runs on": note ? `${where} (${note})` : where,
    sha256: `${sha256} (${seal})`,
  };
  element("facts").replaceChildren(
    ...Object.entries(facts).flatMap(([title, fact]) => [withText("dt", title), withText("dd", fact)]),
  );
  element("summary").textContent = `· ${labels.length} labels, ${(size / 1e6).toFixed(1)} MB, ${seal}`;
  element("summary").classList.toggle("bad", asExported === false);
  element("verified").textContent = "";
  element("model").hidden = false;
}

function withText(tag, text, name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = name;
  return made;
}

function showAnswer({ probabilities, times, input, labels, threshold, size }) {
  const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  const chosen = decided(probabilities, threshold);
  element("label").textContent = chosen.map((i) => labels[i]).join(", ") || "none";
  element("probability").textContent = chosen.map((i) => percent(probabilities[i])).join(", ");
  element("bars").replaceChildren(...order.slice(0, TOP).map((i) => bar(labels[i], probabilities[i])));
  showInput(input, size);
  showTimes(times);
  element("answer").hidden = false;
}

function bar(label, probability) {
  const item = document.createElement("li");
  const track = withText("div", "", "track");
  const fill = withText("div", "", "fill");
  fill.style.width = `${100 * probability}%`;
  track.append(fill);
  item.append(withText("span", label, "name"), withText("span", percent(probability), "value"), track);
  return item;
}

/** Draw what the network received: uint8 [height, width, channels]. */
function showInput(input, [height, width]) {
  const canvas = element("input");
  [canvas.width, canvas.height] = [width, height];
  const shown = new ImageData(width, height);
  const channels = input.length / (width * height);
  for (let i = 0; i < width * height; i++) {
    for (let channel = 0; channel < 3; channel++) {
      shown.data[4 * i + channel] = input[channels * i + Math.min(channel, channels - 1)]; // grey is repeated
    }
    shown.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(shown, 0, 0);
}

function showTimes(times) {
  const rows = Object.entries(times);
  element("split").replaceChildren(
    ...rows.map(([name, time]) => {
      const part = withText("span", "", name);
      part.style.flex = `${Math.max(time, 0.01)} 0 0`;
      return part;
    }),
  );
  const total = rows.reduce((sum, [, time]) => sum + time, 0);
  element("times").replaceChildren(
    ...[...rows, ["total", total]].flatMap(([name, time]) => [
      withText("dt", name[0].toUpperCase() + name.slice(1), name),
      withText("dd", milliseconds(time)),
    ]),
  );
}

let model; // a promise: a photo that comes before the model is ready waits for it
let shown = 0;

/** Classify a photo; `source` is {bytes} or {image}, `picture` a Blob to show. */
async function classify(name, source, picture) {
  const mine = ++shown; // of two photos at once, the later one is shown
  stopCamera();
  showPhoto(name, picture);
  element("answer").hidden = true;
  delete document.body.dataset.answered;
  try {
    const { description } = await model;
    say("Classifying …");
    const answer = await ask("classify", source);
    if (mine !== shown) return;
    showAnswer({ ...answer, labels: description.labels, threshold: description.threshold, size: description.resize.size });
    say(`${name}, ${answer.width} × ${answer.height}`, `: ${element("label").textContent} ${element("probability").textContent}`);
    document.body.dataset.answered = name;
  } catch (error) {
    if (mine === shown) fail(`${name}: ${error.message}`);
  }
}

function showPhoto(name, picture) {
  const photo = element("photo");
  URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(picture);
  photo.alt = `The photo ${name}`;
  photo.classList.toggle("stored", orientation === "stored"); // shown as the model sees it
  photo.hidden = false;
  element("invitation").hidden = true;
  element("drop").classList.add("filled");
}

/** A dropped, pasted or chosen file: a photo, or a model. */
async function take(file) {
  if (!file) return;
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (file.name.toLowerCase().endsWith(".onnx")) await takeModel(file.name, bytes);
  else await classify(file.name, { bytes }, file);
}

async function takeModel(name, bytes) {
  const before = model;
  element("loading").hidden = false;
  element("answer").hidden = true;
  try {
    model = openModel(name, bytes);
    await model;
  } catch (error) {
    model = before; // the worker keeps it, too
    fail(`${name}: ${error.message}`);
  }
}

let stream;

async function startCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch (error) {
    fail(`The camera cannot be used: ${error.message}`);
    return;
  }
  const video = element("video");
  video.srcObject = stream;
  await video.play();
  video.hidden = false;
  element("photo").hidden = true;
  element("invitation").hidden = true;
  element("camera").textContent = "Take it";
}

function stopCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = undefined;
  element("video").hidden = true;
  element("camera").textContent = "Camera";
}

/** Classify what the camera shows now. */
async function takePicture() {
  const video = element("video");
  const [width, height] = [video.videoWidth, video.videoHeight];
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const picture = await new Promise((resolve) => canvas.toBlob(resolve));
  await classify("camera", { image: { width, height, channels: 4, data } }, picture);
}

async function useSample() {
  const response = await fetch("sample.jpg");
  await take(new File([await response.blob()], "chelsea.jpg"));
}

async function showVerdict() {
  const verified = element("verified");
  verified.className = "";
  verified.textContent = "Verifying …";
  element("verify").disabled = true;
  try {
    await model;
    const { checks, failures } = await ask("verify");
    const same = checks.filter((each) => each.pixelsEqual).length;
    const moved = Math.max(...checks.map((each) => each.moved));
    const summary = `${checks.length} golden photos: ${same} with identical pixels, largest difference in a probability`;
    verified.textContent = failures.length ? failures.join("; ") : `Passed. ${summary} ${moved.toExponential(1)}.`;
    verified.className = failures.length ? "bad" : "";
  } catch (error) {
    verified.className = "bad";
    verified.textContent = error.message;
  }
  element("verify").disabled = false;
}

function listen() {
  const drop = element("drop");
  element("choose").onclick = () => element("file").click();
  element("file").onchange = (event) => take(event.target.files[0]).then(() => (event.target.value = ""));
  element("camera").onclick = () => (stream ? takePicture() : startCamera());
  drop.onclick = (event) => {
    if (!stream) return; // a click opens the list of files
    event.preventDefault();
    takePicture();
  };
  element("camera").hidden = !navigator.mediaDevices?.getUserMedia;
  element("sample").onclick = useSample;
  element("verify").onclick = showVerdict;
  element("other").onclick = () => element("model-file").click();
  element("model-file").onchange = (event) => take(event.target.files[0]).then(() => (event.target.value = ""));
  document.ondragover = (event) => {
    event.preventDefault();
    drop.classList.add("over");
  };
  document.ondragleave = () => drop.classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files[0]);
  };
  document.onpaste = (event) => take(event.clipboardData.files[0]);
}

/** Keep the page and the model on this device, once they are loaded. */
async function stayOffline() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("service-worker.js");
    await navigator.serviceWorker.ready;
    element("offline").hidden = false;
  } catch (error) {
    console.warn(`not available offline: ${error.message}`);
  }
}

listen();
element("model").open = matchMedia("(min-width: 50rem)").matches; // on a phone the answer comes first
model = load("model.onnx").then((bytes) => openModel("model.onnx", bytes));
model.catch((error) => fail(error.message)).then(stayOffline);
