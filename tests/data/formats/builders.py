"""Writes datasets in each format."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tood.data.dataset import DetectionDataset
from tood.data.formats.base import DataSource
from tood.data.formats.voc import VocFormat
from tood.data.formats.yolo import YoloFormat
from tood.data.normalize import build_dataset

CLASSES = ["person", "car, red", "no"]  # with a comma, and one that YAML reads as False
LABELS = ["/m/01g317", "/m/0k4j", "/m/0no"]

# An object of Pascal VOC, and its box: pixels 11 to 30 and 21 to 40, counted from 1.
VOC_CAT = ("cat", (11, 21, 30, 40))
VOC_CAT_BOX = [10, 20, 20, 20]
YOLO_BOX = "0.5 0.5 0.25 0.5"  # in 64x48: [24, 12, 16, 24]


def read_voc(path: Path | str, split: str = "train", **options) -> DetectionDataset:
    return VocFormat.read(DataSource(str(path), split=split, **options))


def read_voc_xml(folder: Path, xml: str | bytes, **options) -> DetectionDataset:
    """Read a folder after its a.xml was replaced."""
    (folder / "a.xml").write_bytes(xml if isinstance(xml, bytes) else xml.encode())
    return read_voc(folder, **options)


def read_yolo(path: Path | str, split: str = "train", **options) -> DetectionDataset:
    return YoloFormat.read(DataSource(str(path), split=split, **options))


def read_yolo_rows(yolo_file: Path, text: str | bytes) -> DetectionDataset:
    """Read a dataset after the labels of its image a were replaced."""
    label = yolo_file.parent / "labels" / "train" / "a.txt"
    label.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_yolo(yolo_file)


def write_text(path: Path, text: str) -> Path:
    """Write a file and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_image(path: Path, size: tuple[int, int] = (64, 48), orientation: int = 1) -> Path:
    """Write an image of width x height, with an EXIF orientation if it is not 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation > 1:
        exif[274] = orientation
    Image.new("RGB", size, (80, 90, 100)).save(path, exif=exif)
    return path


def make_dataset(
    folder: Path,
    sizes: Sequence[tuple[int, int]] = ((64, 48), (50, 70), (33, 41)),
    seed: int = 0,
    whole: bool = False,
) -> DetectionDataset:
    """Write images, and return them with random boxes; the last image has none, some are crowds.

    Args:
        folder: of the images.
        sizes: (width, height) of each.
        seed: of the boxes.
        whole: whole coordinates only.
    """
    rng = np.random.default_rng(seed)
    image_index, boxes = [], []
    for index, (width, height) in enumerate(sizes[:-1]):
        # The whole image, a sub-pixel box, and others.
        corners = [[0, 0, 1, 1], [0.25, 0.5, 0.251, 0.502]]
        for _ in range(4):
            x, y = np.sort(rng.uniform(0, 1, 2)), np.sort(rng.uniform(0, 1, 2))
            corners.append([x[0], y[0], x[1], y[1]])
        for x1, y1, x2, y2 in corners:
            box = [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height]
            boxes.append([max(1, round(v)) if i > 1 else round(v) for i, v in enumerate(box)])
            if not whole:
                boxes[-1] = box
            image_index.append(index)
    file_names = [
        str(write_image(folder / f"{seed}_{index}.png", size)) for index, size in enumerate(sizes)
    ]
    count = len(boxes)
    return build_dataset(
        source="made",
        class_names=CLASSES,
        category_ids=[1, 2, 3],
        file_names=file_names,
        image_ids=list(range(1, len(sizes) + 1)),
        heights=[height for _, height in sizes],
        widths=[width for width, _ in sizes],
        image_index=image_index,
        class_ids=np.arange(count) % 3,
        boxes=boxes,
        is_crowd=np.arange(count) % 5 == 4,
    )


def write_yolo(root: Path, splits: dict[str, DetectionDataset]) -> Path:
    """Write data.yaml and labels; images are linked. Returns data.yaml."""
    for split, dataset in splits.items():
        for index, name in enumerate(map(Path, dataset.file_names)):
            image = root / split / "images" / name.name
            label = root / split / "labels" / f"{name.stem}.txt"
            image.parent.mkdir(parents=True, exist_ok=True)
            label.parent.mkdir(parents=True, exist_ok=True)
            image.symlink_to(name)
            width, height = int(dataset.widths[index]), int(dataset.heights[index])
            rows = []
            for row in range(dataset.offsets[index], dataset.offsets[index + 1]):
                x, y, w, h = dataset.boxes[row].tolist()
                box = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
                rows.append(" ".join(map(str, (dataset.class_ids[row], *box))))
            label.write_text("\n".join(rows))
    entries = [f"{split}: ../{split}/images" for split in splits]
    (root / "data.yaml").write_text("\n".join([*entries, f"names: {json.dumps(CLASSES)}"]))
    return root / "data.yaml"


def voc_xml(
    objects: Sequence[tuple[str, Sequence[object]]],
    size: tuple[object, object] | None = (64, 48),
    file_name: str = "",
    difficult: Sequence[bool] = (),
) -> str:
    """An annotation of objects (class, corners)."""
    parts = [f"<filename>{file_name}</filename>"]
    if size is not None:
        parts.append(f"<size><width>{size[0]}</width><height>{size[1]}</height></size>")
    for index, (name, corners) in enumerate(objects):
        tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
        flag = int(bool(difficult and difficult[index]))
        parts.append(
            f"<object><name>{name}</name><difficult>{flag}</difficult>"
            f"<bndbox>{box}</bndbox></object>"
        )
    return f"<annotation>{''.join(parts)}</annotation>"


def write_voc(root: Path, splits: dict[str, DetectionDataset]) -> Path:
    """Write the folders of Pascal VOC.

    Whole coordinates count pixels from 1, as Pascal VOC has them; others are distances from the
    edge, as CVAT writes them.
    """
    first = int(all((dataset.boxes % 1 == 0).all() for dataset in splits.values()))
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, dataset in splits.items():
        names = [Path(name) for name in dataset.file_names]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(n.stem for n in names))
        for index, name in enumerate(names):
            (root / "JPEGImages" / name.name).symlink_to(name)
            rows = range(dataset.offsets[index], dataset.offsets[index + 1])
            objects = []
            for row in rows:
                x, y, w, h = dataset.boxes[row].tolist()
                class_name = CLASSES[dataset.class_ids[row]]
                corners = (x + first, y + first, x + w, y + h)
                objects.append((class_name, corners))
            xml = voc_xml(
                objects,
                (dataset.widths[index], dataset.heights[index]),
                name.name,
                [bool(dataset.is_crowd[row]) for row in rows],
            )
            (root / "Annotations" / f"{name.stem}.xml").write_text(xml)
    return root


COLUMNS = (
    *("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"),
    *("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"),
)


def open_images_row(
    image: str, label: str, box: Sequence[object], group: int = 0, confidence: object = 1
) -> tuple[object, ...]:
    """A row of a CSV file; the box is (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = box
    return image, "xclick", label, confidence, x1, x2, y1, y2, 0, 0, group, 0, 0


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    """Write a CSV file, with Open Images' columns as the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def write_open_images(root: Path, splits: dict[str, DetectionDataset]) -> Path:
    """Write the CSV files of Open Images and link the images."""
    write_csv(root / "class-descriptions-boxable.csv", list(zip(LABELS, CLASSES, strict=True)))
    for split, dataset in splits.items():
        name = {"val": "validation"}.get(split, split)
        rows: list[Sequence[object]] = [COLUMNS]
        for index, path in enumerate(map(Path, dataset.file_names)):
            image = root / name / path.name
            image.parent.mkdir(parents=True, exist_ok=True)
            image.symlink_to(path)
            width, height = int(dataset.widths[index]), int(dataset.heights[index])
            for row in range(dataset.offsets[index], dataset.offsets[index + 1]):
                x, y, w, h = dataset.boxes[row].tolist()
                box = (x / width, y / height, (x + w) / width, (y + h) / height)
                label = LABELS[dataset.class_ids[row]]
                rows.append(open_images_row(path.stem, label, box, int(dataset.is_crowd[row])))
        write_csv(root / f"{name}-annotations-bbox.csv", rows)
    return root


def assert_same(found: DetectionDataset, expected: DetectionDataset, crowds: bool = True) -> None:
    """Compare images by name, boxes to 1e-6 pixels, classes by name, and crowds."""
    assert [Path(n).name for n in found.file_names] == [Path(n).name for n in expected.file_names]
    assert found.heights.tolist() == expected.heights.tolist()
    assert found.widths.tolist() == expected.widths.tolist()
    assert found.offsets.tolist() == expected.offsets.tolist()
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=1e-6)
    names = [[d.class_names[i] for i in d.class_ids] for d in (found, expected)]
    assert names[0] == names[1]
    if crowds:
        assert found.is_crowd.tolist() == expected.is_crowd.tolist()
