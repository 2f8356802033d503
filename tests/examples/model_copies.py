"""Model files with other metadata."""

import json
from pathlib import Path


def with_metadata(source: Path, target: Path, changes: dict[str, object]) -> Path:
    """Copy a model with other metadata."""
    import onnx

    model = onnx.load(str(source))
    strings = {item.key: item.value for item in model.metadata_props}
    del model.metadata_props[:]
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in changes.items()}
    onnx.helper.set_model_props(model, {**strings, **texts})
    onnx.save(model, str(target))
    return target


def model_without_nodes(target: Path, texts: dict[str, str]) -> Path:
    """Write a small ONNX file that has metadata but computes nothing, and so cannot be run."""
    import onnx

    model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], []))
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, str(target))
    return target
