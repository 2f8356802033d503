"""Which keypoints a mirror exchanges: the left and the right ones."""

import logging
import re
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import create_keypoint_hflip_indices

from ..errors import ConfigError
from .dataset import DetectionDataset
from .formats.json_file import printable

logger = logging.getLogger(__name__)

Pairs = list[tuple[str, str]]

_OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}
_WORD = re.compile("left|right", re.IGNORECASE)
# "l_eye", "eye.R", "LEye" and "eyeL": a single letter, set off by case or by what is no letter.
_LETTER = re.compile(r"(?<![A-Za-z])[LlRr](?![a-z])|(?<=[a-z])[LR](?![A-Za-z])")

_HOW_TO_FIX = (
    "Name both sides alike, such as left_eye and right_eye, or set INPUT.RANDOM_FLIP 'none' to "
    "turn flipping off"
)


def registered_keypoint_names(name: str) -> list[str]:
    """Return the keypoint names in the metadata of a dataset; none where there are none."""
    return [str(text) for text in MetadataCatalog.get(name).get("keypoint_names") or ()]


def publish_keypoints(
    metadata: dict[str, Any], dataset: DetectionDataset, replace: bool = False
) -> None:
    """Put the names of the keypoints and the mirrored pairs into the metadata of a dataset.

    Pairs that the names do not tell are left out, so that detectron2 cannot flip with them.

    Args:
        metadata: the attributes of detectron2's ``Metadata``; changed.
        dataset: with the names.
        replace: what is there already.
    """
    if replace or not metadata.get("keypoint_names"):
        metadata["keypoint_names"] = list(dataset.keypoint_names)
    if replace or metadata.get("keypoint_flip_map") is None:
        metadata.pop("keypoint_flip_map", None)
        pairs, problem = pair_sides(dataset.keypoint_names)
        if not problem:
            metadata["keypoint_flip_map"] = pairs


def pair_sides(names: Sequence[str]) -> tuple[Pairs, str]:
    """Find the names that mean the two sides of something: what a mirror exchanges.

    A pair differs in "left" and "right", or in a single L and R.

    Args:
        names: of all keypoints.

    Returns:
        The pairs, and what is wrong if they are not certain.
    """
    if not names:
        return [], "the names of its keypoints are not known"
    known = set(names)
    if len(known) < len(names):
        return [], f"two of its keypoints have one name ({printable(', '.join(names))})"
    if not all(re.search(r"[^\W\d_]", name) for name in names):
        return [], f"the names of its keypoints say nothing ({printable(repr(list(names)))})"
    pairs: Pairs = []
    by_word = [name for name in names if _WORD.search(name)]
    by_letter = [name for name in names if name not in by_word and _LETTER.search(name)]
    # Single letters may mean something else, such as L1 to L5, if there is no pair.
    if not any(_mirror(name, _LETTER) in known for name in by_letter):
        by_letter = []
    for found, pattern in ((by_word, _WORD), (by_letter, _LETTER)):
        for name in found:
            other = _mirror(name, pattern)
            if other not in known:
                return [], f"its keypoint {name!r} has no counterpart {other!r}"
            if (other, name) not in pairs:
                pairs.append((name, other))
    return pairs, ""


def _mirror(name: str, pattern: re.Pattern[str]) -> str:
    def exchange(match: re.Match[str]) -> str:
        side = match.group()
        other = _OTHER_SIDE[side.lower()]
        return other.upper() if side.isupper() else other.title() if side.istitle() else other

    return pattern.sub(exchange, name)


def _flip_pairs(name: str) -> Pairs:
    """Return the keypoints of a registered dataset that a mirror exchanges.

    Raises:
        ConfigError: its metadata do not say so.
    """
    metadata = MetadataCatalog.get(name)
    names = registered_keypoint_names(name)
    pairs = metadata.get("keypoint_flip_map")
    if pairs is None or not names:
        _, problem = pair_sides(names)
        raise ConfigError(
            f"INPUT.RANDOM_FLIP is set, but the dataset {name} does not say which keypoints a "
            f"mirror exchanges: {problem or 'its metadata have no keypoint_flip_map'}. "
            f"{_HOW_TO_FIX}. COCO files name keypoints in the list 'keypoints' of their category, "
            "registered datasets in the metadata keypoint_names and keypoint_flip_map."
        )
    unknown = [text for pair in pairs for text in pair if text not in names]
    if unknown:
        raise ConfigError(
            f"The keypoint_flip_map of {name} has {unknown[0]!r}, which is not one of its "
            f"keypoint_names: {', '.join(names)}. Correct it."
        )
    partners: dict[str, str] = {}
    for first, second in pairs:
        known = partners.setdefault(first, second), partners.setdefault(second, first)
        if known != (second, first):  # detectron2 would take one of them
            raise ConfigError(
                f"The keypoint_flip_map of {name} exchanges {first!r} or {second!r} with another "
                "keypoint too. Correct it."
            )
    return [(str(first), str(second)) for first, second in pairs]


def flip_indices(cfg: CfgNode) -> list[int] | None:
    """Return which keypoint takes the place of each in a mirror image.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.

    Returns:
        P indices; None if training does not flip images from left to right.

    Raises:
        ConfigError: the training sets do not say it.
    """
    if not cfg.MODEL.KEYPOINT_ON or cfg.INPUT.RANDOM_FLIP != "horizontal":
        return None
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("DATASETS.TRAIN is empty, so it is not known how keypoints are flipped.")
    found: list[list[int]] = []
    for name in cfg.DATASETS.TRAIN:
        _flip_pairs(name)
        found.append(create_keypoint_hflip_indices(name))
        if found[-1] != found[0]:
            raise ConfigError(
                f"The keypoint_flip_map of {name} differs from that of {cfg.DATASETS.TRAIN[0]}. "
                "All training sets must have the same keypoints and pairs."
            )
    return found[0]


def validate_flip(cfg: CfgNode, name: str) -> None:
    """Refuse flips that would exchange the wrong keypoints, and log which are exchanged."""
    flip = cfg.INPUT.RANDOM_FLIP
    if flip == "none":
        return
    pairs = _flip_pairs(name)
    if flip == "vertical":
        if pairs:
            raise ConfigError(
                f"INPUT.RANDOM_FLIP is vertical, which makes the left side of an object the right "
                f"one, but detectron2 does not exchange keypoints then ({pairs[0][0]} and "
                f"{pairs[0][1]} of {name}). Set INPUT.RANDOM_FLIP 'horizontal' or 'none'."
            )
        return
    if pairs:
        exchanged = ", ".join(f"{first} and {second}" for first, second in pairs)
        logger.info("Keypoints of %s that flipped images exchange: %s.", name, exchanged)
    elif len(registered_keypoint_names(name)) > 1:
        logger.warning(
            "Flipped images exchange no keypoints of %s (%s). If some are on the left or right of "
            "an object: %s.",
            *(name, ", ".join(registered_keypoint_names(name)), _HOW_TO_FIX),
        )
