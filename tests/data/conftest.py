import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from tests.data.builders import make_dataset
from tood.data import TrainLoader, build_train_loader
from tood.data.catalog import ReadOptions, set_read_options
from tood.data.synthetic import write_dataset


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes"), num_train=6, num_val=3, size=96)


@pytest.fixture
def clean_catalogs():
    """Removes the datasets that a test registers, and reads as by default after it."""
    names = set(DatasetCatalog.list())
    yield
    set_read_options(ReadOptions())
    for name in set(DatasetCatalog.list()) - names:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


@pytest.fixture
def shapes_cfg(tiny_cfg: CfgNode, shapes: Path) -> CfgNode:
    for split, name in (("TRAIN", "train"), ("TEST", "val")):
        tiny_cfg.DATASETS[f"{split}_ANNOTATIONS"] = str(shapes / f"{name}.json")
        tiny_cfg.DATASETS[f"{split}_IMAGES"] = str(shapes / "images")
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = (96,)
    tiny_cfg.INPUT.MIN_SIZE_TEST = 96
    tiny_cfg.SOLVER.IMS_PER_BATCH = 2
    return tiny_cfg


@pytest.fixture
def edited_json(shapes: Path, tmp_path: Path) -> Callable[[Callable], str]:
    """Writes a copy of the training annotations, changed in place or replaced by ``change``."""

    def edit(change: Callable) -> str:
        content = json.loads((shapes / "train.json").read_text())
        replaced = change(content)
        content = replaced if isinstance(replaced, (str, list, dict)) else content
        path = tmp_path / "edited.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return edit


@pytest.fixture
def loader_cfg(tiny_cfg):
    """Batches of 2 images, flipped and resized at random."""
    tiny_cfg.SOLVER.IMS_PER_BATCH = 2
    tiny_cfg.SEED = 7
    tiny_cfg.INPUT.MIN_SIZE_TRAIN, tiny_cfg.INPUT.MAX_SIZE_TRAIN = (24, 40), 80
    tiny_cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
    tiny_cfg.INPUT.MIN_SIZE_TEST = 32
    return tiny_cfg


@pytest.fixture
def images(tmp_path):
    """8 images, 5 of them landscape, each with one box."""
    names, sizes = [], [(60, 40)] * 5 + [(40, 60)] * 3
    for index, size in enumerate(sizes):
        pixels = np.random.default_rng(index).integers(0, 256, (*size[::-1], 3))
        names.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(pixels.astype(np.uint8)).save(names[-1])
    boxes = [(index, index % 3, 4, 4, 20, 20) for index in range(8)]
    return make_dataset(
        boxes,
        num_images=8,
        file_names=names,
        widths=[size[0] for size in sizes],
        heights=[size[1] for size in sizes],
    )


@pytest.fixture
def build_loader(loader_cfg, images, monkeypatch):
    """Builds the training loader of a changed config."""
    monkeypatch.setattr("tood.data.loaders.load_dataset", lambda name: images)
    loader_cfg.DATASETS.TRAIN = loader_cfg.DATASETS.TEST = ("a set",)

    def build(**keys) -> TrainLoader:
        changed = loader_cfg.clone()
        for key, value in keys.items():
            node = changed.SOLVER if key == "IMS_PER_BATCH" else changed.DATALOADER
            (changed if key == "SEED" else node)[key] = value
        return build_train_loader(changed)

    return build


@pytest.fixture
def multi_cfg(loader_cfg):
    """Most images are mosaics or blended."""
    loader_cfg.INPUT.MOSAIC.ENABLED, loader_cfg.INPUT.MOSAIC.PROB = True, 0.7
    loader_cfg.INPUT.MIXUP.ENABLED, loader_cfg.INPUT.MIXUP.PROB = True, 0.4
    return loader_cfg


@pytest.fixture
def registered():
    """The name of a dataset that the test registers."""
    yield "registered_by_a_test"
    DatasetCatalog.pop("registered_by_a_test", None)
    MetadataCatalog.pop("registered_by_a_test", None)
