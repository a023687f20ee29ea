/** Decodes a WebP with libwebp, compiled to WebAssembly (npm: @jsquash/webp): the pixels of Pillow's convert("RGB"). */

const at4 = (bytes, at) => String.fromCharCode(...bytes.subarray(at, at + 4));

export const isWebp = (bytes) => at4(bytes, 0) === "RIFF" && at4(bytes, 8) === "WEBP";

/** The chunks of a WebP: [type, payload]. */
export function* chunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 12;
  while (at + 8 <= bytes.length) {
    const length = view.getUint32(at + 4, true);
    yield [at4(bytes, at), bytes.subarray(at + 8, at + 8 + length)];
    at += 8 + length + (length & 1);
  }
}

/** Decode a WebP with the compiled library: {width, height, channels: 4, data}; alpha is the fourth channel. */
export function decodeWebp(bytes, library) {
  const decoded = library.decode(bytes);
  if (!decoded) throw new Error("damaged, or an animation");
  return { width: decoded.width, height: decoded.height, channels: 4, data: decoded.data };
}

/** The library, from its compiled module and the function that its package exports. */
export function openLibrary(module, create) {
  const instantiateWasm = (imports, done) => {
    const instance = new WebAssembly.Instance(module, imports);
    done(instance);
    return instance.exports;
  };
  return create({ noInitialRun: true, instantiateWasm });
}
