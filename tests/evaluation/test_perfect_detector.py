"""A detector that returns the ground truth has AP 100 on every file that is accepted."""

import copy
import math

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from tests.data.coco_files import coco_content, write_coco, write_images
from tests.evaluation.perfect import assert_perfect, evaluate_perfect
from tood.data import build_train_loader, setup_datasets
from tood.data.registration import load_dataset
from tood.evaluation import coco_evaluator


def every(part, **fields):
    """Set fields of all entries; a value may be a function of the entry."""

    def change(content):
        for entry in content[part]:
            for key, value in fields.items():
                entry[key] = value(entry) if callable(value) else value

    return change


def first(part, **fields):
    return lambda content: content[part][0].update(fields)


def without(part, *keys):
    return lambda content: [entry.pop(key) for entry in content[part] for key in keys]


def ids(part, reference, function):
    """Change the ids of images or categories, and the references to them."""

    def change(content):
        every(part, id=lambda entry: function(entry["id"]))(content)
        every("annotations", **{reference: lambda entry: function(entry[reference])})(content)

    return change


def both(*changes):
    return lambda content: [change(content) for change in changes]


def super_category(content):
    content["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})
    for category in content["categories"][1:]:
        category["supercategory"] = "things"


def nested(content):
    """Something that looks like an annotation, in an annotation and elsewhere."""
    twin = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 0}
    content["annotations"][1]["attributes"] = {"previous": dict(twin)}
    content["info"] = {"example": dict(twin), "list": [dict(twin)]}


