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


# Folders of tests that need an extra without naming its modules.
_FOLDERS = {
    "dataset": ("tests/runtime/dataset/",),
    "quantize": ("tests/export/quantize/",),
    "serve": ("tests/runtime/serving/",),
    "mlflow": ("tests/engine/tracking/",),
    "wandb": ("tests/engine/tracking/",),
}


def find_tests(extra: str) -> tuple[str, ...]:
    """The files of tests that mention a module of an extra, or are in a folder of it.

    Args:
        extra: a key of :data:`EXTRAS`.

    Returns:
        Paths relative to the root.
    """
    pattern, folders = re.compile(rf"\b({'|'.join(EXTRAS[extra])})\b"), _FOLDERS.get(extra, ())
    return tuple(
        name
        for name, text in _test_files().items()
        if pattern.search(text) or name.startswith(folders)
    )


@functools.cache
def _test_files() -> dict[str, str]:
    """The text of each file of tests, by its path."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}
