/** Decodes a photo's bytes: a JPEG, PNG or WebP to petinfer's pixels, anything else as the browser does. */

import { orientationOf, turn } from "./exif.js";
import { decodeJpeg, header as jpegHeader, isJpeg } from "./jpeg.js";
import { decodePng, header as pngHeader, isPng } from "./png.js";
import { decodeWebp, isWebp } from "./webp.js";

const MAX_PIXELS = 100_000_000;

/**
 * Decode a photo: {width, height, channels, data}.
 *
 * `orientation` is the model's: `upright` turns the photo as it asks, `stored` does not. `libraries` has three functions:
 * `jpeg` and `webp` load the compiled decoders, `other` decodes what is neither.
 */
export async function decodePhoto(bytes, orientation, libraries) {
  if (bytes.length === 0) throw new Error("empty, 0 bytes");
  let image;
  if (isJpeg(bytes)) {
    requirePixels(jpegHeader(bytes));
    image = decodeJpeg(bytes, await libraries.jpeg());
  } else if (isPng(bytes)) {
    requirePixels(pngHeader(bytes));
    image = await decodePng(bytes);
  } else if (isWebp(bytes)) {
    image = decodeWebp(bytes, await libraries.webp());
  } else {
    image = await libraries.other(bytes);
  }
  return orientation === "upright" ? turn(image, orientationOf(bytes)) : image;
}

function requirePixels({ width, height }) {
  if (width * height === 0) throw new Error(`${width} x ${height} px, without a pixel`);
  if (width * height > MAX_PIXELS) throw new Error(`${width} x ${height} px, over the limit of 100 megapixels`);
}
