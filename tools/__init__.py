"""Programs for the developers of this project; users never run them. See tools/README.md."""

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"

# Of the published models: P3 to P7.
STRIDES = [8, 16, 32, 64, 128]


def level_shapes(
    height: int, width: int, strides: Sequence[int] = STRIDES
) -> list[tuple[int, int]]:
    """(Hi, Wi) of each level, P3 to P7 by default, for a network input of a size in pixels."""
    return [(-(-height // stride), -(-width // stride)) for stride in strides]
