// Copies the page, ONNX Runtime and a model into dist/: all that a static server needs.
//
//   npm run build [-- MODEL.onnx] [--output FOLDER]

import { copyFileSync, cpSync, mkdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HERE = fileURLToPath(new URL(".", import.meta.url));
// What the page of tood serve needs too.
const SHARED = join(HERE, "..", "..", "tood_runtime", "serving", "static");
const SHARED_FILES = ["drawing.js", "orientation.js", "style.css"];
const RUNTIME = join(HERE, "node_modules", "onnxruntime-web", "dist");
// The build for CPUs alone; those with WebGL and WebGPU lack operators that TOOD needs.
const RUNTIME_FILES = [
  "ort.wasm.min.mjs",
  "ort-wasm-simd-threaded.mjs",
  "ort-wasm-simd-threaded.wasm",
];

function isFile(path) {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

function fail(message) {
  console.error(message);
  process.exit(2);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { output: { type: "string", default: join(HERE, "dist") } },
});
const missing = RUNTIME_FILES.filter((name) => !isFile(join(RUNTIME, name)));
if (missing.length) fail(`${missing[0]} of onnxruntime-web is missing. Run: npm ci`);
const model = positionals[0];
if (model !== undefined && !isFile(model)) {
  fail(`${model} is not a file. Name an exported model (.onnx).`);
}

rmSync(join(values.output, "ort"), { recursive: true, force: true });
mkdirSync(join(values.output, "ort"), { recursive: true });
cpSync(join(HERE, "src"), values.output, { recursive: true });
for (const name of SHARED_FILES) copyFileSync(join(SHARED, name), join(values.output, name));
for (const name of RUNTIME_FILES) {
  copyFileSync(join(RUNTIME, name), join(values.output, "ort", name));
}
if (model !== undefined) copyFileSync(model, join(values.output, "model.onnx"));
console.log(`Built ${values.output}${model === undefined ? " without a model" : ""}`);
