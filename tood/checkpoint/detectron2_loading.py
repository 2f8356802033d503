"""Let detectron2's own ``DetectionCheckpointer`` read all layouts into models of this project.

``DefaultPredictor`` and most scripts for detectron2 load weights with it. It skips what does not
match with a warning, and the model detects noise. Importing this package changes that for models
with a dense-detector core: files of other layouts are renamed, and a model in eval mode, which has
no other use, must be filled. Loading for training is left to detectron2 otherwise.
"""

import logging
from typing import Any

from torch import nn

from ..compat import convert_what_detectron2_loads
from ..errors import CheckpointError
from ..modeling.dense_detector import find_dense_core
from .key_mapping import LAYOUT_DESCRIPTIONS, detect_layout, nest_keys, to_tood_keys
from .loading import LoadedWeights
from .model_comparison import compare_with_model, core_prefix
from .state_dict import extract_state_dict

logger = logging.getLogger(__name__)


def rename_loaded(model: nn.Module, loaded: dict[str, Any], path: str) -> dict[str, Any]:
    """Rename the weights that detectron2 has read from a file to those of the model.

    Args:
        model: that they are for.
        loaded: with the weights under "model", perhaps in the wrappers of another program.
        path: the file, for messages.

    Returns:
        ``loaded`` itself where detectron2 can use it as it is: the model has no dense-detector
        core, the names are the model's, or detectron2 has rules for them (.pkl).

    Raises:
        CheckpointError: the file holds the weights of another model, or those of a TOOD that do not
            match. Another number of classes and a backbone alone are accepted for training.
    """
    core = find_dense_core(model)
    if core is None:
        return loaded
    weights, expected = loaded["model"], model.state_dict()
    names = {str(name).removeprefix("module.") for name in weights}
    # A one-stage detector shares the names of its backbone with a two-stage model, not the head's.
    is_nested = nest_keys(dict.fromkeys(names), core_prefix(model, core), expected).keys() == names
    is_known = "__author__" in loaded or (is_nested and not names.isdisjoint(expected))
    if is_known and model.training:
        return loaded
    tensors, ignored = extract_state_dict(weights, path)
    try:
        layout = detect_layout(tensors, path)
    except CheckpointError:
        if loaded.get("matching_heuristics"):
            return loaded
        raise
    tensors, origins = to_tood_keys(tensors, layout)
    found = LoadedWeights(path, tensors, layout, origins, ignored)
    renamed, report = compare_with_model(model, core, found, allow_exceptions=model.training)
    if report.missing or report.mismatched or (report.unexpected and not is_known):
        raise CheckpointError(report.format())
    if is_known:
        return loaded
    logger.info("%s is %s.", path, LAYOUT_DESCRIPTIONS[layout])
    return {**loaded, "model": renamed.tensors}


convert_what_detectron2_loads(rename_loaded)
