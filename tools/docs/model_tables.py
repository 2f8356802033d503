"""The tables of the published models in README.md and MODEL_ZOO.md, from tood.model_zoo."""

from tood.model_zoo import MODELS, ModelInfo

from .markdown import replace_part, table


def _link(info: ModelInfo) -> str:
    return f"[{info.name}]({info.config})"


def _ap(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}"


def _giga(count: int) -> str:
    return f"{count / 1e9:.2f}"


def summary_table() -> str:
    """For the README."""
    rows = []
    for info in MODELS:
        ap, source = info.published_ap
        note = "" if source == "MMDetection" else f" ({source})"
        size = f"{_millions(sum(info.size.parameters))} M"
        rows.append((_link(info), info.backbone, info.schedule, f"{ap:.1f}{note}", size))
    return table(("model", "backbone", "schedule", "COCO AP (published)", "parameters"), rows)


def ap_table() -> str:
    """AP by source."""
    rows = [
        (
            _link(info),
            info.backbone,
            info.schedule,
            _ap(info.ap.mmdetection),
            _ap(info.ap.authors),
            _ap(info.ap.authors_test_dev),
        )
        for info in MODELS
    ]
    header = ("model", "backbone", "schedule", "val2017, MMDetection", "val2017, authors")
    return table((*header, "test-dev, authors"), rows)


def weights_table() -> str:
    """Where the weights are."""
    rows = []
    for info in MODELS:
        mmdetection = "not published"
        if info.weights_url is not None:
            mmdetection = f"[{info.sha256_prefix}]({info.weights_url})"
        authors = "not published"
        if info.authors_drive is not None:
            authors = f"[Google Drive]({info.authors_drive}), [Baidu]({info.authors_baidu})"
        rows.append((info.name, mmdetection, authors))
    return table(("model", "MMDetection (sha256 prefix)", "authors"), rows)


def size_table() -> str:
    """Parameters and FLOPs by part."""
    rows = [
        (
            info.name,
            ", ".join(map(_millions, info.size.parameters)),
            _millions(sum(info.size.parameters)),
            _millions(info.size.trainable),
            ", ".join(map(_giga, info.size.flops)),
            _giga(sum(info.size.flops)),
        )
        for info in MODELS
    ]
    parts = "backbone, FPN, head"
    header = ("model", f"M parameters: {parts}", "total", "trainable", f"GFLOPs: {parts}", "total")
    return table(header, rows)


def update_readme(text: str) -> str:
    """README.md with the current table."""
    return replace_part(text, "models", summary_table())


def update_model_zoo(text: str) -> str:
    """MODEL_ZOO.md with the current tables."""
    for name, part in (("ap", ap_table()), ("weights", weights_table()), ("size", size_table())):
        text = replace_part(text, f"models:{name}", part)
    return text
