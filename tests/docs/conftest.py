"""A folder like that of a user who follows the documentation."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from tests.helpers import CONFIGS, recipe_weights
from tood.checkpoint import downloading
from tood.data.synthetic import write_dataset
from tood.model_zoo import get_weights_url
from tood_runtime.cli import main

NUM_CLASSES = 3  # as the commands of the documentation say

# A model and a schedule that train in a second.
TINY = [
    *("MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.FREEZE_AT", "0"),
    *("MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"),
    *("MODEL.FPN.OUT_CHANNELS", "64", "MODEL.TOOD.HEAD.CHANNELS", "64"),
    *("MODEL.TOOD.HEAD.NUM_CONVS", "2", "INPUT.MIN_SIZE_TRAIN", "(64,)"),
    *("INPUT.MIN_SIZE_TEST", "64", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2"),
    *("SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0", "DATALOADER.NUM_WORKERS", "0"),
    *("TEST.EVAL_PERIOD", "2", "SOLVER.REFERENCE_WORLD_SIZE", "0"),
    *("SOLVER.EPOCHS", "0", "TEST.EVAL_EPOCHS", "0"),
]
# Added to each command, by its name, so that it takes a moment.
SHORTER = {
    "train": TINY,
    "detect": ["--opts", "INPUT.MIN_SIZE_TEST", "96"],
    "info": ["--size", "320x256"],
    "show-batch": ["--num-batches", "1"],
}
DATA = [
    *("MODEL.TOOD.NUM_CLASSES", str(NUM_CLASSES)),
    *("DATASETS.TRAIN_ANNOTATIONS", "train.json", "DATASETS.TRAIN_IMAGES", "images/"),
    *("DATASETS.TEST_ANNOTATIONS", "val.json", "DATASETS.TEST_IMAGES", "images/"),
]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the documentation names.

    ``train.json``, ``val.json`` and ``images/``, with three classes; the same as YOLO in
    ``cells/``; ``street.jpg``; ``more/``;
    ``configs/``; and in ``cache/``, where downloads are kept, random weights in the place of the
    published ones.
    """
    folder = tmp_path_factory.mktemp("docs")
    write_dataset(folder, num_train=3, num_val=2, size=96)
    for name in ("train.json", "val.json"):
        content = json.loads((folder / name).read_text())
        content["categories"] = content["categories"][:NUM_CLASSES]
        kept = {category["id"] for category in content["categories"]}
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] in kept]
        (folder / name).write_text(json.dumps(content))
        write_yolo(folder, Path(name).stem, content)
    image = Image.open(folder / "images" / content["images"][0]["file_name"]).convert("RGB")
    image.save(folder / "street.jpg")
    (folder / "more").mkdir()
    image.save(folder / "more" / "square.png")
    shutil.copytree(CONFIGS, folder / "configs")

    url = get_weights_url("TOOD-R50-1x")
    cached = folder / "cache" / url.split("://", 1)[1].split("/", 1)[1]
    cached.parent.mkdir(parents=True)
    torch.save({"state_dict": recipe_weights("TOOD-R50-1x")}, cached)
    (folder / "tood_r50_fpn_1x_coco.pth").symlink_to(cached)
    return folder


def write_yolo(folder: Path, split: str, content: dict) -> None:
    """Write a split of a COCO-format dataset as YOLO, in ``cells/``."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    ids = list(names)
    images, labels = folder / "cells" / "images" / split, folder / "cells" / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for image in content["images"]:
        rows = []
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"]:
                (x, y, w, h), size = annotation["bbox"], image["width"]  # images are square
                box = ((x + w / 2) / size, (y + h / 2) / size, w / size, h / size)
                rows.append(f"{ids.index(annotation['category_id'])} {' '.join(map(str, box))}")
        shutil.copy(folder / "images" / image["file_name"], images)
        (labels / image["file_name"]).with_suffix(".txt").write_text("\n".join(rows))
    yaml = f"train: images/train\nval: images/val\nnames: {json.dumps(list(names.values()))}\n"
    (folder / "cells" / "data.yaml").write_text(yaml)


@pytest.fixture(scope="session")
def trained(files: Path) -> Path:
    """The same folder, with a small trained model in ``output/mine``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(files)
        assert main(["train", "TOOD-R50-1x", *DATA, *TINY, "OUTPUT_DIR", "output/mine"]) == 0
    return files


@pytest.fixture
def workspace(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder as the current one; datasets that an example registers are removed afterwards."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("FVCORE_CACHE", str(trained / "cache"))
    # The random weights there have another sha256 than the published ones.
    monkeypatch.setattr(downloading, "published_hash", lambda url: None)
    known = set(DatasetCatalog.list())
    yield trained
    for name in set(DatasetCatalog.list()) - known:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
