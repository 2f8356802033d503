import json
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from tood.data.synthetic import write_dataset


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes"), num_train=6, num_val=3, size=96)


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
