// What an exported file says about its model: the metadata_props of the ONNX protobuf.

const SUPPORTED_FORMAT = "1";
const CHANNEL_ORDERS = ["BGR", "RGB", "L"];

// Field numbers of onnx.proto: ModelProto.graph and .metadata_props, StringStringEntryProto.key and
// .value.
const GRAPH = 7;
const METADATA_PROPS = 14;
const KEY = 1;
const VALUE = 2;

/** An error whose message is one sentence for the user. */
export class UserError extends Error {}

/** Yields [field number, bytes] of each length-delimited field of a protobuf message. */
function* lengthDelimitedFields(bytes) {
  let position = 0;
  // Multiplies instead of shifting: lengths may exceed 31 bits.
  const readVarint = () => {
    let value = 0;
    for (let factor = 1; factor < 2 ** 63; factor *= 128) {
      if (position >= bytes.length) throw new RangeError("truncated");
      const byte = bytes[position++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    position += 1; // the tenth byte, of negative numbers
    return value;
  };
  while (position < bytes.length) {
    const tag = readVarint();
    const [number, wireType] = [Math.floor(tag / 8), tag % 8];
    if (wireType === 0) readVarint();
    else if (wireType === 1) position += 8;
    else if (wireType === 5) position += 4;
    else if (wireType === 2) {
      const length = readVarint();
      if (position + length > bytes.length) throw new RangeError("truncated");
      yield [number, bytes.subarray(position, position + length)];
      position += length;
    } else throw new RangeError(`wire type ${wireType}`);
  }
}

/**
 * Reads the metadata of an ONNX file.
 * @param {Uint8Array} bytes the whole file
 * @param {string} name of the file, for messages
 * @returns {Map<string, string>} metadata_props
 * @throws {UserError} the bytes are not an ONNX file
 */
export function readMetadata(bytes, name) {
  const decoder = new TextDecoder();
  const texts = new Map();
  let hasGraph = false;
  try {
    for (const [number, content] of lengthDelimitedFields(bytes)) {
      if (number === GRAPH) hasGraph = true;
      if (number !== METADATA_PROPS) continue;
      const entry = new Map(lengthDelimitedFields(content));
      texts.set(decoder.decode(entry.get(KEY)), decoder.decode(entry.get(VALUE)));
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    hasGraph = false;
  }
  if (!hasGraph) throw new UserError(`${name} is not an ONNX file, or it is damaged.`);
  return texts;
}

/**
 * Interprets the metadata that `tood export` writes.
 * @param {Map<string, string>} texts see readMetadata
 * @param {string} name of the file, for messages
 * @returns what this page needs to know; names as in tood_runtime/model_info.py
 * @throws {UserError} another program wrote the file, or the page cannot run it
 */
export function readModelInfo(texts, name) {
  const format = texts.get("tood_format");
  if (format === undefined) {
    throw new UserError(
      `${name} has no metadata of TOOD, so its classes and input size are unknown. ` +
        "Write it with: tood export",
    );
  }
  if (format !== SUPPORTED_FORMAT) {
    throw new UserError(
      `${name} has metadata of format ${format}, and this page reads format ${SUPPORTED_FORMAT}. ` +
        "Build the page again from a newer checkout, or export the model again.",
    );
  }
  const text = (key) => {
    if (texts.has(key)) return texts.get(key);
    throw new UserError(`${name} lacks the metadata "${key}". Export it again.`);
  };
  const value = (key) => {
    try {
      return JSON.parse(text(key));
    } catch (error) {
      if (error instanceof UserError) throw error;
      throw new UserError(`${name} has damaged metadata: "${key}". Export it again.`);
    }
  };
  const info = {
    model: text("model"),
    output: text("output"),
    precision: text("precision"),
    channelOrder: text("channel_order"),
    channels: value("channels"),
    classNames: value("class_names"),
    applyExifOrientation: value("apply_exif_orientation"),
    minSize: value("min_size"),
    maxSize: value("max_size"),
    batch: value("batch"),
    height: value("height"),
    width: value("width"),
    scoreThreshold: value("score_threshold"),
  };
  if (info.output !== "detections") {
    throw new UserError(`${name} has raw output without NMS. Export it again without --raw.`);
  }
  if (!CHANNEL_ORDERS.includes(info.channelOrder)) {
    throw new UserError(
      `${name} takes ${info.channelOrder} pixels. Available: ${CHANNEL_ORDERS.join(", ")}.`,
    );
  }
  return info;
}
