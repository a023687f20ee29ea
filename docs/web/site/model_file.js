/** Reads a model file's description without onnxruntime; docs/model-file.md describes it. */

const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5]; // protobuf's wire types
const METADATA_PROPS = 14; // of onnx.ModelProto
const [KEY, VALUE] = [1, 2]; // of onnx.StringStringEntryProto
const FIELDS = {
  description: "schema labels resize orientation precision origin score parity golden sha256".split(" "),
  resize: "method size padding resample".split(" "),
};
// fields of schema 2, with what their absence means; of the outputs that some name, the page needs none
const OPTIONAL = { mode: "RGB", threshold: null, features: null, heat: null, familiarity: null };
const ALLOWED = {
  mode: ["RGB", "L"],
  method: ["crop", "squish", "pad"],
  padding: ["zeros", "border", "reflection"],
  resample: ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"],
  orientation: ["stored", "upright"],
  precision: ["fp32", "fp16", "int8"],
};

/** The number at `at`, seven bits a byte, the lowest first; and where it ends. */
function readVarint(bytes, at) {
  let value = 0;
  for (let factor = 1, i = at; i < at + 10 && i < bytes.length; factor *= 128, i++) {
    value += (bytes[i] & 127) * factor; // exact up to 2^53, far over a file's size
    if (bytes[i] < 128) return [value, i + 1];
  }
  throw new RangeError("a number without an end");
}

/** The fields of a protobuf message: [number, payload]; the payload is empty where it is a number. */
export function* fields(bytes) {
  let at = 0;
  while (at < bytes.length) {
    let tag;
    let length = 0;
    [tag, at] = readVarint(bytes, at);
    const kind = tag % 8;
    if (kind === VARINT) [, at] = readVarint(bytes, at);
    else if (kind === BYTES) [length, at] = readVarint(bytes, at);
    else if (kind === FIXED32) at += 4;
    else if (kind === FIXED64) at += 8;
    else throw new RangeError(`wire type ${kind} is none`);
    if (at + length > bytes.length) throw new RangeError("a field ends after its message");
    yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
    at += length;
  }
}

/** The metadata entry `petinfer` as text; undefined where there is none. */
function metadata(bytes) {
  let found;
  for (const [number, payload] of fields(bytes)) {
    if (number !== METADATA_PROPS) continue;
    const pair = new Map([...fields(payload)].map(([key, value]) => [key, new TextDecoder().decode(value)]));
    if (pair.get(KEY) === "petinfer") found = pair.get(VALUE) ?? "";
  }
  return found;
}

/** The description of a model file, given its bytes. Throws an error that says what is wrong. */
export function readDescription(bytes) {
  let entry;
  try {
    entry = metadata(bytes);
  } catch (error) {
    throw new Error("not an ONNX model, or damaged", { cause: error });
  }
  if (entry === undefined) throw new Error("has no description for petinfer (python -m export writes model files)");
  const description = JSON.parse(entry);
  const { schema } = description;
  if (schema !== 1 && schema !== 2) throw new Error(`its schema is ${schema}, not 1 or 2 (update this page)`);
  const complete = schema === 2 ? { ...OPTIONAL, ...description } : description;
  check(complete, schema === 2 ? [...FIELDS.description, ...Object.keys(OPTIONAL)] : FIELDS.description);
  return { ...OPTIONAL, ...complete };
}

function check(description, expected) {
  checkFields("metadata", description, expected);
  checkFields("resize", description.resize, FIELDS.resize);
  for (const [name, allowed] of Object.entries(ALLOWED)) {
    const value = { ...OPTIONAL, ...description, ...description.resize }[name];
    if (!allowed.includes(value)) throw new Error(`${name} is ${value}, not one of ${allowed.join(", ")}`);
  }
  const sides = description.resize.size;
  const isSide = (side) => Number.isInteger(side) && side > 0 && side < 65536;
  if (!Array.isArray(sides) || sides.length !== 2 || !sides.every(isSide)) {
    throw new Error(`resize.size is ${JSON.stringify(sides)}, not [height, width]`);
  }
  const { labels, threshold = null } = description;
  if (threshold !== null && !(typeof threshold === "number" && threshold >= 0 && threshold <= 1)) {
    throw new Error(`threshold is ${JSON.stringify(threshold)}, not 0 to 1`);
  }
  const least = threshold === null ? 2 : 1;
  if (!Array.isArray(labels) || labels.length < least || !labels.every((label) => typeof label === "string")) {
    throw new Error(`labels are not ${["one", "two"][least - 1]} or more texts`);
  }
  if (!/^[0-9a-f]{64}$/.test(description.sha256)) throw new Error("sha256 is not 64 hex digits");
}

function checkFields(name, content, expected) {
  const missing = expected.find((each) => !(each in Object(content)));
  if (missing) throw new Error(`its ${name} lacks ${missing} (export it again)`);
  const unknown = Object.keys(content).find((each) => !expected.includes(each));
  if (unknown) throw new Error(`its ${name} holds an unknown ${unknown} (update this page)`);
}

/** Where the digits of a digest are in the file. */
function* occurrences(bytes, digits) {
  const [first] = digits;
  for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (digits.every((digit, i) => bytes[at + i] === digit)) yield at;
  }
}

/** Hex sha256 of bytes; undefined where the page was not loaded over https or from this device. */
export async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return undefined;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether the file is as it was exported; undefined where the browser cannot tell. */
export async function isAsExported(bytes, digest) {
  const zeroed = bytes.slice();
  for (const at of occurrences(bytes, new TextEncoder().encode(digest))) zeroed.fill(0x30, at, at + 64);
  const found = await sha256(zeroed);
  return found && found === digest;
}
