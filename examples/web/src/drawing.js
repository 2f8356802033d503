// Draws boxes with labels on a canvas; colors as in tood_runtime/drawing.py.

const FONT_SIZE = 13; // CSS pixels
const LINE_WIDTH = 2;
const PADDING = 3;
const MIN_SIDE = 480; // small images are enlarged to it, so that labels fit next to the objects

// Multiples of the golden ratio minus 1 spread evenly over the circle of hues.
const HUE_STEP = 0.6180339887;
const SATURATION_AND_VALUE = [[0.85, 0.9], [0.6, 0.95], [0.9, 0.65]];

/** The color of a class as [red, green, blue], 0 to 255. */
export function classColor(index) {
  const [saturation, value] = SATURATION_AND_VALUE[index % SATURATION_AND_VALUE.length];
  const hue = ((index * HUE_STEP) % 1) * 6;
  return [5, 3, 1].map((offset) => {
    const k = (offset + hue) % 6;
    return Math.round(255 * value * (1 - saturation * Math.max(0, Math.min(k, 4 - k, 1))));
  });
}

export function toCSS(color) {
  return `rgb(${color.join(" ")})`;
}

/** Black or white, whichever has more contrast (WCAG 2.1's relative luminance). */
export function textColor(color) {
  const [red, green, blue] = color
    .map((channel) => channel / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
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
