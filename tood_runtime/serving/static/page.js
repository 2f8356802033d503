// The page of tood serve: images to the server, detections onto a canvas.

import { drawDetections, listNames, makeRow } from "./drawing.js";
import { takeOrientation } from "./orientation.js";

const CAMERA_QUALITY = 0.9; // of the JPEG files of its frames

const element = (id) => document.getElementById(id);
const stage = element("stage");
const threshold = element("threshold");
const video = element("video");

let model = null; // what the server says about it
let result = null; // {bitmap, name, answer} of the last image
let shown = []; // its detections that pass the filters
let running = 0; // requests without an answer
let cameraRun = 0; // counts its starts and stops, so that an old loop notices

function setBusy(change) {
  running += change;
  element("main").setAttribute("aria-busy", String(running > 0));
}

function showError(text) {
  element("error").textContent = text;
}

class ServerError extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.isTemporary = status === 429 || status === 503;
    this.seconds = retryAfter;
  }
}

/** Sends a request, and returns the JSON of the answer. */
async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ServerError(0, "The server cannot be reached.", 1);
  }
  const content = await response.json().catch(() => ({}));
  if (response.ok) return content;
  const message = content.error ?? `The server answers with status ${response.status}.`;
  throw new ServerError(response.status, message, Number(response.headers.get("Retry-After")) || 1);
}

/** Detects objects in an image file, and shows them. */
async function detect(file, name) {
  if (file.size > model.max_body_bytes) {
    throw new ServerError(413, `${name} has more than ${model.max_body_bytes} bytes.`);
  }
  const query = new URLSearchParams({ score_threshold: model.lowest_threshold });
  const headers = { "Content-Type": "application/octet-stream" };
  const answer = await ask(`detect?${query}`, { method: "POST", body: file, headers });
  const bitmap = await decode(file, answer.image);
  result?.bitmap?.close();
  result = { bitmap, name, answer };
  show();
}

/** Decodes an image as the server has; null where the browser cannot, or does it otherwise. */
async function decode(file, { width, height }) {
  try {
    const { orientation, blob } = takeOrientation(await file.arrayBuffer());
    let bitmap = await createImageBitmap(blob);
    if (model.apply_orientation) bitmap = await turn(bitmap, orientation);
    return bitmap.width === width && bitmap.height === height ? bitmap : null;
  } catch {
    return null;
  }
}

// The transforms of a canvas that undo the values of the EXIF orientation, for width 1 and height 1.
const TURNS = [
  null, null, [-1, 0, 0, 1, 1, 0], [-1, 0, 0, -1, 1, 1], [1, 0, 0, -1, 0, 1],
  [0, 1, 1, 0, 0, 0], [0, 1, -1, 0, 1, 0], [0, -1, -1, 0, 1, 1], [0, -1, 1, 0, 0, 1],
];

