// Draws boxes with labels on a canvas; colors as in tood_runtime/colors.py.

const FONT_SIZE = 13; // CSS pixels
const LINE_WIDTH = 2;
const PADDING = 3;
const MIN_SIDE = 480; // small images are enlarged to it, so that labels fit next to the objects

// As tood_runtime/colors.py chooses them: each color is the candidate that is farthest from all
// before it, in OKLab, where distances are about those that one sees.
const LEVELS = 16;
const LIGHTNESS = [0.5, 0.87];
const MIN_CHROMA = 0.08;
const NUM_COLORS = 1500;
const FIRST = "238,34,34";
let candidates = null; // {rgb, lab, nearest}
const palette = [];

/** The color of a class as [red, green, blue], 0 to 255. */
export function classColor(index) {
  index %= NUM_COLORS;
  candidates ??= makeCandidates();
  while (palette.length <= index) {
    palette.push(candidates.rgb[nextCandidate()]);
  }
  return palette[index];
}

function makeCandidates() {
  const rgb = [];
  const lab = [];
  for (let i = 0; i < LEVELS ** 3; i++) {
    const levels = [Math.floor(i / LEVELS ** 2), Math.floor(i / LEVELS) % LEVELS, i % LEVELS];
    const color = levels.map((level) => Math.floor((level * 255) / (LEVELS - 1)));
    const point = toOKLab(color);
    const isUsable = point[0] >= LIGHTNESS[0] && point[0] <= LIGHTNESS[1];
    if (isUsable && Math.hypot(point[1], point[2]) >= MIN_CHROMA) {
      rgb.push(color);
      lab.push(point);
    }
  }
  const nearest = lab.map(() => Infinity);
  return { rgb, lab, nearest };
}

/** The candidate that is farthest from those chosen before; it counts as chosen then. */
function nextCandidate() {
  const { rgb, lab, nearest } = candidates;
  let best = rgb.findIndex((color) => color.join() === FIRST);
  if (palette.length > 0) {
    best = nearest.reduce((top, value, i) => (value > nearest[top] ? i : top), 0);
  }
  const [x, y, z] = lab[best];
  lab.forEach(([a, b, c], i) => {
    nearest[i] = Math.min(nearest[i], (a - x) ** 2 + (b - y) ** 2 + (c - z) ** 2);
  });
  return best;
}

function toLinear(channel) {
  const c = channel / 255;
  return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
}

function toOKLab(color) {
  const [red, green, blue] = color.map(toLinear);
  const [l, m, s] = [
    0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue,
    0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue,
    0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue,
  ].map(Math.cbrt);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

export function toCSS(color) {
  return `rgb(${color.join(" ")})`;
}

/** Black or white, whichever has more contrast (WCAG 2.1's relative luminance). */
export function textColor(color) {
  const [red, green, blue] = color.map(toLinear);
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return (luminance + 0.05) ** 2 > 0.05 * 1.05 ? "black" : "white";
}

/**
 * Draws an image with its detections.
 * @param {HTMLCanvasElement} canvas gets the size that it is drawn at
 * @param {ImageBitmap} bitmap
 * @param detections best first
 * @param {number} availableWidth CSS pixels
 */
export function drawDetections(canvas, bitmap, detections, availableWidth) {
  const enlarged = Math.max(1, MIN_SIDE / Math.max(bitmap.width, bitmap.height));
  const scale = Math.min(enlarged, availableWidth / bitmap.width);
  const size = { width: bitmap.width * scale, height: bitmap.height * scale };
  canvas.width = Math.max(1, Math.round(size.width * devicePixelRatio));
  canvas.height = Math.max(1, Math.round(size.height * devicePixelRatio));
  canvas.style.width = `${size.width}px`;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  context.scale(canvas.width / size.width, canvas.height / size.height);
  const onCanvas = detections.map(({ box }) => box.map((value) => value * scale));
  // The best one last, so that it is on top.
  for (let i = detections.length - 1; i >= 0; i--) {
    drawBox(context, onCanvas[i], toCSS(classColor(detections[i].class_id)));
  }
  drawLabels(context, detections, onCanvas, size);
}

function drawBox(context, [x1, y1, x2, y2], color) {
  const shorter = Math.min(x2 - x1, y2 - y1);
  const line = Math.min(LINE_WIDTH, Math.max(1, shorter / 6)); // a thick line hides a small object
  context.strokeStyle = color;
  context.lineWidth = line;
  context.strokeRect(x1 + line / 2, y1 + line / 2, x2 - x1 - line, y2 - y1 - line);
}

function drawLabels(context, detections, boxes, size) {
  context.font = `600 ${FONT_SIZE}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const height = FONT_SIZE + 2 * PADDING;
  const placed = [];
  const labels = detections.map((detection, i) => {
    const text = `${detection.class} ${Math.round(100 * detection.score)}%`;
    const width = Math.min(size.width, context.measureText(text).width + 2 * PADDING);
    const rectangle = placeLabel(boxes[i], [width, height], size, placed);
    placed.push(rectangle);
    return { text, rectangle, color: classColor(detection.class_id) };
  });
  for (const { text, rectangle: [x, y, width], color } of labels.reverse()) {
    context.fillStyle = toCSS(color);
    context.fillRect(x, y, width, height);
    context.fillStyle = textColor(color);
    context.fillText(text, x + PADDING, y + height / 2 + 1, Math.max(1, width - 2 * PADDING));
  }
}

/** Chooses the place at a box where a label covers those before it least: [x, y, width, height]. */
function placeLabel([x1, y1, x2, y2], [width, height], size, placed) {
  const [left, right, center] = [x1, x2 - width, (x1 + x2 - width) / 2];
  const places = [
    [left, y1 - height], [left, y1], [right, y1 - height], [left, y2], [left, y2 - height],
    [right, y2], [right, y1], [right, y2 - height], [center, (y1 + y2 - height) / 2],
  ];
  let best = null;
  let leastCovered = Infinity;
  for (const [placeX, placeY] of places) {
    const x = Math.max(0, Math.min(placeX, size.width - width));
    const y = Math.max(0, Math.min(placeY, size.height - height));
    let covered = 0;
    for (const other of placed) {
      const shared = Math.min(x + width, other[0] + other[2]) - Math.max(x, other[0]);
      const sharedHeight = Math.min(y + height, other[1] + other[3]) - Math.max(y, other[1]);
      covered += Math.max(0, shared) * Math.max(0, sharedHeight);
    }
    if (covered < leastCovered) [best, leastCovered] = [[x, y, width, height], covered];
  }
  return best;
}

/** Makes the row of a detection in the table: class, score and box. */
export function makeRow(detection) {
  const row = document.createElement("tr");
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = toCSS(classColor(detection.class_id));
  row.insertCell().append(swatch, detection.class);
  row.insertCell().textContent = `${Math.round(100 * detection.score)}%`;
  for (const value of detection.box) row.insertCell().textContent = value.toFixed(1);
  return row;
}

/** Lists the first names of classes. */
export function listNames(names) {
  return names.slice(0, 8).join(", ") + (names.length > 8 ? ", …" : "");
}
