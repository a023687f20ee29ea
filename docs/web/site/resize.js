/**
 * From a decoded photo to the network's input: fastai's crop, squish or pad, then Pillow's Image.resize
 * (src/libImaging/Resample.c), bit for bit. docs/model-file.md describes both; its Python has the same function names.
 *
 * An image is {width, height, channels, stride, data}: uint8, row by row from the top, `stride` bytes apart (without it,
 * one row follows the other); only the first three channels are read.
 */

const BITS = 22; // Pillow's PRECISION_BITS, 32 - 8 - 2: fractional bits of a weight

/** Left, top, width and height of the window that is resized; left and top are negative where it is padded. */
export function cropWindow(w, h, width, height, method) {
  const choose = method === "pad" ? Math.max : Math.min;
  const scale = choose(w / width, h / height); // fastai's expression: 115 px wide gives 114
  const across = Math.trunc(scale * width);
  const down = Math.trunc(scale * height);
  return [Math.trunc(0.5 * (w - across)), Math.trunc(0.5 * (h - down)), across, down];
}

/** Where each place of a window comes from along one side of the photo; -1 is black. */
function places(first, count, length, padding) {
  const period = Math.max(1, 2 * (length - 1)); // a reflection does not repeat the edge
  return Int32Array.from({ length: count }, (_, i) => {
    const at = first + i;
    if (at >= 0 && at < length) return at;
    if (padding === "zeros") return -1;
    if (padding === "border") return at < 0 ? 0 : length - 1;
    const turned = ((at % period) + period) % period;
    return turned < length ? turned : period - turned;
  });
}

const strideOf = ({ width, channels, stride }) => stride ?? width * channels;

/** The part of the photo that is resized: the photo's own bytes, unless it is padded. */
export function cut(image, { width, height, method, padding }) {
  if (method === "squish") return image;
  const [left, top, across, down] = cropWindow(image.width, image.height, width, height, method);
  if (method === "pad") return padded(image, left, top, across, down, padding);
  const stride = strideOf(image);
  const data = image.data.subarray(top * stride + left * image.channels);
  return { width: across, height: down, channels: image.channels, stride, data };
}

function padded(image, left, top, across, down, padding) {
  if (across * down > 2 ** 27) throw new Error(`padding would make ${across} x ${down} px of it`);
  const columns = places(left, across, image.width, padding);
  const rows = places(top, down, image.height, padding);
  const data = new Uint8Array(across * down * 3);
  let to = 0;
  for (const row of rows) {
    for (const column of columns) {
      const from = row * strideOf(image) + column * image.channels;
      if (row >= 0 && column >= 0) data.set(image.data.subarray(from, from + 3), to);
      to += 3;
    }
  }
  return { width: across, height: down, channels: 3, data };
}

/** The RGB bytes of an image, row after row. */
function rgb(image) {
  const { width, height, channels, data } = image;
  const result = new Uint8Array(width * height * 3);
  let to = 0;
  for (let y = 0; y < height; y++) {
    let from = y * strideOf(image);
    for (let x = 0; x < width; x++, from += channels, to += 3) {
      result[to] = data[from];
      result[to + 1] = data[from + 1];
      result[to + 2] = data[from + 2];
    }
  }
  return result;
}

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

function hamming(x) {
  const [a, b] = [Math.fround(0.54), Math.fround(0.46)]; // Pillow's constants are single precision
  return Math.abs(x) < 1 ? sinc(Math.abs(x)) * (a + b * Math.cos(Math.abs(x) * Math.PI)) : 0;
}

function bicubic(value) {
  const x = Math.abs(value);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/** How far each filter reaches, and its value at x. */
const FILTERS = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  hamming: [1, hamming],
  bicubic: [2, bicubic],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

/** For each output pixel its first input pixel, and the integer weights from there on: precompute_coeffs. */
function fixedPointWeights(length, size, resample) {
  const [reach, value] = FILTERS[resample];
  const scale = length / size;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: size }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(center - reach * stretch + 0.5), 0);
    const end = Math.min(Math.trunc(center + reach * stretch + 0.5), length);
    const weights = new Float64Array(end - first).map((_, x) => value((x + first - center + 0.5) * (1 / stretch)));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return [first, Int32Array.from(weights, (w) => Math.trunc((w < 0 ? -0.5 : 0.5) + (w / total) * 2 ** BITS))];
  });
}

/** The nearest filter takes one input pixel for each output pixel, without arithmetic on its value. */
function nearestPixels(length, size) {
  const scale = length / size;
  let place = 0.5 * scale;
  return Array.from({ length: size }, () => {
    const first = Math.trunc(place);
    place += scale; // added up, not multiplied: Pillow's rounding
    return [first, Int32Array.of(2 ** BITS)];
  });
}

/** One pass: changes the width, or the height, to `size`. A pass that changes nothing is skipped. */
function pass(image, size, resample, vertical) {
  const { width, height, channels, data } = image;
  const [length, lines] = vertical ? [height, width] : [width, height];
  if (length === size) return image;
  const [step, lineStep] = vertical ? [strideOf(image), channels] : [channels, strideOf(image)];
  const [outStep, outLineStep] = vertical ? [3 * width, 3] : [3, 3 * size];
  const out = new Uint8ClampedArray(size * lines * 3);
  const taps = resample === "nearest" ? nearestPixels(length, size) : fixedPointWeights(length, size, resample);
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < size; i++) {
      const [first, weights] = taps[i];
      let red = 1 << (BITS - 1);
      let green = red;
      let blue = red;
      let at = line * lineStep + first * step;
      for (let x = 0; x < weights.length; x++, at += step) {
        red = (red + Math.imul(data[at], weights[x])) | 0;
        green = (green + Math.imul(data[at + 1], weights[x])) | 0;
        blue = (blue + Math.imul(data[at + 2], weights[x])) | 0;
      }
      const to = line * outLineStep + i * outStep;
      out[to] = red >> BITS; // clamped to 0 to 255 by the array
      out[to + 1] = green >> BITS;
      out[to + 2] = blue >> BITS;
    }
  }
  return { width: vertical ? width : size, height: vertical ? size : height, channels: 3, data: out };
}

/** Pillow's Image.resize; a pass makes an image of three channels. */
function resize(image, width, height, resample) {
  if (image.width * image.height === 0) {
    return { width, height, channels: 3, data: new Uint8Array(width * height * 3) }; // an empty window gives black
  }
  const heightFirst = image.height - height > Math.max(0, 2 * (image.width - width)); // Pillow 13
  if (heightFirst) return pass(pass(image, height, resample, true), width, resample, false);
  return pass(pass(image, width, resample, false), height, resample, true);
}

/** The image as Pillow's convert("L") makes it grey, repeated in three channels. */
function grey(image) {
  const data = rgb(image);
  for (let i = 0; i < data.length; i += 3) {
    data.fill((19595 * data[i] + 38470 * data[i + 1] + 7471 * data[i + 2] + 2 ** 15) >> 16, i, i + 3);
  }
  return { width: image.width, height: image.height, channels: 3, data };
}

/** The bytes of an image in a model's mode: three channels for RGB, one for L. */
export function bytesOf(image, mode) {
  return mode === "L" ? rgb(grey(image)).filter((_, i) => i % 3 === 0) : rgb(image);
}

/** The network's input for a decoded photo, as the model file describes it: uint8 [height, width, channels]. */
export function pixels(image, { mode, ...to }) {
  const { width, height, resample } = to;
  const result = resize(cut(mode === "L" ? grey(image) : image, to), width, height, resample);
  return bytesOf(result, mode); // grey stays as it is
}