async function turn(bitmap, orientation) {
  if (orientation === 1) return bitmap;
  const [width, height] =
    orientation >= 5 ? [bitmap.height, bitmap.width] : [bitmap.width, bitmap.height];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const [a, b, c, d, x, y] = TURNS[orientation];
  context.setTransform(a, b, c, d, x * width, y * height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return createImageBitmap(canvas);
}

function setResultVisible(visible) {
  element("hint").hidden = visible;
  for (const id of ["canvas", "table", "save"]) element(id).hidden = !visible;
}

function chosenClasses() {
  const boxes = element("classes").querySelectorAll("input[type=checkbox]");
  return new Set(Array.from(boxes).filter((box) => box.checked).map((box) => Number(box.value)));
}

/** Shows the detections of the last image that pass the filters. Asks the server nothing. */
function show() {
  const { name, answer } = result;
  const classes = chosenClasses();
  shown = answer.detections
    .filter(({ score, class_id: id }) => score > threshold.valueAsNumber && classes.has(id))
    .map((detection) => ({ ...detection, class: detection.class_name }));
  setResultVisible(true);
  draw();
  const { width, height } = answer.image;
  const { queue, decode, model: network } = answer.milliseconds;
  element("status").textContent =
    `${shown.length} of ${answer.detections.length} detections in ${name}, ` +
    `${width}x${height} pixels: ${Math.round(queue + decode + network)} ms ` +
    `(queue ${Math.round(queue)}, decoding ${Math.round(decode)}, model ${Math.round(network)}).` +
    (result.bitmap === null ? " This browser cannot show the image." : "");
  element("table").tBodies[0].replaceChildren(...shown.map(makeRow));
  const detections = shown.map(({ class: _, ...detection }) => detection);
  const text = JSON.stringify({ image: { name, ...answer.image }, detections }, null, 2);
  URL.revokeObjectURL(element("save").href);
  element("save").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
}

function draw() {
  element("canvas").hidden = result.bitmap === null;
  if (result.bitmap === null) return;
  const style = getComputedStyle(stage);
  const padding = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
  drawDetections(element("canvas"), result.bitmap, shown, stage.clientWidth - padding);
}

function showThreshold() {
  element("threshold-value").textContent = `${Math.round(100 * threshold.valueAsNumber)}%`;
  if (result !== null) show();
}

/** Takes image files one after the other; the last one stays visible. */
async function takeFiles(files) {
  const all = Array.from(files);
  if (!all.length || model === null) return; // text was dropped or pasted
  stopCamera();
  showError("");
  setBusy(1);
  for (const file of all) {
    element("status").textContent = `Detecting objects in ${file.name}…`;
    try {
      await detect(file, file.name);
    } catch (error) {
      element("status").textContent = "";
      result = null;
      setResultVisible(false);
      showError(error.message);
    }
  }
  setBusy(-1);
}

// ---- Camera -------------------------------------------------------------------------------------

function stopCamera() {
  cameraRun++;
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  element("camera").textContent = "Use the camera";
}

async function startCamera() {
  const run = ++cameraRun;
  showError("");
  try {
    const facing = { ideal: "environment" };
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing } });
    await video.play();
  } catch (error) {
    stopCamera();
    return showError(`The camera cannot be used: ${error.message}`);
  }
  element("camera").textContent = "Stop the camera";
  setBusy(1);
  while (run === cameraRun) {
    try {
      const frame = await takeFrame();
      if (run === cameraRun) await detect(frame, "the camera's image");
      showError("");
    } catch (error) {
      if (run !== cameraRun) break;
      showError(error.message);
      if (!error.isTemporary) stopCamera();
      await new Promise((resolve) => setTimeout(resolve, 1000 * (error.seconds ?? 1)));
    }
  }
  setBusy(-1);
}

function takeFrame() {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas.convertToBlob({ type: "image/jpeg", quality: CAMERA_QUALITY });
}

// ---- Start --------------------------------------------------------------------------------------

function makeClassFilter(names) {
  const boxes = names.map((name, index) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", value: index, checked: true });
    label.append(box, name);
    return label;
  });
  const buttons = [["All", true], ["None", false]].map(([text, checked]) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: text });
    button.addEventListener("click", () => {
      for (const label of boxes) label.firstChild.checked = checked;
      if (result !== null) show();
    });
    return button;
  });
  element("classes").append(...buttons, ...boxes);
  element("classes").addEventListener("change", () => result !== null && show());
  element("classes").hidden = false;
}

element("files").addEventListener("change", async ({ target }) => {
  const files = Array.from(target.files);
  target.value = ""; // so that choosing the same file again is a change
  await takeFiles(files);
});
element("camera").addEventListener("click", () =>
  video.srcObject === null ? startCamera() : stopCamera(),
);
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

async function start() {
  try {
    model = await ask("model");
  } catch (error) {
    element("model").textContent = "";
    showError(error.message);
    return setBusy(0);
  }
  const names = model.class_names;
  element("model").textContent =
    `${model.name ?? "The model"}: ${names.length} classes (${listNames(names)})`;
  threshold.min = model.lowest_threshold;
  threshold.value = model.options.score_threshold ?? 0.3;
  makeClassFilter(names);
  showThreshold();
  // Browsers have a camera only for pages of this machine and over HTTPS.
  element("camera").hidden = navigator.mediaDevices === undefined;
  setBusy(0);
}

start();
