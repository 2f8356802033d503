"""Datasets of three images in each format."""

import json
from typing import Any

from ..files import Case
from .images import encode, sample_image

_CLASSES = ("cat", "dog, big", "no")
_LABELS = ("/m/01yrx", "/m/0bt9lr", "/m/0no")
_SIZES = ((48, 40), (30, 52), (64, 33))
# Of each image: class and box [x, y, width, height].
_BOXES = (
    ((0, (4, 6, 22, 30)), (1, (20, 10, 16, 12))),
    ((2, (1, 2, 25, 40)),),
    ((1, (10, 3, 40, 25)), (0, (5, 5, 8, 8)), (2, (30, 9, 20, 20))),
)


def _images(folder: str, names: tuple[str, ...] = ("a.png", "b.jpg", "c.png")) -> dict[str, bytes]:
    files = {}
    for index, (name, size) in enumerate(zip(names, _SIZES, strict=True)):
        kind = "JPEG" if name.endswith(".jpg") else "PNG"
        files[f"{folder}{name}"] = encode(sample_image(index, size), kind)
    return files


def _coco_content() -> dict[str, Any]:
    names = ("a.png", "b.jpg", "c.png")
    images = [
        {"id": i, "file_name": name, "width": width, "height": height}
        for i, (name, (width, height)) in enumerate(zip(names, _SIZES, strict=True), 1)
    ]
    annotations = []
    for i, boxes in enumerate(_BOXES, 1):
        for category, box in boxes:
            x, y, w, h = box
            points = [x + w / 2, y + h / 2, 2, x + 1, y + 1, 1, 0, 0, 0]
            entry = {"id": len(annotations) + 1, "image_id": i, "category_id": category + 1}
            entry |= {"bbox": list(box), "area": w * h, "iscrowd": 0}
            entry |= {"segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}
            annotations.append({**entry, "keypoints": points, "num_keypoints": 2})
    keypoints = {"keypoints": ["nose", "left", "right"], "skeleton": [[1, 2], [2, 3]]}
    categories = [
        {"id": i, "name": name, "supercategory": "thing", **keypoints}
        for i, name in enumerate(_CLASSES, 1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories, "info": {}}


def coco_cases() -> list[Case]:
    """With boxes only, masks (polygons and RLE) and keypoints, and as Label Studio writes it."""
    content = _coco_content()
    images = _images("images/")
    plain = json.dumps(content).encode()
    crowd = json.loads(plain)
    width, height = _SIZES[0]
    runs = [50, 20, width * height - 70]
    rle = {"size": [height, width], "counts": runs}
    crowd["annotations"][0] |= {"iscrowd": 1, "segmentation": rle}
    compressed = {"size": [height, width], "counts": "b1d0fj1"}
    crowd["annotations"][1] |= {"segmentation": compressed}
    studio = json.loads(plain)
    for image in studio["images"]:
        image["file_name"] = f"/data/local-files/?d=images/{image['file_name']}"
        del image["width"], image["height"]
    place: dict[str, Any] = {"images": "images"}
    return [
        Case("coco", "a.json", {"a.json": plain, **images}, place),
        Case("coco", "a.json", {"a.json": json.dumps(crowd).encode(), **images},
             {**place, "masks": True}),
        Case("coco", "a.json", {"a.json": plain, **images}, {**place, "keypoints": 3}),
        Case("coco", "a.json", {"a.json": json.dumps(studio).encode(), **images}, place),
    ]  # fmt: skip


def _yolo_rows(index: int) -> str:
    width, height = _SIZES[index]
    rows = []
    for category, (x, y, w, h) in _BOXES[index]:
        box = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
        rows.append(" ".join(map(str, (category, *box))))
    return "\n".join(rows)


def yolo_cases() -> list[Case]:
    """With data.yaml and folders, with lists of images, darknet's files, and classes.txt."""
    names = ("a", "b", "c")
    labels = {f"labels/train/{name}.txt": _yolo_rows(i).encode() for i, name in enumerate(names)}
    images = _images("images/train/")
    yaml_text = f"path: .\ntrain: images/train\nval: images/train\nnames: {json.dumps(_CLASSES)}\n"
    listed = yaml_text.replace("train: images/train", "train: train.txt", 1)
    polygons = {**labels, "labels/train/a.txt": b"0 0.1 0.1 0.6 0.2 0.4 0.8\n1 0.5 0.5 0.2 0.2 0.9"}
    lines = "\n".join(f"./{name}" for name in images).encode()
    numbered = "train: images/train\nnc: 3\nnames:\n  0: cat\n  1: dog\n  2: no\nkpt_shape: [3, 3]"
    flat = {f"{name}.txt": _yolo_rows(i).encode() for i, name in enumerate(names)}
    darknet = b"classes = 3\ntrain = train.txt\nvalid = train.txt\nnames = obj.names\n"
    darknet_list = b"obj_train_data/a.png\nobj_train_data/b.jpg\nobj_train_data/c.png\n"
    darknet_files = {f"obj_train_data/{name}": text for name, text in flat.items()}
    listing = "\n".join(_CLASSES).encode()
    return [
        Case("yolo", "data.yaml", {"data.yaml": yaml_text.encode(), **labels, **images}),
        Case("yolo", "", {"data.yaml": listed.encode(), "train.txt": lines, **polygons, **images}),
        Case("yolo", "data.yaml", {"data.yaml": numbered.encode(), **labels, **images}),
        Case("yolo", "", {"obj.data": darknet, "obj.names": listing, "train.txt": darknet_list,
                          **darknet_files, **_images("obj_train_data/")}),
        Case("yolo", "", {"classes.txt": listing, **flat, **_images("")}),
    ]  # fmt: skip


def _voc_xml(index: int, name: str) -> bytes:
    width, height = _SIZES[index]
    parts = [f"<filename>{name}</filename>"]
    parts.append(f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
    for category, (x, y, w, h) in _BOXES[index]:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + w, y + h), strict=True)
        box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in corners)
        parts.append(
            f"<object><name>{_CLASSES[category]}</name><difficult>0</difficult>"
            f"<bndbox>{box}</bndbox></object>"
        )
    return f'<?xml version="1.0"?><annotation>{"".join(parts)}</annotation>'.encode()


