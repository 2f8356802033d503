"""Normalization layers by name: which exist, and which channels they accept."""

from collections.abc import Iterable, Mapping

from detectron2.config import CfgNode
from detectron2.layers import get_norm

from ...errors import ConfigError
from .rules import unknown_choice

# Frozen statistics with trainable scale and shift; our backbones add it.
FROZEN_STATS_BN = "FrozenStatsBN"
FROZEN_BN = "FrozenBN"

# detectron2's names; two of them are newer than version 0.4.
_NORMS = ("BN", "FrozenBN", "GN", "LN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N", "nnSyncBN")
# Those that need more than one value per channel in training: on a GPU, or on all together.
_BATCH_NORMS = ("BN",)
_SYNC_NORMS = ("SyncBN", "naiveSyncBN", "naiveSyncBN_N", "nnSyncBN")


def validate_norm(
    key: str, norm: str, channels: Mapping[str, int], extra: Iterable[str] = ()
) -> None:
    """Raise a ConfigError for an unknown normalization, or one that the channels do not fit.

    Args:
        key: that names it.
        norm: its name; "" for none.
        channels: the keys of the channels that it normalizes, and their values.
        extra: names that exist in addition to detectron2's.
    """
    extra = tuple(extra)
    if norm in ("", *extra):
        return
    for channels_key, count in channels.items():
        try:
            get_norm(norm, count)
        except KeyError:
            available = [name for name in _NORMS if _exists(name)]
            raise unknown_choice(key, norm, ["", *available, *extra]) from None
        except ValueError as error:  # GroupNorm's
            raise ConfigError(
                f"{key} is {norm}, which has 32 groups, but {channels_key} is {count}. Use a "
                "multiple of 32, or another normalization."
            ) from error


def _exists(norm: str) -> bool:
    try:
        get_norm(norm, 32)
    except KeyError:
        return False
    return True


def normalizes_single_values(norm: str, images_per_gpu: int, world_size: int) -> bool:
    """Whether a 1x1 map gives a batch normalization a single value per channel in training."""
    if norm in _BATCH_NORMS:
        return images_per_gpu == 1
    return norm in _SYNC_NORMS and images_per_gpu * world_size == 1


def validate_batch_norm(
    cfg: CfgNode, norms: Mapping[str, tuple[str, int]], world_size: int
) -> None:
    """Raise a ConfigError for a batch normalization that would get one value per channel.

    PyTorch raises at the first image that is so small.

    Args:
        cfg: the config.
        norms: by key the normalization and the largest stride of the maps that it is applied to.
        world_size: number of processes.
    """
    images_per_gpu = cfg.SOLVER.IMS_PER_BATCH // (cfg.SOLVER.REFERENCE_WORLD_SIZE or world_size)
    smallest = min(*cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN)
    for key, (norm, stride) in norms.items():
        # 0 leaves images in their own sizes.
        if not 0 < smallest <= stride:
            continue
        if normalizes_single_values(norm, images_per_gpu, world_size):
            raise ConfigError(
                f"{key} is {norm}, but an image of {smallest} pixels (INPUT.MIN_SIZE_TRAIN) is a "
                f"map of one cell at stride {stride}, and one image per GPU "
                "(SOLVER.IMS_PER_BATCH) is one value to normalize. Use larger images, a larger "
                "batch, or FrozenBN or GN."
            )
