"""COCO files of a few small images."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

WIDTH, HEIGHT = 80, 64


def coco_content(num_images: int = 3, classes: tuple[str, ...] = ("a", "b")) -> dict[str, Any]:
    """The content of a COCO file: two boxes per image, of different classes, areas and sizes."""
    content: dict[str, Any] = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT}
            for i in range(1, num_images + 1)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
        "annotations": [],
    }
    for image in content["images"]:
        for box in ([4, 6, 22, 30], [32, 10.5, 40, 44]):
            position = len(content["annotations"])
            content["annotations"].append(
                {
                    "id": position + 1,
                    "image_id": image["id"],
                    "category_id": 1 + position % len(classes),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    return content


def write_images(folder: Path, content: dict[str, Any]) -> None:
    """Write the images that a content names, black."""
    for image in content["images"]:
        path = folder / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(path)


def write_coco(folder: Path, content: Any, encoding: str = "utf-8") -> str:
    """Write a COCO file."""
    path = folder / "annotations.json"
    path.write_bytes(json.dumps(content).encode(encoding))
    return str(path)
