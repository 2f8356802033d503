// From an image file to the input of the network.

import { UserError } from "./metadata.js";
import { takeOrientation, turnUpright } from "./orientation.js";
import { resizeBilinear, resizedSize } from "./resize.js";

/**
 * Decodes an image file. The pixels are those in the file: no color profile is applied, and an
 * alpha channel is dropped.
 * @param {Blob} file
 * @param {string} name of the file, for messages
 * @param {boolean} applyOrientation whether the EXIF orientation is applied
 * @returns interleaved RGB: {data: Uint8Array, height, width, channels}
 * @throws {UserError} the browser cannot decode the file, or hides its pixels
 */
export async function decodeImage(file, name, applyOrientation) {
  let orientation, bitmap;
  try {
    const taken = takeOrientation(await file.arrayBuffer());
    orientation = applyOrientation ? taken.orientation : 1;
    bitmap = await createImageBitmap(taken.blob, {
      premultiplyAlpha: "none",
      colorSpaceConversion: "none",
    });
  } catch {
    throw new UserError(`${name} is not an image that this browser can decode.`);
  }
  const { height, width } = bitmap;
  const rgba = readPixels(bitmap, name);
  bitmap.close();
  const data = new Uint8Array(height * width * 3);
  for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
    data[to] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from + 2];
  }
  return turnUpright({ data, height, width, channels: 3 }, orientation);
}

/** Makes a bitmap of an interleaved RGB image. */
export function toBitmap({ data, height, width }) {
  const rgba = new ImageData(width, height);
  rgba.data.fill(255);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    rgba.data[to] = data[from];
    rgba.data[to + 1] = data[from + 1];
    rgba.data[to + 2] = data[from + 2];
  }
  return createImageBitmap(rgba);
}

/** Returns the RGBA bytes of a bitmap. */
function readPixels(bitmap, name) {
  const { height, width } = bitmap;
  let rgba;
  try {
    const context = create2d(width, height);
    context.drawImage(bitmap, 0, 0);
    rgba = context.getImageData(0, 0, width, height).data;
  } catch {
    throw new UserError(`${name} has ${width}x${height} pixels, too many for this browser.`);
  }
  requireTruePixels();
  for (let i = 3; i < rgba.length; i += 4) {
    if (rgba[i] !== 255) return readTransparentPixels(bitmap, name);
  }
  return rgba;
}

function create2d(width, height) {
  return new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
}

/**
 * Returns the RGBA bytes of a bitmap with transparent pixels. A 2D canvas multiplies colors by
 * alpha and loses them where alpha is 0; WebGL keeps them.
 */
function readTransparentPixels(bitmap, name) {
  const { height, width } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (gl === null || Math.max(height, width) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) {
    throw new UserError(
      `${name} has transparent pixels, whose colors this browser cannot read. ` +
        "Save the image without transparency.",
    );
  }
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(
    gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, gl.getParameter(gl.TEXTURE_BINDING_2D), 0,
  );
  const rgba = new Uint8Array(width * height * 4);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
  gl.getExtension("WEBGL_lose_context")?.loseContext(); // browsers allow few contexts at a time
  return rgba;
}

/** Some browsers add noise to the pixels that pages read, as a protection against tracking. */
function requireTruePixels() {
  const side = 64;
  const context = create2d(side, side);
  const written = new ImageData(side, side);
  written.data.forEach((_, i, data) => (data[i] = i % 4 === 3 ? 255 : (i * 7919) % 256));
  context.putImageData(written, 0, 0);
  const read = context.getImageData(0, 0, side, side).data;
  if (written.data.some((value, i) => value !== read[i])) {
    throw new UserError(
      "This browser changes the pixels that pages read, so detections would be wrong. " +
        "Switch off its protection against fingerprinting for this page.",
    );
  }
}

/**
 * Prepares an image for the network.
 * @param image interleaved RGB, see decodeImage
 * @param info see readModelInfo
 * @returns {{data: Float32Array, shape: number[], imageSize: [number, number]}} (1, C, H, W), 0 to
 *   255, and the height and width without padding
 */
export function prepareImage(image, info) {
  const ordered = reorderChannels(image, info.channelOrder);
  const imageSize = resizedSize(image.height, image.width, info);
  const resized = resizeBilinear(ordered, ...imageSize);
  const [height, width] = [info.height ?? resized.height, info.width ?? resized.width];
  const { channels } = info;
  const data = new Float32Array(channels * height * width); // 0 outside of the image
  for (let c = 0; c < channels; c++) {
    let from = c % resized.channels; // a gray image is repeated
    for (let y = 0; y < resized.height; y++) {
      const row = (c * height + y) * width;
      for (let x = 0; x < resized.width; x++, from += resized.channels) {
        data[row + x] = resized.data[from];
      }
    }
  }
  return { data, shape: [1, channels, height, width], imageSize };
}

function reorderChannels(image, channelOrder) {
  if (channelOrder === "RGB") return image;
  const source = image.data;
  if (channelOrder === "BGR") {
    const data = source.map((_, i) => source[i + 2 - 2 * (i % 3)]);
    return { ...image, data };
  }
  // Pillow's weights of gray, with 16 fractional bits.
  const gray = (_, i) =>
    (source[3 * i] * 19595 + source[3 * i + 1] * 38470 + source[3 * i + 2] * 7471 + 0x8000) >> 16;
  return { ...image, data: new Uint8Array(source.length / 3).map(gray), channels: 1 };
}
