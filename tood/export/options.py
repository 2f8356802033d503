"""What a file is exported as, validated before anything is built."""

from dataclasses import dataclass
from typing import Literal

import torch

from ..errors import ExportError

FileFormat = Literal["onnx", "torchscript", "torch-export", "openvino"]
Precision = Literal["float32", "float16", "bfloat16", "int8"]
DeformConvForm = Literal["operator", "gather"]

SUFFIXES: dict[str, str] = {
    "onnx": ".onnx",
    "torchscript": ".torchscript",
    "torch-export": ".pt2",
    "openvino": ".xml",
}

# DeformConv came with opset 19; PyTorch's exporter of traces ends at 20.
MIN_OPSET, DEFORM_CONV_OPSET, MAX_OPSET = 17, 19, 20

# Of one process each; ONNX Runtime on a CPU has no convolution in bfloat16, and OpenVINO stores
# weights as float16 and chooses bfloat16 when it runs.
_PRECISIONS: dict[str, tuple[str, ...]] = {
    "onnx": ("float32", "float16", "int8"),
    "torchscript": ("float32", "float16", "bfloat16"),
    "torch-export": ("float32", "float16", "bfloat16"),
    "openvino": ("float32", "float16", "int8"),
}


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    Attributes:
        format: "onnx", "torchscript", "torch-export" or "openvino".
        raw: boxes and scores of all points, without NMS.
        precision: of backbone and head: "float32", "float16", "bfloat16" or "int8".
        opset: of ONNX; also of the graph that OpenVINO reads.
        batch: the only batch size of the file; None for any.
        size: the only (width, height) of the file in pixels; None for any.
        deform_conv: "operator" for ONNX's ``DeformConv`` and torchvision's operator, "gather" for
            gathers and a matrix product, which every runtime has.

    Raises:
        ExportError: an unknown value, or values that contradict each other.
    """

    format: FileFormat = "onnx"
    raw: bool = False
    precision: Precision = "float32"
    opset: int = DEFORM_CONV_OPSET
    batch: int | None = None
    size: tuple[int, int] | None = None
    deform_conv: DeformConvForm = "operator"

    def __post_init__(self) -> None:
        if self.format not in SUFFIXES:
            raise ExportError(f"Unknown format {self.format!r}. Available: {', '.join(SUFFIXES)}")
        if self.precision not in _PRECISIONS[self.format]:
            raise ExportError(
                f"{self.format} files cannot hold a model in {self.precision}. Available: "
                f"{', '.join(_PRECISIONS[self.format])}" + _precision_hint(self)
            )
        if self.deform_conv not in ("operator", "gather"):
            raise ExportError(
                f"Unknown deform_conv {self.deform_conv!r}. Available: operator, gather"
            )
        if not MIN_OPSET <= self.opset <= MAX_OPSET:
            raise ExportError(
                f"ONNX opset {self.opset} is not supported. Use {MIN_OPSET} to {MAX_OPSET}."
            )
        if self.batch is not None and self.batch < 1:
            raise ExportError(f"The batch size must be at least 1, got {self.batch}.")
        if self.size is not None and min(self.size) < 1:
            raise ExportError(f"The size must be at least 1x1, got {self.size}.")

    @property
    def suffix(self) -> str:
        """Of the file's name."""
        return SUFFIXES[self.format]

    @property
    def dtype(self) -> torch.dtype:
        """Of backbone and head while the model is traced; int8 starts from float32."""
        if self.precision == "int8" or self.format == "openvino":
            return torch.float32
        return getattr(torch, self.precision)

    def require_opset(self, has_deform_conv: bool) -> None:
        """Check the opset against a model.

        Raises:
            ExportError: the model has deformable convolutions, and the opset has no operator.
        """
        operator = self.deform_conv == "operator" and self.format == "onnx"
        if has_deform_conv and operator and self.opset < DEFORM_CONV_OPSET:
            raise ExportError(
                f"The model has deformable convolutions, and ONNX has DeformConv from opset "
                f"{DEFORM_CONV_OPSET} on, not in {self.opset}. Use --opset {DEFORM_CONV_OPSET}, or "
                "--dcn gather."
            )


def _precision_hint(options: ExportOptions) -> str:
    if options.format == "onnx" and options.precision == "bfloat16":
        return ". ONNX Runtime has no convolution in bfloat16 on a CPU."
    if options.format == "openvino" and options.precision == "bfloat16":
        return ". Choose bfloat16 when the file is run: --precision bfloat16."
    return "."
