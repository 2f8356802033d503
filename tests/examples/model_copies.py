"""Exported files with other metadata."""

import json
from pathlib import Path


def with_metadata(source: Path, target: Path, changes: dict[str, object] | None) -> Path:
    """Copy a model with other metadata, or with none at all."""
    import onnx

    model = onnx.load(str(source))
    strings = {item.key: item.value for item in model.metadata_props}
    del model.metadata_props[:]
    if changes is not None:
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in changes.items()}
        onnx.helper.set_model_props(model, {**strings, **texts})
    onnx.save(model, str(target))
    return target
