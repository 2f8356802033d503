// The page: files in, detections out. worker.js runs the model.

import { drawDetections, listNames, makeRow } from "./drawing.js";

const DEFAULT_MODEL = "model.onnx"; // next to the page, if the build was given one

const element = (id) => document.getElementById(id);
const stage = element("stage");
const threshold = element("threshold");

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const waiting = []; // one function per message that the worker has not answered, oldest first
let hasModel = false;
let lastImage = null;
let result = null; // the worker's answer to the last image
let shown = []; // its detections that score more than the threshold

worker.onmessage = ({ data }) => waiting.shift()(data);
worker.onerror = () => {
  waiting.length = 0;
  setBusy(false);
  showError("This browser cannot run the page. It needs module workers and WebAssembly with SIMD.");
};

function ask(message) {
  setBusy(true);
  return new Promise((resolve) => {
    worker.postMessage(message);
    waiting.push((answer) => {
      setBusy(waiting.length > 0);
      resolve(answer);
    });
  });
}

function setBusy(busy) {
  element("main").setAttribute("aria-busy", String(busy));
}

function showError(text) {
  element("error").textContent = text;
}

async function loadModel(source, name) {
  const answer = await ask({ model: source, name });
  if (answer.error !== undefined) return showError(answer.error);
  hasModel = true;
  const { info } = answer;
  element("model").textContent =
    `${info.model}: ${info.classNames.length} classes (${listNames(info.classNames)}), ` +
    info.precision;
  // The file itself drops detections below its threshold.
  threshold.min = Math.floor(info.scoreThreshold * 100) / 100;
  showThreshold();
  if (lastImage !== null) await detect(lastImage);
}

async function detect(file) {
  lastImage = file;
  element("status").textContent = `Detecting objects in ${file.name}…`;
  const answer = await ask({ image: file, name: file.name });
  result?.bitmap.close();
  result = answer.error === undefined ? answer : null;
  if (result !== null) return show();
  element("status").textContent = "";
  setResultVisible(false);
  showError(answer.error);
}

function setResultVisible(visible) {
  element("hint").hidden = visible;
  for (const id of ["canvas", "table", "save"]) element(id).hidden = !visible;
}

/** Shows the detections that score more than the threshold. */
function show() {
  const { bitmap, name, milliseconds } = result;
  shown = result.detections.filter(({ score }) => score > threshold.valueAsNumber);
  setResultVisible(true);
  draw();
  const [preparation, model] = [milliseconds.preparation, milliseconds.model].map(Math.round);
  element("status").textContent =
    `${shown.length} of ${result.detections.length} detections in ${name}, ` +
    `${bitmap.width}x${bitmap.height} pixels: ${preparation + model} ms ` +
    `(preparation ${preparation}, model ${model}).`;
  element("table").tBodies[0].replaceChildren(...shown.map(makeRow));
  const text = JSON.stringify(
    { image: name, width: bitmap.width, height: bitmap.height, detections: shown }, null, 2,
  );
  URL.revokeObjectURL(element("save").href);
  element("save").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
}

function draw() {
  const style = getComputedStyle(stage);
  const padding = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
  drawDetections(element("canvas"), result.bitmap, shown, stage.clientWidth - padding);
}

function showThreshold() {
  element("threshold-value").textContent = `${Math.round(100 * threshold.valueAsNumber)}%`;
  if (result !== null) show();
}

/** Takes a model, an image or both; of several images, the last one stays visible. */
async function takeFiles(files) {
  const all = Array.from(files);
  if (!all.length) return; // text was dropped or pasted
  showError("");
  const isModel = ({ name }) => name.toLowerCase().endsWith(".onnx");
  const images = all.filter((file) => !isModel(file));
  if (images.length) lastImage = null;
  for (const file of all.filter(isModel)) await loadModel(file, file.name);
  for (const file of images) await detect(file);
}

element("files").addEventListener("change", async ({ target }) => {
  const files = Array.from(target.files);
  target.value = ""; // so that choosing the same file again is a change
  await takeFiles(files);
});
threshold.addEventListener("input", showThreshold);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.classList.add("dropping");
});
document.addEventListener("dragleave", () => stage.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("dropping");
  takeFiles(event.dataTransfer.files);
});
document.addEventListener("paste", ({ clipboardData }) => takeFiles(clipboardData.files));
new ResizeObserver(() => result !== null && draw()).observe(stage);

async function findDefaultModel() {
  try {
    return (await fetch(DEFAULT_MODEL, { method: "HEAD" })).ok ? DEFAULT_MODEL : null;
  } catch {
    return null;
  }
}

async function start() {
  showThreshold();
  const name = new URLSearchParams(location.search).get("model") ?? (await findDefaultModel());
  if (name !== null) {
    element("model").textContent = `Loading ${name}…`;
    await loadModel(new URL(name, location.href).href, name);
  }
  if (!hasModel) {
    element("model").textContent = "No model is loaded. Choose an ONNX file of tood export.";
  }
  setBusy(waiting.length > 0);
}

start();
