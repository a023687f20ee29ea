/** The orientation that a photo's EXIF or XMP asks for, as Pillow's getexif() finds it. */

import { app1, isJpeg } from "./jpeg.js";
import { chunks, isPng } from "./png.js";
import { chunks as webpChunks, isWebp } from "./webp.js";

const ORIENTATION = 0x0112;
const EXIF = "Exif\0\0";
const XMP = "http://ns.adobe.com/xap/1.0/\0";
const PNG_XMP = "XML:com.adobe.xmp\0";
const READERS = { 1: (view, at) => view.getUint8(at), 3: (view, at, little) => view.getUint16(at, little) };
READERS[4] = (view, at, little) => view.getUint32(at, little);

const text = (bytes) => new TextDecoder("latin1").decode(bytes);
const startsWith = (bytes, prefix) => text(bytes.subarray(0, prefix.length)) === prefix;

/** The orientation in an EXIF block, a TIFF file of its own; undefined where it has none. */
function orientationIn(block) {
  const bytes = startsWith(block, EXIF) ? block.subarray(EXIF.length) : block;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const little = startsWith(bytes, "II");
  const directory = view.getUint32(4, little);
  const count = view.getUint16(directory, little);
  for (let entry = directory + 2; entry < directory + 2 + 12 * count; entry += 12) {
    if (view.getUint16(entry, little) !== ORIENTATION) continue;
    const read = READERS[view.getUint16(entry + 2, little)];
    return read && view.getUint32(entry + 4, little) === 1 ? read(view, entry + 8, little) : 1;
  }
  return undefined;
}

/** The EXIF block and the XMP text of a photo; undefined where it has none. */
function blocks(bytes) {
  if (isJpeg(bytes)) {
    const segments = app1(bytes);
    const xmp = segments.find((each) => startsWith(each, XMP));
    return [segments.find((each) => startsWith(each, EXIF)), xmp && text(xmp)];
  }
  if (isPng(bytes)) {
    const found = [...chunks(bytes)];
    const xmp = found.find(([type, payload]) => type === "iTXt" && startsWith(payload, PNG_XMP));
    return [found.find(([type]) => type === "eXIf")?.[1], xmp && text(xmp[1])];
  }
  if (isWebp(bytes)) {
    const found = [...webpChunks(bytes)];
    const xmp = found.find(([type]) => type === "XMP ");
    return [found.find(([type]) => type === "EXIF")?.[1], xmp && text(xmp[1])];
  }
  return [undefined, undefined];
}

/** 1 to 8; 1 where the photo asks for nothing, or in a way that cannot be read. */
export function orientationOf(bytes) {
  try {
    const [exif, xmp] = blocks(bytes);
    const value = (exif && orientationIn(exif)) ?? Number(xmp?.match(/tiff:Orientation(?:="|>)([0-9])/)?.[1] ?? 1);
    return value >= 1 && value <= 8 ? value : 1;
  } catch (error) {
    if (error instanceof RangeError) return 1; // a damaged block asks for nothing
    throw error;
  }
}

/** The image turned as an orientation of 1 to 8 asks: the table in docs/model-file.md. */
export function turn(image, orientation) {
  if (orientation === 1) return image;
  const { width: w, height: h, channels, data } = image;
  const swapped = orientation >= 5;
  const [width, height] = swapped ? [h, w] : [w, h];
  const mirrored = [2, 3, 6, 7].includes(orientation); // columns of the result run against the source
  const flipped = [3, 4, 7, 8].includes(orientation); // its rows do
  const out = new Uint8Array(data.length);
  let to = 0;
  for (let y = 0; y < height; y++) {
    const row = flipped ? height - 1 - y : y;
    for (let x = 0; x < width; x++, to += channels) {
      const column = mirrored ? width - 1 - x : x;
      const from = (swapped ? column * w + row : row * w + column) * channels;
      for (let channel = 0; channel < channels; channel++) out[to + channel] = data[from + channel];
    }
  }
  return { width, height, channels, data: out };
}
