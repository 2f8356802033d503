"""tools.experiments.backbone_table: the order of the runs, what is kept of them, and the table."""

import itertools
import json

import pytest
from detectron2.modeling import build_model

from tests.helpers import timm_cfg
from tood.errors import TOODError
from tools.experiments import alignment_table, backbone_table

METRICS = {"AP": 50.0, "AP75": 40.0, "PCC": 0.5, "IoU-top10": 0.6}
METRICS |= {"correct": 10.0, "redundant": 5.0, "error": 7.0, "instances": 12.0}


@pytest.fixture
def runs(monkeypatch):
    """Replaces ``tood``: records what is trained; RetinaNet fails."""
    trained = []

    def run_command(arguments, log):
        value = dict(itertools.pairwise(arguments))
        if arguments[0] == "train":
            trained.append((value["MODEL.WEIGHTS"], value["SEED"], log.parent.name))
            if "RetinaNet" in arguments:
                raise TOODError("The loss became NaN or infinite.")
        else:
            with open(value["--json"], "w") as output:
                json.dump({**METRICS, "AP": 50.0 + int(value["SEED"])}, output)

    monkeypatch.setattr(alignment_table, "run_command", run_command)
    return trained


def test_order_failures_and_continuation(runs, tmp_path, capsys):
    weights = tmp_path / "w.pth"
    weights.touch()
    arguments = ["--config-file", "a.yaml", "--weights", str(weights), "--output", str(tmp_path)]
    arguments += ["--seeds", "1", "3", "--rows", "T-head + TAL", "RetinaNet"]
    backbone_table.main(arguments)
    rows = ["T-head+TAL", "RetinaNet"]
    assert runs == [
        (start, seed, f"{row}-seed{seed}")
        for start in (str(weights), "")
        for seed in ("1", "3")
        for row in rows
    ]
    lines = capsys.readouterr().out.splitlines()
    cells = [cell.strip() for cell in lines[-1].split("|")[1:-1]]
    assert cells[:5] == ["random", "T-head + TAL", "2", "52.0 ± 1.4", "40.0 ± 0.0"]
    assert len(lines) == 8 + 4  # no row without a result
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["weights/T-head + TAL/3"]["AP"] == 53.0
    assert saved["random/RetinaNet/1"] == {"failure": "The loss became NaN or infinite."}
    # Only what failed is tried again, and the results of other rows stay.
    backbone_table.main([*arguments, "--rows", "RetinaNet", "--starts", "weights"])
    assert len(runs) == 10
    assert len(json.loads((tmp_path / "results.json").read_text())) == len(saved)


def test_weights_are_needed(capsys):
    with pytest.raises(SystemExit):
        backbone_table.main(["--config-file", "a.yaml"])
    assert "--weights '' is not a file" in capsys.readouterr().err


def test_retinanet_has_the_same_backbone():
    pytest.importorskip("timm")
    options = [*backbone_table.RETINANET, "MODEL.RETINANET.NUM_CLASSES", 3]
    cfg = timm_cfg("small/TOOD-EfficientNetLite0-320", *options)
    model = build_model(cfg)
    ours = build_model(timm_cfg("small/TOOD-EfficientNetLite0-320"))
    assert repr(model.backbone) == repr(ours.backbone)
    assert model.anchor_generator.num_anchors == [9] * 5
