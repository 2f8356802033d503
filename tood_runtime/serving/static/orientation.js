// The EXIF orientation of image files. Browsers differ: Chromium turns JPEG and PNG files even if
// it is told not to, and WebP files never. So the tag is hidden from the browser and applied here.

const ORIENTATION_TAG = 0x0112;
const SHORT = 3; // TIFF's type of 16-bit numbers

function hasText(view, position, text) {
  if (position + text.length > view.byteLength) return false;
  return Array.from(text).every((c, i) => view.getUint8(position + i) === c.charCodeAt(0));
}

/**
 * Finds the EXIF data of a JPEG, PNG or WebP file.
 * @returns {{tiff: number, hide: [number, number], replacement: string} | null} where the TIFF
 *   structure starts, and the bytes whose replacement hides it
 */
function findExif(view) {
  const skipPrefix = (position) => position + (hasText(view, position, "Exif\0\0") ? 6 : 0);
  if (view.getUint16(0) === 0xffd8) {
    // JPEG: segments of a marker and a length that counts itself, up to the start of scan.
    for (let at = 2; view.getUint8(at) === 0xff && view.getUint8(at + 1) !== 0xda; ) {
      const end = at + 2 + view.getUint16(at + 2);
      if (view.getUint8(at + 1) === 0xe1 && hasText(view, at + 4, "Exif\0\0")) {
        return { tiff: at + 10, hide: [at, end], replacement: "" };
      }
      at = end;
    }
  } else if (hasText(view, 0, "\x89PNG")) {
    // PNG: chunks of length, type, data and checksum.
    for (let at = 8; at + 8 <= view.byteLength; ) {
      const end = at + 12 + view.getUint32(at);
      if (hasText(view, at + 4, "eXIf")) {
        return { tiff: skipPrefix(at + 8), hide: [at, end], replacement: "" };
      }
      at = end;
    }
  } else if (hasText(view, 0, "RIFF") && hasText(view, 8, "WEBP")) {
    // WebP: chunks of type, length and data, padded to even lengths.
    for (let at = 12; at + 8 <= view.byteLength; ) {
      const length = view.getUint32(at + 4, true);
      if (hasText(view, at, "EXIF")) {
        return { tiff: skipPrefix(at + 8), hide: [at, at + 4], replacement: "JUNK" };
      }
      at += 8 + length + (length % 2);
    }
  }
  return null;
}

/** The value of the orientation tag; 1, upright, where there is none. */
function readTag(view, tiff) {
  const little = hasText(view, tiff, "II");
  if (!little && !hasText(view, tiff, "MM")) return 1;
  const directory = tiff + view.getUint32(tiff + 4, little);
  const count = view.getUint16(directory, little);
  for (let i = 0; i < count; i++) {
    const entry = directory + 2 + 12 * i;
    if (view.getUint16(entry, little) !== ORIENTATION_TAG) continue;
    if (view.getUint16(entry + 2, little) !== SHORT) return 1;
    const value = view.getUint16(entry + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

/**
 * Takes the orientation out of an image file.
 * @param {ArrayBuffer} file
 * @returns {{orientation: number, blob: Blob}} from 1 to 8, and the file without the tag
 */
export function takeOrientation(file) {
  const view = new DataView(file);
  try {
    const exif = findExif(view);
    if (exif !== null) {
      const [start, end] = exif.hide;
      const blob = new Blob([file.slice(0, start), exif.replacement, file.slice(end)]);
      return { orientation: readTag(view, exif.tiff), blob };
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a cut file or broken EXIF data
  }
  return { orientation: 1, blob: new Blob([file]) };
}

/**
 * Turns an image upright.
 * @param {{data: Uint8Array, height: number, width: number, channels: number}} image interleaved
 * @param {number} orientation from 1 to 8
 */
export function turnUpright(image, orientation) {
  if (orientation === 1) return image;
  const { data, channels } = image;
  const isTransposed = orientation >= 5;
  const flipsX = [2, 3, 7, 8].includes(orientation);
  const flipsY = [3, 4, 6, 7].includes(orientation);
  const [height, width] = isTransposed ? [image.width, image.height] : [image.height, image.width];
  const turned = new Uint8Array(data.length);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [u, v] = isTransposed ? [y, x] : [x, y];
      const sourceX = flipsX ? image.width - 1 - u : u;
      const sourceY = flipsY ? image.height - 1 - v : v;
      const from = (sourceY * image.width + sourceX) * channels;
      for (let c = 0; c < channels; c++) turned[to++] = data[from + c];
    }
  }
  return { data: turned, height, width, channels };
}
