"""tools.experiments.two_stage_table: recall and AP of both first stages, kept and printed."""

import json

import pytest

from tests.helpers import CONFIGS
from tood.config.loading import load_config
from tood.data.synthetic import write_dataset
from tood.errors import CheckpointError
from tools.experiments import two_stage_table

CONFIG = str(CONFIGS / "quickstart" / "TOOD-MaskRCNN-R18-shapes.yaml")
ROWS = ["TOOD/Faster R-CNN", "RPN/Faster R-CNN"]


@pytest.fixture
def arguments(tmp_path):
    data = write_dataset(tmp_path / "data", num_train=8, num_val=4, size=64)
    options = ["DATASETS.TRAIN_ANNOTATIONS", data / "train.json"]
    options += ["DATASETS.TRAIN_IMAGES", data / "images"]
    options += ["DATASETS.TEST_ANNOTATIONS", data / "val.json"]
    options += ["DATASETS.TEST_IMAGES", data / "images", "SOLVER.MAX_ITER", 2, "SOLVER.STEPS", "()"]
    options += ["TEST.REPORT", False, "TEST.EVAL_PERIOD", 0, "SOLVER.IMS_PER_BATCH", 2]
    options += ["INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MIN_SIZE_TEST", 96]
    options += ["MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 3]
    output = ["--config-file", CONFIG, "--output", str(tmp_path / "runs"), "--seeds", "1"]
    return [*output, "--rows", *ROWS, "--opts", *map(str, options)]


def test_both_first_stages(arguments, tmp_path, capsys, monkeypatch):
    two_stage_table.main(arguments)
    table = capsys.readouterr().out.splitlines()[-2:]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in table]
    assert rows == [["Faster R-CNN", "TOOD", "1"], ["Faster R-CNN", "RPN", "1"]]
    results = sorted((tmp_path / "runs").glob("*/two_stage.json"))
    assert len(results) == 2
    for path in results:
        numbers = json.loads(path.read_text())
        assert set(numbers) == set(two_stage_table.METRICS) - {"mask AP"}
        few, many = ([numbers[f"AR@{n}, NMS {x}"] for x in (0.7, 0.9)] for n in (100, 1000))
        # More proposals find more, and of 1000 some are right by chance.
        assert all(0 < b <= 100 and a <= b for a, b in zip(few, many, strict=True))
    monkeypatch.setattr(two_stage_table, "train", None)  # finished runs are not repeated
    two_stage_table.main(arguments)
    assert capsys.readouterr().out.splitlines()[-2:] == table

    weights = next((tmp_path / "runs").glob("RPN*/model_final.pth"))
    options = [*arguments[arguments.index("--opts") + 1 :], "MODEL.MASK_ON", "False"]
    with pytest.raises(CheckpointError, match="does not match"):
        two_stage_table.proposal_recall(load_config(CONFIG, options), weights)
