r"""How well classification and localization agree: Table 6 of the paper, for any checkpoint.

tools/analyze_alignment.py --config-file configs/TOOD-R50-1x.yaml --opts MODEL.WEIGHTS <file or URL>
tools/analyze_alignment.py --config-file configs/TOOD-R50-1x.yaml --json table6.json --opts \
    MODEL.WEIGHTS model.pth DATASETS.TEST_ANNOTATIONS val.json DATASETS.TEST_IMAGES images/

AP is COCO's. PCC and IoU are means over the instances, before the suppression; the boxes are
counted after it. tood.evaluation.AlignmentEvaluator defines them exactly. Works for configs of
detectron2's RetinaNet too (MODEL.META_ARCHITECTURE RetinaNet).
"""

import argparse
import json
from pathlib import Path

import tood  # before the others: it explains what is missing

# isort: split
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils.logger import setup_logger
from tabulate import tabulate

from tood.checkpoint import TOODCheckpointer
from tood.config.loading import load_config
from tood.data import build_test_loader, setup_datasets
from tood.errors import exit_on_user_error
from tood.evaluation import AlignmentEvaluator, FastCOCOEvaluator

COLUMNS = ["AP", "AP75", "PCC", "IoU-top10", "correct", "redundant", "error", "instances"]


def analyze(cfg: CfgNode) -> dict[str, float]:
    """The columns, for the model and the first test dataset of a config."""
    model = build_model(cfg).eval()
    TOODCheckpointer(model, strict=True).load(cfg.MODEL.WEIGHTS)
    name = cfg.DATASETS.TEST[0]
    evaluators = DatasetEvaluators(
        [FastCOCOEvaluator(name, output_dir=None), AlignmentEvaluator(name, model)]
    )
    results = inference_on_dataset(model, build_test_loader(cfg, name), evaluators)
    return {key: {**results["bbox"], **results["alignment"]}[key] for key in COLUMNS}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--json", help="also write the numbers into this file")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    args = parser.parse_args()
    setup_logger(name=tood.__name__)
    cfg = load_config(args.config_file, args.opts)
    setup_datasets(cfg, ("TEST",))
    result = analyze(cfg)
    formats = [".1f", ".1f", ".3f", ".3f", ".0f", ".0f", ".0f", ".0f"]
    print(tabulate([list(result.values())], COLUMNS, tablefmt="github", floatfmt=formats))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
