"""Detect objects with an exported ONNX file: what to port to another language.

Needs NumPy, Pillow and onnxruntime (1.25 or newer for models with deformable convolutions):

    python detect.py model.onnx street.jpg [--threshold 0.3] [--draw out.png]

Everything that is specific to a model is in the metadata of its file. ``python -m tood_runtime`` is
the same as a program with batches, folders, more kinds of images and files, and error messages.
"""

import argparse
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps


def load(path: str) -> tuple[onnxruntime.InferenceSession, dict]:
    """Open a file. The metadata are texts; those that are not text themselves are JSON."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    if texts.get("tood_format") != "1":
        raise SystemExit(f"{path} was not written by tood export, or by another version of it.")
    if texts["output"] != "detections":
        raise SystemExit(f"{path} has raw output. Export it without --raw.")
    names = ("class_names", "min_size", "max_size", "size_divisor", "batch", "height", "width")
    names += ("channels", "apply_exif_orientation", "score_threshold")
    return session, {**texts, **{name: json.loads(texts[name]) for name in names}}


def read_image(path: str, info: dict) -> Image.Image:
    """Decode an image to 8-bit RGB, upright as its EXIF orientation says."""
    image = Image.open(path)
    if info["apply_exif_orientation"]:
        image = ImageOps.exif_transpose(image)
    return image.convert("RGB")


def resized_size(height: int, width: int, info: dict) -> tuple[int, int]:
    """The size that the network sees an image at.

    1. The shorter side becomes min_size; a min_size of 0 leaves images as they are.
    2. If the longer side is more than max_size then, it becomes max_size.
    3. Only for files of a fixed size: what does not fit is scaled down.
    4. Sides are rounded, half up, at the end. Compute in 64-bit floats, like this program.
    """
    new_height, new_width = float(height), float(width)
    shorter = info["min_size"]
    if shorter:
        scale = shorter / min(height, width)
        wide = height < width
        new_height, new_width = (shorter, width * scale) if wide else (height * scale, shorter)
        scale = min(1.0, info["max_size"] / max(new_height, new_width))
        new_height, new_width = new_height * scale, new_width * scale
    rounded = int(new_height + 0.5), int(new_width + 0.5)
    limits = info["height"] or rounded[0], info["width"] or rounded[1]
    if rounded[0] > limits[0] or rounded[1] > limits[1]:
        scale = min(limits[0] / new_height, limits[1] / new_width)
        rounded = int(new_height * scale + 0.5), int(new_width * scale + 0.5)
    return max(1, rounded[0]), max(1, rounded[1])


def preprocess(image: Image.Image, info: dict) -> dict[str, np.ndarray]:
    """Make the three inputs of the network, for a batch of one image.

    Resizing is bilinear with antialiasing, as in Pillow and in torchvision with antialias=True: all
    pixels count when an image shrinks. OpenCV's INTER_LINEAR reads only four of them for each new
    one, which is not what the network was trained on.
    """
    height, width = resized_size(image.height, image.width, info)
    gray = info["channel_order"] == "L"
    resized = image.convert("L") if gray else image
    if (width, height) != image.size:
        resized = resized.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.atleast_3d(np.asarray(resized))  # (H, W, channels)
    if gray:
        pixels = np.repeat(pixels, info["channels"], axis=2)
    elif info["channel_order"] == "BGR":
        pixels = pixels[:, :, ::-1]
    # The image is in the top left corner of a batch whose sides are multiples of the stride. What
    # is outside of it has no effect. Values are 0 to 255: the network normalizes them itself.
    divisor = info["size_divisor"]
    full_height = info["height"] or -(-height // divisor) * divisor
    full_width = info["width"] or -(-width // divisor) * divisor
    count = info["batch"] or 1  # a file of a fixed batch size gets the image as often
    images = np.zeros((count, info["channels"], full_height, full_width), np.float32)
    images[:, :, :height, :width] = pixels.transpose(2, 0, 1)
    return {
        "images": images,
        "image_sizes": np.array([[height, width]] * count, np.int64),
        "original_sizes": np.array([[image.height, image.width]] * count, np.int64),
    }


def detect(
    session: onnxruntime.InferenceSession, info: dict, image: Image.Image, threshold: float
) -> list[dict]:
    """Run the network. Boxes are x1, y1, x2, y2 in pixels of the image, best first."""
    if threshold < info["score_threshold"]:
        raise SystemExit(f"The file drops detections below {info['score_threshold']}.")
    names = ["boxes", "scores", "labels", "num_dets"]
    outputs = session.run(names, preprocess(image, info))
    boxes, scores, labels, count = (output[0] for output in outputs)
    return [
        {"class": info["class_names"][label], "score": float(score), "box": box.tolist()}
        for box, score, label in zip(boxes[:count], scores[:count], labels[:count], strict=True)
        if score > np.float32(threshold)
    ]


def main() -> None:
    """Print one line of JSON for each object, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--threshold", type=float, default=0.3)
    parser.add_argument("--draw", metavar="FILE", help="write the image with its objects here")
    args = parser.parse_args()
    session, info = load(args.model)
    image = read_image(args.image, info)
    found = detect(session, info, image, args.threshold)
    draw = ImageDraw.Draw(image)
    for item in found:
        print(json.dumps(item))
        draw.rectangle(item["box"], outline=(255, 0, 90), width=2)
        draw.text(item["box"][:2], f"{item['class']} {item['score']:.0%}", fill=(255, 0, 90))
    if args.draw:
        image.save(args.draw)


if __name__ == "__main__":
    main()
