// Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
// Loads the model and scores images beside the page, which stays responsive.

import { findRegions, resizeMap } from "./maps.js";
import { normalise, resizeImage } from "./resize.js";
import { combineScores } from "./scores.js";

const MAX_THREADS = 4; // more do not make a single image faster

let settings, ort, session, runtime, map, size;

/** Load a file of this folder; report how many bytes have arrived. */
async function load(name, report = () => {}) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} could not be loaded (status ${response.status}).`);
  const parts = [];
  let bytes = 0;
  for (let reader = response.body.getReader(), part; !(part = await reader.read()).done; ) {
    parts.push(part.value);
    report((bytes += part.value.length));
  }
  return new Blob(parts);
}

/** Decompress a file, unless the server has declared it as compressed and the browser has done so. */
async function decompress(file) {
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  const isCompressed = first === 0x1f && second === 0x8b;
  const stream = isCompressed ? file.stream().pipeThrough(new DecompressionStream("gzip")) : file.stream();
  return new Response(stream).arrayBuffer();
}

/** Return whether there is a GPU; a processor that imitates one is slower than WebAssembly. */
async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

async function createSession(kind, model, binary) {
  const build = settings.runtime[kind];
  ort = await import(`./${build.api}`);
  const threads = self.crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency) : 1;
  Object.assign(ort.env.wasm, { numThreads: threads, wasmBinary: await decompress(binary) });
  ort.env.wasm.wasmPaths = { mjs: new URL(build.loader, import.meta.url).href };
  session = await ort.InferenceSession.create(model, { executionProviders: [kind], logSeverityLevel: 3 });
  runtime = kind === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  if (kind === "webgpu") {
    const [height, width] = settings.image_size;
    const { score } = await run(new Float32Array(3 * height * width)); // compiles the shaders
    if (!Number.isFinite(score)) throw new Error("its result is no number");
  }
}

async function run(pixelValues) {
  const [height, width] = settings.image_size;
  const input = new ort.Tensor("float32", pixelValues, [1, 3, height, width]);
  const outputs = await session.run({ pixel_values: input }, ["image_scores", "anomaly_maps"]);
  return { score: outputs.image_scores.data[0], values: Float32Array.from(outputs.anomaly_maps.data) };
}

async function start(given) {
  settings = given.settings;
  const kind = given.runtime ?? ((await hasGpu()) ? "webgpu" : "wasm");
  const [[name, bytes]] = Object.entries(settings.files);
  const files = [{ name, bytes }, settings.runtime[kind].binary];
  const total = bytes + files[1].bytes;
  const arrived = [0, 0];
  const [file, binary] = await Promise.all(
    files.map(({ name }, index) =>
      load(name, (done) => {
        arrived[index] = done;
        postMessage({ type: "progress", share: Math.min((arrived[0] + arrived[1]) / total, 1), total });
      }),
    ),
  );
  if (file.size !== bytes) throw new Error(`${name} has ${file.size} bytes; expected ${bytes}. Copy it to the server again.`);
  const model = new Uint8Array(await file.arrayBuffer());
  try {
    await createSession(kind, model, binary);
  } catch (error) {
    if (kind === "wasm") throw error;
    console.warn(`WebGPU does not work here (${error.message}); going on with WebAssembly.`);
    await createSession("wasm", model, await load(settings.runtime.wasm.binary.name));
  }
  postMessage({ type: "ready", runtime });
}

async function score({ bitmap, threshold }) {
  const begin = performance.now();
  const [height, width] = settings.image_size;
  const { mean, std } = settings.preprocessing;
  const result = await run(normalise(resizeImage(bitmap, height, width), mean, std));
  map = { values: result.values, height, width };
  size = [bitmap.height, bitmap.width];
  bitmap.close();
  const combined = combineScores(result.score, result.values, settings.map_maximum, settings.image_score);
  const milliseconds = performance.now() - begin;
  postMessage({ type: "scored", score: combined, map, milliseconds, ...describe({ threshold }) });
}

/** Find the regions at the size of the image. */
function describe({ threshold }) {
  const full = resizeMap(map, ...size);
  const peak = full.values.reduce((highest, value) => Math.max(highest, value), 0);
  return { regions: findRegions(full, threshold), peak, threshold };
}

const actions = {
  start,
  score,
  regions: (message) => postMessage({ type: "regions", ...describe(message) }),
};

let queue = Promise.resolve(); // one thing at a time, in order
self.onmessage = ({ data }) => {
  queue = queue
    .then(() => actions[data.type](data))
    .catch((error) => postMessage({ type: "problem", during: data.type, text: String(error.message ?? error) }));
};
