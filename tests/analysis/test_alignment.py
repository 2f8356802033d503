"""The alignment statistics: by hand, on real models, over processes; and the programs on them."""

import json
import math

import numpy as np
import pytest
import torch
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from tests.helpers import CONFIGS, load_program
from tood.analysis.alignment import (
    alignment_per_instance,
    average_ranks,
    classify_detections,
    spearman_correlation,
)
from tood.analysis.recorder import PredictionRecorder
from tood.config.loading import load_config
from tood.data import build_test_loader, setup_datasets
from tood.data.synthetic import write_dataset
from tood.errors import ConfigError, DataError
from tood.evaluation import AlignmentEvaluator, FastCOCOEvaluator, ImagePredictions
from tood.evaluation import alignment_evaluator as alignment


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def wide(width):
    """A box of an IoU of width / 100 with :data:`TRUTH`."""
    return [0, 0, width, 10]


TRUTH = boxes([0, 0, 100, 10])


def test_rankings_share_equal_places():
    assert average_ranks(torch.tensor([0.3, 0.9, 0.3, 0.1])).tolist() == [1.5, 3.0, 1.5, 0.0]


def test_rank_correlation_by_hand():
    """Ranks (0, 1, 2) and (0, 2, 1): covariance 1, both variances 2."""
    first = torch.tensor([0.1, 0.2, 0.9])
    assert spearman_correlation(first, first**3) == pytest.approx(1.0)
    assert spearman_correlation(first, -first) == pytest.approx(-1.0)
    assert spearman_correlation(first, torch.tensor([5.0, 7.0, 6.0])) == pytest.approx(0.5)
    assert spearman_correlation(first, torch.ones(3)) is None
    assert spearman_correlation(first[:1], first[:1]) is None


def test_instance_by_hand():
    """Scores in the order 0.9, 0.8, 0.7, 0.6; IoUs 0.5, 0.9, 0.6, 0.2; one box is not its own.

    Ranks 3, 2, 1, 0 and 1, 3, 2, 0: covariance 1.5 * -0.5 + 0.5 * 1.5 + -0.5 * 0.5 + 1.5 * 1.5 = 2,
    both variances 5.
    """
    pred_boxes = boxes(wide(60), wide(50), wide(20), wide(90), wide(10), [500, 0, 600, 10])
    scores = torch.tensor([0.7, 0.9, 0.6, 0.8, 0.95, 0.99])[:, None]
    ((correlation, overlap),) = alignment_per_instance(scores, pred_boxes, TRUTH, torch.tensor([0]))
    assert correlation == pytest.approx(2 / 5)
    assert overlap == pytest.approx((0.5 + 0.9 + 0.6 + 0.2) / 4)


def test_only_the_most_confident_predictions_count():
    """Of 60, the 50 with the highest scores for the correlation, 10 for the overlap."""
    widths = torch.arange(60) + 31
    pred_boxes = boxes(*(wide(w.item()) for w in widths))
    scores = torch.arange(60).flip(0)[:, None] / 100.0
    scores[50:] = torch.arange(10)[:, None] / 1000.0  # the last ten would spoil the order
    ((correlation, overlap),) = alignment_per_instance(scores, pred_boxes, TRUTH, torch.tensor([0]))
    assert correlation == pytest.approx(-1.0)
    assert overlap == pytest.approx(widths[:10].float().mean().item() / 100)


def test_predictions_belong_to_the_instance_of_the_class_that_they_overlap_most():
    gt_boxes = torch.cat([TRUTH, boxes([0, 0, 50, 10]), TRUTH])
    gt_classes = torch.tensor([0, 0, 1])
    pred_boxes = boxes(wide(90), wide(55))  # the second has 0.91 with the second instance
    scores = torch.tensor([[0.5, 0.2], [0.6, 0.1]])
    first, second, other = alignment_per_instance(scores, pred_boxes, gt_boxes, gt_classes)
    assert first == (None, pytest.approx(0.9))
    assert second == (None, pytest.approx(50 / 55))
    assert other == (pytest.approx(1.0), pytest.approx((0.9 + 0.55) / 2))


def test_instances_without_predictions_and_images_without_instances():
    far = boxes([500, 500, 510, 510])
    scores = torch.ones(1, 2)
    assert alignment_per_instance(scores, far, TRUTH, torch.tensor([1])) == [(None, 0.0)]
    empty = torch.zeros(0, dtype=torch.int64)
    assert alignment_per_instance(scores, far, boxes(), empty) == []
    none = {"correct": 0, "redundant": 0, "error": 0}
    assert classify_detections(far, torch.tensor([0]), boxes(), empty) == none
    assert classify_detections(boxes(), empty, TRUTH, torch.tensor([0])) == none


