"""The extras that users install, and the tests that need each of them."""

import functools
import re

from tools import ROOT

# Extra -> the modules that it brings. Not here: what only developers need ("dev", "docs", "mmdet"),
# and "ray", whose tests need minutes.
EXTRAS = {
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "quantize": ("nncf",),
    "safetensors": ("safetensors",),
    "timm": ("timm",),
    "video": ("av",),
    "track": ("trackers",),
    "fusion": ("ensemble_boxes", "supervision"),
    "dataset": ("pyarrow",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "serve": ("fastapi", "uvicorn", "prometheus_client", "python_multipart"),
}


def files_of_extra(extra: str) -> tuple[str, ...]:
    """The files of tests that mention a module of an extra, relative to the root.

    Args:
        extra: a key of :data:`EXTRAS`.
    """
    pattern = re.compile(rf"\b({'|'.join(EXTRAS[extra])})\b")
    return tuple(name for name, text in _test_files().items() if pattern.search(text))


@functools.cache
def _test_files() -> dict[str, str]:
    """The text of each file of tests, by its path."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}
