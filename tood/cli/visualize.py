"""``tood visualize``: the paper's Figure 1 for GT boxes of a dataset, and what T-head learned."""

import argparse

from tood_runtime.cli.parser import EXIT_NOTHING_DONE, EXIT_OK
from tood_runtime.output_files import make_output_folder

from ..analysis.figures import draw_alignment, model_titles
from ..data import setup_datasets
from ..errors import ConfigError
from ..inference.detector import Detector
from .common import load_model_config, split_models, start_logging


def main(args: argparse.Namespace) -> int:
    """Write the figures and print their paths.

    Args:
        args: the options of ``tood visualize``. The dataset is the first test set of the first
            model.

    Returns:
        0, or 1 if the dataset has no images.

    Raises:
        ConfigError: the config names no dataset, or an option is wrong.
    """
    start_logging()
    models = split_models(args)
    titles = model_titles([(model.model or model.config_file, model.weights) for model in models])
    configs = [load_model_config(model) for model in models]
    setup_datasets(configs[0], ("TEST",))
    if not configs[0].DATASETS.TEST:
        raise ConfigError(
            "DATASETS.TEST is empty, so there is nothing to draw. Add --annotations and --images."
        )
    output = make_output_folder(args.output)
    detectors = {
        title: Detector.from_config(cfg) for title, cfg in zip(titles, configs, strict=True)
    }
    written = draw_alignment(
        detectors,
        configs[0].DATASETS.TEST[0],
        output,
        num_images=args.num_images,
        num_instances=args.num_instances,
    )
    for path in written:
        print(path)
    return EXIT_OK if written else EXIT_NOTHING_DONE