def test_detections_by_hand():
    """0.9 correct; 0.5, 0.7 redundant; 0.49, 0.11 errors; 0.1 and another class nothing."""
    found = boxes(*(wide(w) for w in (70, 90, 50, 49, 11, 10)), wide(95), [500, 0, 600, 10])
    classes = torch.tensor([0, 0, 0, 0, 0, 0, 1, 0])
    counts = classify_detections(found, classes, TRUTH, torch.tensor([0]))
    assert counts == {"correct": 1, "redundant": 2, "error": 2}
    two = torch.cat([TRUTH, boxes([0, 0, 50, 10])])
    counts = classify_detections(found, classes, two, torch.tensor([0, 0]))
    assert counts == {"correct": 2, "redundant": 2, "error": 2}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("shapes"), num_train=2, num_val=5, size=96)


def shapes_cfg(shapes, *opts):
    config = str(CONFIGS / "quickstart" / "TOOD-R18-shapes.yaml")
    data = ["DATASETS.TEST_ANNOTATIONS", str(shapes / "val.json")]
    data += ["DATASETS.TEST_IMAGES", str(shapes / "images"), "INPUT.MIN_SIZE_TEST", "128"]
    cfg = load_config(config, [*data, *opts])
    setup_datasets(cfg, ("TEST",))
    return cfg


RETINANET = ["MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.NUM_CLASSES", "5"]
RETINANET += ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[0.5, 1.0, 2.0]]"]
PARALLEL = ["MODEL.TOOD.HEAD.NAME", "ParallelHead", "MODEL.TOOD.PARALLEL_HEAD.CENTERNESS", "True"]


@pytest.mark.parametrize("opts", [[], PARALLEL, RETINANET], ids=["T-head", "parallel", "RetinaNet"])
def test_in_one_pass_with_cocos_evaluation(shapes, tmp_path, opts):
    """The dense predictions are those that the detections were picked from, of the image's size."""
    cfg = shapes_cfg(shapes, *opts)
    torch.manual_seed(1)
    model = build_model(cfg).eval()
    model.test_score_thresh = 0.0
    name = cfg.DATASETS.TEST[0]
    evaluator = Watching(name, model, str(tmp_path))
    evaluators = DatasetEvaluators([FastCOCOEvaluator(name, output_dir=None), evaluator])
    results = inference_on_dataset(model, build_test_loader(cfg, name), evaluators)
    assert set(results) == {"bbox", "alignment"}
    truth = json.loads((shapes / "val.json").read_text())
    assert results["alignment"]["instances"] == len(truth["annotations"])
    saved = json.loads((tmp_path / "alignment.json").read_text())
    np.testing.assert_equal(saved, results["alignment"])
    assert not model.head._forward_hooks  # nothing stays behind
    assert evaluator.images == 5


class Watching(AlignmentEvaluator):
    """Checks that every detection is one of the dense predictions."""

    images = 0

    def add(self, dense, detections, gt_boxes, gt_classes):
        self.images += 1
        assert detections.image_size == (96, 96)  # the network saw 128x128
        for box, score, category in zip(
            detections.pred_boxes.tensor, detections.scores, detections.pred_classes, strict=True
        ):
            same = (dense.scores[:, category] - score).abs() < 1e-6
            assert ((dense.boxes - box).abs().amax(1) < 1e-2)[same].any()
        super().add(dense, detections, gt_boxes, gt_classes)


def test_processes_add_up(shapes, monkeypatch):
    cfg = shapes_cfg(shapes)
    model = build_model(cfg)
    parts = []
    for width in (80, 40):
        evaluator = AlignmentEvaluator(cfg.DATASETS.TEST[0], model)
        evaluator.reset()
        detections = Instances((100, 100), pred_boxes=Boxes(boxes(wide(width))))
        detections.pred_classes = torch.tensor([0])
        dense = ImagePredictions(torch.tensor([[0.4], [0.9]]), boxes(wide(width), wide(20)))
        evaluator.add(dense, detections, TRUTH, torch.tensor([0]))
        parts.append(evaluator)
    monkeypatch.setattr(alignment.comm, "gather", lambda _: [part._sums for part in parts])
    result = parts[0].evaluate()["alignment"]
    assert result == {
        "PCC": pytest.approx(-1.0), "IoU-top10": pytest.approx((0.5 + 0.3) / 2),
        "correct": 1, "redundant": 0, "error": 1, "instances": 2,
    }  # fmt: skip
    monkeypatch.setattr(alignment.comm, "is_main_process", lambda: False)
    assert parts[1].evaluate() is None


