r"""TOOD and RPN as first stages: recall of the proposals, and AP of the detectors on them.

python -m tools.experiments.two_stage_table --output output/two_stage \
    --config-file configs/quickstart/TOOD-MaskRCNN-R18-shapes.yaml

Trains detectors of two stages on either first stage, with the same backbone, schedule and second
stage, and evaluates boxes, masks, and the proposals alone with detectron2's own proposal
evaluation: the average recall of the best 100 and of the best 1000, after NMS at two thresholds.
RPN has the FPN maps, anchors and numbers of detectron2's own configs. Finished runs are not
repeated, and a training that was stopped goes on from its checkpoint.
"""

import argparse
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from tabulate import tabulate

from tood.checkpoint import TOODCheckpointer
from tood.cli.common import exit_on_user_error
from tood.config.loading import load_config
from tood.data import build_test_loader
from tood.data.registration import setup_datasets
from tood.evaluation import FastCOCOEvaluator
from tools.experiments.alignment_table import (
    experiment_parser,
    read_evaluations,
    run_folder,
    run_seeds,
    spread_cells,
    train,
)
from tools.reference.rpn import rpn_options

_BOXES = ["MODEL.MASK_ON", "False"]
_CASCADE = ["MODEL.ROI_HEADS.NAME", "TOODCascadeROIHeads"]
_CASCADE += ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"]
# ROI heads that pool from the maps that detectron2's own pool from.
_P2_TO_P5 = ["MODEL.RESNETS.OUT_FEATURES", "['res2', 'res3', 'res4', 'res5']"]
_P2_TO_P5 += ["MODEL.FPN.IN_FEATURES", "['res2', 'res3', 'res4', 'res5']"]
_P2_TO_P5 += ["MODEL.ROI_HEADS.IN_FEATURES", "['p2', 'p3', 'p4', 'p5']"]
_SCORES = ["MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE", "True"]
# Options of the detectors, and of the first stages.
DETECTORS = {
    "Faster R-CNN": _BOXES,
    "Cascade R-CNN": [*_BOXES, *_CASCADE],
    "Mask R-CNN": ["MODEL.MASK_ON", "True"],
}
FIRST_STAGES = {
    "TOOD": [],
    "TOOD, P2 to P5": _P2_TO_P5,
    "TOOD, all classes": ["MODEL.TOOD.PROPOSALS.CLASS_AGNOSTIC", "False"],
    "TOOD, times proposal score": _SCORES,
    "RPN": rpn_options(frozen_norm=False),
}
# As many proposals of either kind as recall is evaluated with.
_MANY_PROPOSALS = ["MODEL.TOOD.PROPOSALS.POST_NMS_TOPK_TEST", "1000"]
# IoU above which a better proposal removes another one: detectron2's own for RPN, and TOOD's.
# Recall depends on it more than on the first stage, so both are evaluated with each.
NMS_THRESHOLDS = ("0.7", "0.9")
_RECALLS = ("AR@100", "AR@1000")
METRICS = ("AP", "AP50", "AP75", "mask AP")
METRICS += tuple(f"{name}, NMS {nms}" for nms in NMS_THRESHOLDS for name in _RECALLS)

Results = dict[str, float]


def run(args: argparse.Namespace, row: str, seed: int) -> Results:
    """The numbers of a detector on a first stage, from its file if that exists.

    Args:
        args: the command line.
        row: "first stage/detector".
        seed: of the training.
    """
    first_stage, detector = row.split("/")
    options = [*args.opts, *DETECTORS[detector], *FIRST_STAGES[first_stage], "SEED", str(seed)]
    folder = run_folder(Path(args.output), row.replace("/", "-"), seed)
    result = folder / "two_stage.json"
    if not result.is_file():
        train(args.config_file, options, folder)
        numbers = read_ap(folder)
        for nms in NMS_THRESHOLDS:
            thresholds = ["MODEL.TOOD.PROPOSALS.NMS_THRESH_TEST", nms, "MODEL.RPN.NMS_THRESH", nms]
            cfg = load_config(args.config_file, [*options, *_MANY_PROPOSALS, *thresholds])
            recall = proposal_recall(cfg, folder / "model_final.pth")
            numbers |= {f"{name}, NMS {nms}": value for name, value in recall.items()}
        result.write_text(json.dumps(numbers, indent=1) + "\n")
    return dict(json.loads(result.read_text()))


def read_ap(folder: Path) -> Results:
    """The last evaluation in a run's metrics.json.

    Raises:
        TOODError: it has none.
    """
    last = read_evaluations(folder / "metrics.json")[-1]
    names = {f"bbox/{name}": name for name in METRICS[:3]} | {"segm/AP": "mask AP"}
    return {name: last[key] for key, name in names.items() if key in last}


def proposal_recall(cfg: CfgNode, weights: Path) -> Results:
    """Average recall of the proposals alone, by detectron2's own evaluation.

    Args:
        cfg: of a two-stage detector.
        weights: its checkpoint.
    """
    cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    setup_datasets(cfg, ("TEST",))
    model = build_model(cfg).eval()
    TOODCheckpointer(model, strict=True).load(str(weights))
    name = cfg.DATASETS.TEST[0]
    with torch.no_grad():
        results: dict[str, Any] = inference_on_dataset(
            model, build_test_loader(cfg, name), FastCOCOEvaluator(name, distributed=False)
        )
    recall = results["box_proposals"]
    return {name: recall[name] for name in _RECALLS}


def make_table(results: dict[str, list[Results]]) -> str:
    """Means and standard deviations over the seeds, for each row."""
    rows = [
        [*reversed(name.split("/")), len(runs), *spread_cells(runs, METRICS)]
        for name, runs in results.items()
    ]
    return tabulate(rows, ["detector", "proposals", "seeds", *METRICS], tablefmt="github")


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate, and print the table.

    Args:
        argv: command line; None for that of the process.
    """
    rows = [f"{first}/{detector}" for detector in DETECTORS for first in FIRST_STAGES]
    parser = experiment_parser("two_stage_table", __doc__, "output/two_stage")
    parser.add_argument("--rows", nargs="+", choices=rows, default=rows, metavar="ROW")
    args = parser.parse_args(argv)
    print(make_table(run_seeds(args.rows, args.seeds, functools.partial(run, args))))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
