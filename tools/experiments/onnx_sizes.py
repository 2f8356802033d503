"""Nodes and size of the ONNX file of each config, with random weights.

python -m tools.experiments.onnx_sizes                      # all configs
python -m tools.experiments.onnx_sizes TOOD-R50-1x TOOD-R101-DCN-2x
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import onnx
from detectron2.modeling import build_model
from tabulate import tabulate

from tood.config.loading import load_config
from tood.export import ExportOptions, export_model
from tools import CONFIGS


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table.

    Args:
        argv: command line; None for that of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.onnx_sizes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help="names (default: all)")
    names = parser.parse_args(argv).configs or config_names()
    rows = [[name, *measure(name)] for name in names]
    header = ["config", "nodes", "nodes, --raw", "DeformConv", "MB"]
    print(tabulate(rows, header, tablefmt="github", floatfmt=".1f"))


def config_names() -> list[str]:
    """All configs that describe a model, the published ones first."""
    paths = [*sorted(CONFIGS.glob("TOOD-*.yaml")), *sorted(CONFIGS.glob("quickstart/*.yaml"))]
    paths += [path for path in sorted(CONFIGS.glob("ablations/*.yaml")) if "Base" not in path.stem]
    return [str(path.relative_to(CONFIGS).with_suffix("")) for path in paths]


def measure(name: str) -> tuple[int, int, int, float]:
    """Nodes with NMS, nodes without, deformable convolutions among them, and megabytes."""
    options = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]
    cfg = load_config(str(CONFIGS / f"{name}.yaml"), options)
    model = build_model(cfg).eval()
    counts = []
    with tempfile.TemporaryDirectory() as folder:
        for raw in (False, True):
            path = Path(folder, f"{raw}.onnx")
            export_model(model, cfg, path, ExportOptions(raw=raw), name=name, verify=False)
            counts.append(Counter(node.op_type for node in onnx.load(str(path)).graph.node))
        megabytes = Path(folder, "False.onnx").stat().st_size / 1e6
    return counts[0].total(), counts[1].total(), counts[0]["DeformConv"], megabytes


if __name__ == "__main__":
    main()