def test_without_any_instance_the_means_are_no_numbers(shapes, monkeypatch):
    cfg = shapes_cfg(shapes)
    evaluator = AlignmentEvaluator(cfg.DATASETS.TEST[0], build_model(cfg))
    evaluator.reset()
    result = evaluator.evaluate()["alignment"]
    assert math.isnan(result["PCC"]) and math.isnan(result["IoU-top10"])


def test_misuse(shapes):
    cfg = shapes_cfg(shapes)
    model = build_model(cfg)
    with pytest.raises(ConfigError, match="Linear is no model whose dense predictions are known"):
        PredictionRecorder(torch.nn.Linear(1, 1))
    with pytest.raises(RuntimeError, match="call start"):
        PredictionRecorder(model).for_image(0)
    evaluator = AlignmentEvaluator(cfg.DATASETS.TEST[0], model)
    with pytest.raises(DataError, match="image 99 is not in the dataset"):
        evaluator.process([{"image_id": 99}], [{}])


def test_crowds_are_left_out_and_boxes_converted():
    gt_boxes, gt_classes = alignment._ground_truth(CROWD)
    assert gt_boxes.tolist() == [[10, 20, 40, 60]] and gt_classes.tolist() == [3]


CROWD = {
    "image_id": 1,
    "annotations": [
        {"bbox": [10, 20, 30, 40], "bbox_mode": 1, "category_id": 3, "iscrowd": 0},
        {"bbox": [0, 0, 90, 90], "bbox_mode": 1, "category_id": 3, "iscrowd": 1},
    ],
}


@pytest.fixture(scope="module")
def checkpoints(shapes, tmp_path_factory):
    """Weights of a T-head and of a parallel head, untrained."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, opts in (("tood", []), ("parallel", PARALLEL)):
        model = build_model(shapes_cfg(shapes, *opts))
        torch.save({"model": model.state_dict()}, folder / f"{name}.pth")
    return folder


def test_analysis_program(shapes, checkpoints, tmp_path, monkeypatch, capsys):
    config = str(CONFIGS / "quickstart" / "TOOD-R18-shapes.yaml")
    file = tmp_path / "numbers.json"
    arguments = ["--config-file", config, "--json", str(file), "--opts"]
    arguments += ["MODEL.WEIGHTS", str(checkpoints / "tood.pth")]
    arguments += ["DATASETS.TEST_ANNOTATIONS", str(shapes / "val.json")]
    arguments += ["DATASETS.TEST_IMAGES", str(shapes / "images")]
    monkeypatch.setattr("sys.argv", ["analyze_alignment.py", *arguments])
    load_program("tood/cli/analyze.py").main()
    header = next(line for line in capsys.readouterr().out.splitlines() if line[:1] == "|")
    columns = ["AP", "AP75", "PCC", "IoU-top10", "correct", "redundant", "error", "instances"]
    assert [cell.strip() for cell in header.strip("|").split("|")] == columns
    assert list(json.loads(file.read_text())) == columns


def test_pictures_of_two_models(shapes, checkpoints, tmp_path, monkeypatch):
    """A figure for each ground truth with both models, and one of the T-head's insides."""
    config = tmp_path / "parallel.yaml"
    quickstart = CONFIGS / "quickstart" / "TOOD-R18-shapes.yaml"
    config.write_text(
        f'_BASE_: "{quickstart}"\nMODEL:\n  TOOD:\n    HEAD:\n      NAME: "ParallelHead"\n'
        "    PARALLEL_HEAD:\n      CENTERNESS: True\n"
    )
    arguments = ["--model", str(quickstart), str(checkpoints / "tood.pth")]
    arguments += ["--model", str(config), str(checkpoints / "parallel.pth")]
    arguments += ["--json", str(shapes / "val.json"), "--images", str(shapes / "images")]
    arguments += ["--output", str(tmp_path / "out"), "--pictures", "1", "--instances", "1"]
    monkeypatch.setattr("sys.argv", ["visualize_alignment.py", *arguments])
    load_program("tood/analysis/figures.py").main()
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    first = json.loads((shapes / "val.json").read_text())["images"][0]["file_name"].split(".")[0]
    assert names == [f"{first}-gt1.png", f"{first}-head-1.png"]