def voc_cases() -> list[Case]:
    """With ImageSets, with a folder per split, and XML files next to their images."""
    names = ("a.png", "b.jpg", "c.png")
    files = {f"{name[0]}.xml": _voc_xml(i, name) for i, name in enumerate(names)}
    classic = {f"Annotations/{name}": data for name, data in files.items()}
    splits = {f"train/{name}": data for name, data in files.items()}
    labels = {"labels.txt": "\n".join(_CLASSES).encode()}
    colors = "# label:color_rgb:parts:actions\n" + "".join(f"{x}:1,2,3::\n" for x in _CLASSES)
    polygon = b"<polygon><x1>1</x1><y1>2</y1><x2>9</x2><y2>2</y2><x3>5</x3><y3>8</y3></polygon>"
    start = classic["Annotations/b.xml"].index(b"<bndbox>")
    end = classic["Annotations/b.xml"].index(b"</bndbox>") + len(b"</bndbox>")
    classic["Annotations/b.xml"] = (
        classic["Annotations/b.xml"][:start] + polygon + classic["Annotations/b.xml"][end:]
    )
    lists = {"ImageSets/Main/train.txt": b"a\nb\nc\n"}
    return [
        Case("voc", "", {**classic, **lists, **_images("JPEGImages/")}),
        Case("voc", "", {**splits, **labels, **_images("train/")}),
        Case("voc", "", {**files, "labelmap.txt": colors.encode(), **_images("")}),
    ]


def openimages_cases() -> list[Case]:
    """With class descriptions and a folder per split, and as CVAT writes it."""
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
    lines = [f"{header}IsGroupOf,IsDepiction,IsInside"]
    for index, name in enumerate(("a", "b", "c")):
        width, height = _SIZES[index]
        for category, (x, y, w, h) in _BOXES[index]:
            box = (x / width, (x + w) / width, y / height, (y + h) / height)
            values = ",".join(map(str, box))
            lines.append(f"{name},xclick,{_LABELS[category]},1,{values},0,0,0,0,0")
    rows = "\n".join(lines).encode()
    quoted = [f'{label},"{name}"' for label, name in zip(_LABELS, _CLASSES, strict=True)]
    names = "\n".join(quoted).encode()
    return [
        Case("openimages", "", {"class-descriptions-boxable.csv": names,
                                "train-annotations-bbox.csv": rows, **_images("train/")}),
        Case("openimages", "", {"annotations/train-annotations-bbox.csv": rows,
                                "annotations/class-descriptions.csv": names,
                                **_images("images/train/")}),
        Case("openimages", "train-annotations-bbox.csv",
             {"train-annotations-bbox.csv": rows, **_images("images/")}, {"images": "images"}),
    ]  # fmt: skip
