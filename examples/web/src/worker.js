// Runs the model off the page's thread, so that the page stays responsive.
//
// Messages to it: {model: Blob | string, name} or {image: Blob, name}. Each is answered once, in
// order, with {info}, {detections, ...} or {error: string}.

import * as ort from "./ort/ort.wasm.min.mjs";
import { UserError, readMetadata, readModelInfo } from "./metadata.js";
import { decodeImage, prepareImage, toBitmap } from "./pixels.js";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
// More threads need the headers COOP and COEP, which a plain static server does not send; with them
// ONNX Runtime chooses the number, which 0 asks for.
ort.env.wasm.numThreads = self.crossOriginIsolated ? 0 : 1;

let session = null;
let info = null;

async function readModel(source, name) {
  if (typeof source !== "string") return new Uint8Array(await source.arrayBuffer());
  let response;
  try {
    response = await fetch(source);
  } catch {
    throw new UserError(`Cannot load ${name}: its server does not answer or forbids other pages.`);
  }
  if (!response.ok) throw new UserError(`Cannot load ${name}: HTTP status ${response.status}.`);
  return new Uint8Array(await response.arrayBuffer());
}

async function loadModel(source, name) {
  const bytes = await readModel(source, name);
  const newInfo = readModelInfo(readMetadata(bytes, name), name);
  let newSession;
  try {
    newSession = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new UserError(`ONNX Runtime cannot load ${name}: ${firstLine(error)}`);
  }
  await session?.release();
  [session, info] = [newSession, newInfo];
  return { message: { info } };
}

async function detect(file, name) {
  if (session === null) throw new UserError("Choose a model first: an ONNX file of tood export.");
  const start = performance.now();
  const image = await decodeImage(file, name, info.applyExifOrientation);
  const input = prepareImage(image, info);
  const prepared = performance.now();
  const outputs = await run(input, image);
  const end = performance.now();
  const bitmap = await toBitmap(image); // what the model saw
  const message = {
    name,
    bitmap,
    detections: readDetections(outputs),
    milliseconds: { preparation: prepared - start, model: end - prepared },
  };
  return { message, transfer: [bitmap] };
}

/** Runs the model on one image; a file of a fixed batch gets copies of it. */
async function run({ data, shape, imageSize }, image) {
  const batch = info.batch ?? 1;
  const images = new Float32Array(batch * data.length);
  const sizes = (height, width) => {
    const values = Array.from({ length: batch }, () => [BigInt(height), BigInt(width)]).flat();
    return new ort.Tensor("int64", BigInt64Array.from(values), [batch, 2]);
  };
  for (let i = 0; i < batch; i++) images.set(data, i * data.length);
  try {
    return await session.run({
      images: new ort.Tensor("float32", images, [batch, ...shape.slice(1)]),
      image_sizes: sizes(...imageSize),
      original_sizes: sizes(image.height, image.width),
    });
  } catch (error) {
    throw new UserError(`ONNX Runtime cannot run the model: ${firstLine(error)}`);
  }
}

function readDetections({ boxes, scores, labels, num_dets: counts }) {
  return Array.from({ length: Number(counts.data[0]) }, (_, i) => {
    const classId = Number(labels.data[i]);
    return {
      class: info.classNames[classId] ?? `class ${classId}`,
      class_id: classId,
      score: scores.data[i],
      box: Array.from(boxes.data.subarray(4 * i, 4 * i + 4)),
    };
  });
}

function firstLine(error) {
  return String(error?.message ?? error).split("\n")[0];
}

async function answer({ model, image, name }) {
  try {
    return image === undefined ? await loadModel(model, name) : await detect(image, name);
  } catch (error) {
    const text = error instanceof UserError ? error.message : `${name}: ${firstLine(error)}`;
    return { message: { error: text } };
  }
}

let queue = Promise.resolve();
self.onmessage = ({ data }) => {
  queue = queue.then(async () => {
    const { message, transfer = [] } = await answer(data);
    self.postMessage(message, transfer);
  });
};