UNCHANGED = {
    "plain": lambda c: None,
    "annotation ids from 0": every("annotations", id=lambda a: a["id"] - 1),
    "negative annotation ids": every("annotations", id=lambda a: -a["id"]),
    "text annotation ids": every("annotations", id=lambda a: f"a{a['id']}"),
    "huge annotation ids": every("annotations", id=lambda a: 2**63 + a["id"]),
    "equal annotation ids": every("annotations", id=7),
    "null annotation ids": every("annotations", id=None),
    "fractional annotation ids": every("annotations", id=lambda a: a["id"] + 0.5),
    "no annotation ids": without("annotations", "id"),
    "text image ids": ids("images", "image_id", "x{}".format),
    "text category ids": ids("categories", "category_id", "x{}".format),
    "both as text": both(
        ids("images", "image_id", "{}".format), ids("categories", "category_id", "{}".format)
    ),
    "float ids": both(ids("images", "image_id", float), ids("categories", "category_id", float)),
    "ids of one side as floats": every("images", id=lambda i: float(i["id"])),
    "image ids from 0": ids("images", "image_id", lambda i: i - 1),
    "category ids from 0": ids("categories", "category_id", lambda i: i - 1),
    "negative ids": both(
        ids("images", "image_id", lambda i: -i), ids("categories", "category_id", lambda i: i - 5)
    ),
    "ids beyond 64 bits": both(
        ids("images", "image_id", lambda i: i + 2**64),
        ids("categories", "category_id", lambda i: i + 2**70),
    ),
    "gaps": ids("categories", "category_id", lambda i: 10 * i + 3),
    "no area": without("annotations", "area"),
    "no iscrowd": without("annotations", "iscrowd"),
    "nothing but the box": without("annotations", "area", "iscrowd", "id"),
    **{
        f"area {area!r:.20}": every("annotations", area=area)
        for area in (0, -3, None, "x", "12", [], 1e12, 10**400, math.nan, math.inf, 0.5, True)
    },
    **{
        f"iscrowd {value!r}": every("annotations", iscrowd=value)
        for value in (None, "0", False, 0.0, "false", "")
    },
    "ignore 0": every("annotations", ignore=0),
    "ignore null": every("annotations", ignore=None),
    **{
        f"segmentation {mask!r:.40}": every("annotations", segmentation=mask)
        for mask in (
            None, [], [[]], [[4, 6, 26, 36]], [4, 6, 26, 6, 26, 36], [[[4, 6], [26, 6], [26, 36]]],
            {"counts": [4096]}, {"counts": "x", "size": [1]}, "polygon", 7, {},
        )
    },
    "keypoints": every("annotations", keypoints=[None, None, 0], num_keypoints="x"),
    "numbers as text": every("annotations", bbox=lambda a: [str(x) for x in a["bbox"]]),
    "super-category 0": super_category,
    "nested annotations": nested,
    "file_name in annotations": every("annotations", file_name="x.png", width=3),
    "extra keys": both(
        every("images", license=1, annotations=[], bbox=[1, 2, 3, 4], image_id=9),
        every("categories", color=[1, 2], keypoints=["a"], bbox=None),
        lambda c: c.update(info=None, licenses="x", type={}, segment_info=[1]),
    ),
    "number names": every("categories", name=lambda c: c["id"]),
    "null names": every("categories", name=None),
    "equal names": every("categories", name="thing"),
    "strange names": every("categories", name=lambda c: f"{c['id']}: é\n'\"\ud800 \U0001f600"),
    "sizes as text": every("images", width="80", height="64"),
    "no sizes": without("images", "width", "height"),
    "sizes 0": every("images", width=0, height=0),
    "float sizes": every("images", width=80.0, height=64.0),
    "fractional sizes": every("images", width=80.5, height=None),
    "backslashes": every("images", file_name=lambda i: f"images\\{i['file_name']}"),
    "Windows drive": every("images", file_name=lambda i: f"D:\\set\\images\\{i['file_name']}"),
    "absolute path": every("images", file_name=lambda i: f"/home/me/set/{i['file_name']}"),
    "./": every("images", file_name=lambda i: f"./{i['file_name']}"),
    "prefix": every("images", file_name=lambda i: f"images/{i['file_name']}"),
    "Label Studio": every(
        "images", file_name=lambda i: f"/data/local-files/?d=set%5Cimages/{i['file_name']}"
    ),
    "URL": every("images", file_name=lambda i: f"https://host/a%20b/{i['file_name']}?x=1#y"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / "images", coco_content())
    return tmp_path


@pytest.fixture
def set_up(folder, tiny_cfg):
    """Registers a file as training and test set; returns the config."""
    names = set(DatasetCatalog.list())

    def build(content, encoding="utf-8"):
        path = write_coco(folder, content, encoding)
        for split in ("TRAIN", "TEST"):
            tiny_cfg.DATASETS[f"{split}_ANNOTATIONS"] = path
            tiny_cfg.DATASETS[f"{split}_IMAGES"] = str(folder / "images")
        tiny_cfg.MODEL.TOOD.NUM_CLASSES = 80
        tiny_cfg.INPUT.MIN_SIZE_TRAIN = (64,)
        tiny_cfg.INPUT.RANDOM_FLIP = "none"
        tiny_cfg.SOLVER.IMS_PER_BATCH = 1
        tiny_cfg.OUTPUT_DIR = str(folder / "out")
        setup_datasets(tiny_cfg)
        return tiny_cfg

    yield build
    for name in set(DatasetCatalog.list()) - names:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


def trained_boxes(cfg) -> list[tuple]:
    """All boxes of an epoch, sorted: (file, class, x1, y1, x2, y2)."""
    loader = build_train_loader(cfg)
    boxes = {}
    for batch in loader:
        for x in batch:
            instances = x["instances"]
            boxes[x["file_name"]] = [
                (x["file_name"][-5:], int(category), *box.tolist())
                for box, category in zip(
                    instances.gt_boxes.tensor, instances.gt_classes, strict=True
                )
            ]
        if len(boxes) == loader.num_images:
            return sorted(box for found in boxes.values() for box in found)
    raise AssertionError


EXPECTED = sorted(
    (f"{image}.png", category, *box)
    for image in (1, 2, 3)
    for category, box in enumerate([(4.0, 6.0, 26.0, 36.0), (32.0, 10.5, 72.0, 54.5)])
)


@pytest.mark.parametrize("fast", [True, False], ids=["faster-coco-eval", "pycocotools"])
@pytest.mark.parametrize("kind", UNCHANGED)
def test_file_that_means_the_same(set_up, monkeypatch, kind, fast):
    """Training has the boxes of the plain file, and the AP is 100 with the sizes right too."""
    if not fast:
        monkeypatch.setattr(coco_evaluator, "COCOeval_faster", None)
    content = copy.deepcopy(coco_content())
    UNCHANGED[kind](content)
    cfg = set_up(content)
    (name,) = cfg.DATASETS.TEST
    assert cfg.MODEL.TOOD.NUM_CLASSES == 2
    results = evaluate_perfect(name)
    assert_perfect(results, load_dataset(name))
    # 22x30 is small, 40x44 medium, whatever the file says about the areas.
    assert results["APs"] == results["APm"] == pytest.approx(100) and math.isnan(results["APl"])
    if fast:
        assert trained_boxes(cfg) == EXPECTED


def crowd_of_all_but_one(content):
    for entry in content["annotations"][1:]:
        entry["iscrowd"] = True


# What is left of the boxes that a file has: those of EXPECTED by position.
CHANGED = {
    "flat": (first("annotations", bbox=[4, 6, 22, 0]), [1, 2, 3, 4, 5]),
    # 32 bits have 79.9999 and 79.9999076, but nothing between.
    "too small": (first("annotations", bbox=[79.9999, 6, 1e-9, 30]), [1, 2, 3, 4, 5]),
    "negative width": (first("annotations", bbox=[26, 6, -22, 30]), [1, 2, 3, 4, 5]),
    "not a number": (first("annotations", bbox=[4, math.nan, 22, 30]), [1, 2, 3, 4, 5]),
    "infinite": (first("annotations", bbox=[4, 6, math.inf, 30]), [1, 2, 3, 4, 5]),
    "10**400": (first("annotations", bbox=[4, 6, 10**400, 30]), [1, 2, 3, 4, 5]),
    "null": (first("annotations", bbox=[4, 6, None, 30]), [1, 2, 3, 4, 5]),
    "no box": (first("annotations", bbox=None), [1, 2, 3, 4, 5]),
    "outside": (first("annotations", bbox=[400, 6, 22, 30]), [1, 2, 3, 4, 5]),
    "far outside": (first("annotations", bbox=[9e5, 6, 22.3, 30.3]), [1, 2, 3, 4, 5]),
    "box from polygon": (
        first("annotations", bbox=[], segmentation=[[4, 6, 26, 6, 26, 36]]),
        [0, 1, 2, 3, 4, 5],
    ),
    "crowd": (first("annotations", iscrowd="1"), [1, 2, 3, 4, 5]),
    "ignored": (first("annotations", ignore=True), [1, 2, 3, 4, 5]),
    "crowds but one": (crowd_of_all_but_one, [0]),
    "an image without boxes": (lambda c: c["annotations"].__delitem__(slice(2)), [2, 3, 4, 5]),
}


@pytest.mark.parametrize("fast", [True, False], ids=["faster-coco-eval", "pycocotools"])
@pytest.mark.parametrize("kind", CHANGED)
def test_file_with_less_boxes(set_up, monkeypatch, kind, fast):
    """Training and evaluation leave out the same boxes."""
    if not fast:
        monkeypatch.setattr(coco_evaluator, "COCOeval_faster", None)
    content = copy.deepcopy(coco_content())
    change, kept = CHANGED[kind]
    change(content)
    cfg = set_up(content)
    (name,) = cfg.DATASETS.TEST
    assert_perfect(evaluate_perfect(name), load_dataset(name))
    if fast:
        assert trained_boxes(cfg) == [EXPECTED[position] for position in kept]
