// Pillow's bilinear resize, to the bit: the model was trained and is evaluated with it. A canvas
// resizes differently, and differently in each browser.

// Pillow computes with 8-bit pixels and weights of 22 fractional bits.
const FRACTION_BITS = 22;

/**
 * The size that an image is resized to. The shorter side gets minSize pixels, but the longer at
 * most maxSize; a file of a fixed size scales further down what would not fit.
 * @param {number} height of the image
 * @param {number} width of the image
 * @param info see readModelInfo
 * @returns {[number, number]} height and width
 */
export function resizedSize(height, width, info) {
  let size = [height, width];
  if (info.minSize > 0) {
    // In detectron2's order of operations, for equal rounding.
    const scale = info.minSize / Math.min(height, width);
    size = height < width ? [info.minSize, scale * width] : [scale * height, info.minSize];
    const longer = Math.max(...size);
    if (longer > info.maxSize) size = size.map((side) => side * (info.maxSize / longer));
  }
  const round = (side) => Math.max(1, Math.floor(side + 0.5));
  size = size.map(round);
  const fit = Math.min((info.height ?? Infinity) / size[0], (info.width ?? Infinity) / size[1]);
  return fit < 1 ? size.map((side) => round(side * fit)) : size;
}

/** The first input pixel and the weights of each output pixel along one side. */
function triangleWeights(inputSize, outputSize) {
  const scale = inputSize / outputSize;
  const support = Math.max(scale, 1); // wider when shrinking, which prevents aliasing
  return Array.from({ length: outputSize }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(inputSize, Math.trunc(center + support + 0.5));
    const weights = new Float64Array(end - first).map((_, k) =>
      Math.max(0, 1 - Math.abs((first + k - center + 0.5) * (1 / support))),
    );
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const one = 2 ** FRACTION_BITS;
    return { first, weights: Int32Array.from(weights, (w) => Math.floor((w / sum) * one + 0.5)) };
  });
}

/**
 * Resizes along one side.
 * @param {Uint8Array} source pixels
 * @param {number} lines how many independent lines there are
 * @param {number} step distance of neighbors along a line
 * @param {(line: number, length: number) => number} start of a line with that many pixels
 */
function resizeLines(source, inputSize, outputSize, lines, step, start) {
  if (inputSize === outputSize) return source;
  const target = new Uint8Array((source.length / inputSize) * outputSize);
  const taps = triangleWeights(inputSize, outputSize);
  for (let line = 0; line < lines; line++) {
    const [from, to] = [start(line, inputSize), start(line, outputSize)];
    for (let i = 0; i < outputSize; i++) {
      const { first, weights } = taps[i];
      let sum = 1 << (FRACTION_BITS - 1);
      let position = from + first * step;
      for (let k = 0; k < weights.length; k++, position += step) {
        sum += source[position] * weights[k];
      }
      target[to + i * step] = Math.min(255, sum >> FRACTION_BITS);
    }
  }
  return target;
}

/**
 * Resizes an image as Pillow's Image.resize with BILINEAR does.
 * @param {{data: Uint8Array, height: number, width: number, channels: number}} image interleaved
 * @param {number} height new height
 * @param {number} width new width
 * @returns an image of that size
 */
export function resizeBilinear(image, height, width) {
  const { channels } = image;
  const rows = resizeLines(
    image.data, image.width, width, image.height * channels, channels,
    (line, length) => Math.floor(line / channels) * length * channels + (line % channels),
  );
  const data = resizeLines(
    rows, image.height, height, width * channels, width * channels, (line) => line,
  );
  return { data, height, width, channels };
}
