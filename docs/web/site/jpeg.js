/**
 * Decodes a JPEG with libjpeg-turbo, compiled to WebAssembly (npm: @cwasm/jpeg-turbo), to the pixels of Pillow's
 * convert("RGB"). Browsers have decoders of their own, which may round differently, and turn or recolour the photo.
 */

const [TJPF_RGB, TJPF_CMYK] = [0, 11]; // TurboJPEG's numbers; flags 0 are the accurate DCT and smooth upsampling
const [SOS, EOI, APP1] = [0xda, 0xd9, 0xe1];
const NOT_FRAMES = [0xc4, 0xc8, 0xcc]; // of 0xc0 to 0xcf
const ALONE = (marker) => marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8); // without a length

export const isJpeg = (bytes) => bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;

/** The segments up to the first scan: [marker, payload]. */
function* segments(bytes) {
  let at = 2;
  while (at + 4 <= bytes.length) {
    if (bytes[at] !== 0xff) at += 1; // filling that libjpeg skips, too
    else if (bytes[at + 1] === 0xff) at += 1;
    else if (ALONE(bytes[at + 1])) at += 2;
    else {
      const end = at + 2 + ((bytes[at + 2] << 8) | bytes[at + 3]);
      yield [bytes[at + 1], bytes.subarray(at + 4, end)];
      if (bytes[at + 1] === SOS) return;
      at = end;
    }
  }
}

/** The size of a JPEG and its number of channels: {width, height, components}. */
export function header(bytes) {
  for (const [marker, payload] of segments(bytes)) {
    if (marker >= 0xc0 && marker <= 0xcf && !NOT_FRAMES.includes(marker)) {
      const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
      return { height: view.getUint16(1), width: view.getUint16(3), components: payload[5] };
    }
  }
  throw new Error("damaged, its header cannot be read");
}

/** The payloads of a JPEG's APP1 segments, where EXIF and XMP are. */
export function app1(bytes) {
  return [...segments(bytes)].filter(([marker]) => marker === APP1).map(([, payload]) => payload);
}

/** Whether the photo ends: Pillow refuses one that was cut short, where libjpeg would fill it with grey. */
function isComplete(bytes) {
  for (let at = bytes.lastIndexOf(EOI); at > 0; at = bytes.lastIndexOf(EOI, at - 1)) {
    if (bytes[at - 1] === 0xff) return true;
  }
  return false;
}

const refuse = (name) => () => {
  throw new Error(`damaged, or of a kind that libjpeg-turbo cannot decode (${name})`);
};

/** What the compiled library asks of its surroundings: it reports an error by longjmp, and touches no files. */
const IMPORTS = {
  env: { setjmp: () => 0, longjmp: refuse("error") },
  wasi_snapshot_preview1: {
    environ_sizes_get: () => 0,
    environ_get: () => 0,
    proc_exit: refuse("exit"),
    fd_close: () => 0,
    fd_seek: () => 0,
    fd_write: () => 0,
  },
};

/** Memory of the library, or an error that says what there is too little of. */
function allocate(library, size) {
  const at = library.malloc(size);
  if (at === 0) throw new Error("too large for this browser's memory");
  return at;
}

/** Decode a JPEG with the compiled library, a WebAssembly.Module: {width, height, channels, data}. */
export function decodeJpeg(bytes, module) {
  const { width, height, components } = header(bytes);
  if (!isComplete(bytes)) throw new Error("cut short");
  const library = new WebAssembly.Instance(module, IMPORTS).exports; // a new one: an error leaves the last one unusable
  const channels = components === 4 ? 4 : 3;
  const input = allocate(library, bytes.length);
  new Uint8Array(library.memory.buffer).set(bytes, input);
  const output = allocate(library, width * height * channels);
  const format = components === 4 ? TJPF_CMYK : TJPF_RGB;
  const handle = library.tjInitDecompress();
  // the result is not 0 after a warning, too; Pillow ignores warnings, and errors do not return
  library.tjDecompress2(handle, input, bytes.length, output, width, width * channels, height, format, 0);
  const data = new Uint8Array(library.memory.buffer, output, width * height * channels);
  if (components === 4) fromCmyk(data);
  return { width, height, channels, data };
}

/** From CMYK as Adobe stores it, inverted, to RGB in the first three channels; as Pillow rounds. */
function fromCmyk(data) {
  for (let i = 0; i < data.length; i += 4) {
    const light = data[i + 3];
    for (let channel = i; channel < i + 3; channel++) {
      data[channel] = light - Math.round(((255 - data[channel]) * light) / 255);
    }
  }
}
