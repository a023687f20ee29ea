/**
 * Decodes a PNG to the pixels of Pillow's convert("RGB").
 *
 * The browser's own decoder does not give them: a canvas blends colours with alpha, and 16-bit grey is rounded there but
 * limited to 255 in Pillow.
 */

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // by colour type
const WHOLE = [[0, 0, 1, 1]];
const ADAM7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
]; // of each pass: first column and row, and the steps between them

export const isPng = (bytes) => SIGNATURE.every((value, i) => bytes[i] === value);

/** The chunks of a PNG: [type, payload]. */
export function* chunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = SIGNATURE.length;
  while (at + 12 <= bytes.length) {
    const length = view.getUint32(at);
    const end = at + 8 + length;
    if (end + 4 > bytes.length) break; // cut off; what is missing is noticed below
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    // pixels have a checksum of their own, in their zlib stream
    if (type !== "IDAT" && crc32(bytes.subarray(at + 4, end)) !== view.getUint32(end)) throw new Error("damaged");
    yield [type, bytes.subarray(at + 8, end)];
    at = end + 4;
  }
}

/** PNG's checksum of a chunk's type and payload. */
function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** The header: {width, height, depth, colour, interlaced}. */
export function header(bytes) {
  const [type, payload] = chunks(bytes).next().value ?? [];
  if (type !== "IHDR" || payload.length < 13) throw new Error("damaged, its header cannot be read");
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const [depth, colour, interlaced] = [payload[8], payload[9], payload[12] === 1];
  const sound = colour in CHANNELS && [1, 2, 4, 8, 16].includes(depth);
  if (!sound) throw new Error(`a PNG of ${depth} bits and colour type ${colour}, which does not exist`);
  return { width: view.getUint32(0), height: view.getUint32(4), depth, colour, interlaced };
}

/** The first `size` bytes of a zlib stream. */
async function inflate(parts, size) {
  const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const result = new Uint8Array(size);
  let filled = 0;
  try {
    for (let { done, value } = await reader.read(); !done && filled < size; { done, value } = await reader.read()) {
      result.set(value.subarray(0, size - filled), filled);
      filled += Math.min(value.length, size - filled);
    }
  } catch (error) {
    if (filled < size) throw new Error("damaged, its pixels cannot be decompressed", { cause: error });
  }
  if (filled < size) throw new Error("cut short");
  return result;
}

function paeth(left, up, corner) {
  const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

/** Undo a row's filter in place; `before` is the row above, zeros for the first one. */
function unfilter(row, before, filter, step) {
  if (filter > 4) throw new Error(`damaged, filter ${filter} does not exist`);
  if (filter === 0) return;
  for (let i = 0; i < row.length; i++) {
    const left = i < step ? 0 : row[i - step];
    const corner = i < step ? 0 : before[i - step];
    if (filter === 1) row[i] += left;
    else if (filter === 2) row[i] += before[i];
    else if (filter === 3) row[i] += (left + before[i]) >> 1;
    else row[i] += paeth(left, before[i], corner);
  }
}

/** Samples of one row as 8 bits each, as Pillow unpacks them. */
function samples(row, count, { depth, colour }) {
  if (depth === 8) return row;
  if (depth === 16 && colour === 0) {
    return Uint8Array.from({ length: count }, (_, i) => (row[2 * i] > 0 ? 255 : row[2 * i + 1])); // limited to 255
  }
  if (depth === 16) return Uint8Array.from({ length: count }, (_, i) => row[2 * i]); // the high byte
  const largest = 2 ** depth - 1;
  const factor = colour === 3 ? 1 : 255 / largest;
  return Uint8Array.from({ length: count }, (_, i) => {
    const bit = i * depth;
    return ((row[bit >> 3] >> (8 - depth - (bit & 7))) & largest) * factor;
  });
}

/** Which sample of a pixel is its red, green and blue. */
const PLACES = { 0: [0, 0, 0], 2: [0, 1, 2], 3: [0, 0, 0], 4: [0, 0, 0], 6: [0, 1, 2] };

/** Decode a PNG: {width, height, channels: 3, data}. */
export async function decodePng(bytes) {
  const head = header(bytes);
  const parts = [];
  const palette = new Uint8Array(768); // black where the file has no entry, as in Pillow
  for (const [type, payload] of chunks(bytes)) {
    if (type === "PLTE" && head.colour === 3) palette.set(payload.subarray(0, 768));
    if (type === "IDAT") parts.push(payload);
  }
  const passes = (head.interlaced ? ADAM7 : WHOLE).map((pass) => ({ pass, ...sizeOf(pass, head) }));
  const raw = await inflate(parts, passes.reduce((sum, { width, height, stride }) => sum + (width && height * stride), 0));
  const data = new Uint8Array(head.width * head.height * 3);
  let at = 0;
  for (const { pass, width, height, stride } of passes) {
    let before = new Uint8Array(stride - 1);
    for (let y = 0; width > 0 && y < height; y++, at += stride) {
      const row = raw.subarray(at + 1, at + stride);
      unfilter(row, before, raw[at], Math.max(1, (CHANNELS[head.colour] * head.depth) >> 3));
      write(data, samples(row, width * CHANNELS[head.colour], head), { pass, width, y, head, palette });
      before = row;
    }
  }
  return { width: head.width, height: head.height, channels: 3, data };
}

/** Columns and rows of a pass, and the bytes of a row with its filter. */
function sizeOf([x, y, across, down], head) {
  const width = Math.ceil((head.width - x) / across);
  const height = Math.ceil((head.height - y) / down);
  return { width, height, stride: 1 + Math.ceil((width * CHANNELS[head.colour] * head.depth) / 8) };
}

function write(data, values, { pass: [x, y0, across, down], width, y, head, palette }) {
  const [red, green, blue] = PLACES[head.colour];
  const count = CHANNELS[head.colour];
  let to = ((y0 + y * down) * head.width + x) * 3;
  for (let i = 0; i < width * count; i += count, to += 3 * across) {
    const indexed = head.colour === 3;
    data[to] = indexed ? palette[3 * values[i]] : values[i + red];
    data[to + 1] = indexed ? palette[3 * values[i] + 1] : values[i + green];
    data[to + 2] = indexed ? palette[3 * values[i] + 2] : values[i + blue];
  }
}
