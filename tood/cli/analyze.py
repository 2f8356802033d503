"""``tood analyze``: how well classification and localization agree, as in the paper's Table 6."""

import argparse

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset

from tood_runtime.cli.parser import EXIT_OK
from tood_runtime.output_files import make_output_folder, validate_output_file, write_json

from ..checkpoint import load_model
from ..data import build_test_loader, setup_datasets
from ..errors import ConfigError
from ..evaluation import AlignmentEvaluator, FastCOCOEvaluator
from .common import load_model_config, start_logging, table

# Columns of the table, and how each is printed.
COLUMNS = {
    "AP": ".1f",
    "AP75": ".1f",
    "PCC": ".3f",
    "IoU-top10": ".3f",
    "correct": ".0f",
    "redundant": ".0f",
    "error": ".0f",
    "instances": ".0f",
}


def main(args: argparse.Namespace) -> int:
    """Print the table, and write its numbers where ``--json`` says.

    Args:
        args: the options of ``tood analyze``.
    """
    start_logging()
    validate_output_file("--json", args.json)
    cfg = load_model_config(args)
    setup_datasets(cfg, ("TEST",))
    output = None if args.output is None else str(make_output_folder(args.output))
    result = analyze(cfg, output)
    print(table([list(result.values())], list(COLUMNS), list(COLUMNS.values())))
    if args.json is not None:
        write_json(args.json, result)
    return EXIT_OK


def analyze(cfg: CfgNode, output_dir: str | None = None) -> dict[str, float]:
    """Evaluate a model on the first test dataset of its config.

    Args:
        cfg: with datasets that are set up (``tood.data.setup_datasets``).
        output_dir: folder for the evaluators' own files; None for none.

    Returns:
        The value of each of :data:`COLUMNS`; AP in percent.

    Raises:
        ConfigError: the config has no test dataset, or another kind of detector.
        CheckpointError: the weights are missing or do not fit.
    """
    if not cfg.DATASETS.TEST:
        raise ConfigError(
            "DATASETS.TEST is empty, so there is nothing to analyze. "
            "Add --annotations and --images."
        )
    name = cfg.DATASETS.TEST[0]
    model = load_model(cfg)
    evaluators = DatasetEvaluators(
        [
            FastCOCOEvaluator(
                name, output_dir=output_dir, max_dets_per_image=cfg.TEST.DETECTIONS_PER_IMAGE
            ),
            AlignmentEvaluator(name, model, output_dir=output_dir),
        ]
    )
    results = inference_on_dataset(model, build_test_loader(cfg, name), evaluators)
    merged = {**results["bbox"], **results["alignment"]}
    return {column: merged[column] for column in COLUMNS}
