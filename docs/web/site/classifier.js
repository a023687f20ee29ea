/** A model file in onnxruntime-web, on WebGPU or WebAssembly. */

const VENDOR = new URL("./vendor/", import.meta.url).href;

/** Whether the browser reaches a GPU; a GPU that is computed on the processor is slower than WebAssembly. */
export async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

/** A loaded model. */
export class Classifier {
  /** Load a model file's bytes on `wasm` or `webgpu`; `threads` are those of wasm. */
  static async open(bytes, description, device, threads) {
    const ort = await import(device === "webgpu" ? "./vendor/ort.webgpu.bundle.min.mjs" : "./vendor/ort.wasm.bundle.min.mjs");
    ort.env.wasm.wasmPaths = VENDOR;
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    const session = await ort.InferenceSession.create(bytes, { executionProviders: [device] });
    const classifier = new Classifier(ort, session, description, device, threads);
    await classifier.run(new Uint8Array(classifier.shape.reduce((size, side) => size * side))); // also compiles
    return classifier;
  }

  constructor(ort, session, description, device, threads) {
    Object.assign(this, { ort, session, description, device, threads });
  }

  /** How a photo becomes the network's input: what the functions of resize.js ask for. */
  get resize() {
    const { size, ...rest } = this.description.resize;
    return { height: size[0], width: size[1], mode: this.description.mode, ...rest };
  }

  /** Height, width and channels of the network's input. */
  get shape() {
    return [...this.description.resize.size, this.description.mode === "L" ? 1 : 3];
  }

  /** The probabilities, Float32Array [classes], of an input of the network, uint8 [height, width, channels]. */
  async run(pixels) {
    const image = new this.ort.Tensor("uint8", pixels, [1, ...this.shape]);
    const { probabilities } = await this.session.run({ image }, ["probabilities"]);
    return probabilities.getData();
  }

  close() {
    return this.session.release();
  }
}
