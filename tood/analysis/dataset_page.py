"""An HTML page about the sets of a config: what they contain, what is wrong, and samples.

The page is one file without scripts or links: names of classes and files are text in it, whatever
they contain.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tood_runtime.colors import class_color
from tood_runtime.image_io import ImageReadError, read_image
from tood_runtime.image_writing import encode_image

from ..data.checking import DatasetReport
from ..data.dataset import DetectionDataset
from ..data.findings import Finding, one_line
from .dataset_charts import class_histogram, size_charts, table

# Longer side of the images on the page, in pixels.
_IMAGE_SIDE = 420

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem;
  color: #1b1f24; background: #fff; overflow-wrap: anywhere }
table { border-collapse: collapse; margin: .6rem 0 1.2rem }
th, td { text-align: left; padding: .25rem .7rem; border-bottom: 1px solid #d8dee4;
  vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.error { color: #b42318; font-weight: 600 } .warning { color: #9a5b00; font-weight: 600 }
.note { color: #57606a }
.images { display: flex; flex-wrap: wrap; gap: .8rem }
figure { margin: 0; max-width: 420px } figcaption { font-size: 13px; color: #57606a }
img { max-width: 100%; display: block }
.pair { display: flex; gap: 2px }
.pair img { max-width: 50% }
.bar { display: inline-block; height: .75em; background: #3b6fb6; vertical-align: baseline }
.test { background: #d98324 }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .25em }
.fix { color: #57606a } h3 { margin-bottom: .2rem }
"""


@dataclass(frozen=True)
class CheckedSet:
    """A set of the page.

    Attributes:
        dataset: the set.
        report: what was found in it.
    """

    dataset: DetectionDataset
    report: DatasetReport


def write_page(
    path: Path,
    title: str,
    sets: Mapping[str, CheckedSet],
    shared: Sequence[Finding],
    num_images: int = 12,
    apply_exif: bool = True,
) -> None:
    """Write the page.

    Args:
        path: the file.
        title: of the page.
        sets: "train" and "test", or one of them.
        shared: findings that compare both.
        num_images: sample images of each set.
        apply_exif: ``INPUT.APPLY_EXIF_ORIENTATION``.

    Raises:
        OSError: the file cannot be written.
    """
    reports = {name: checked.report for name, checked in sets.items()}
    parts = [f"<h1>{escape(title)}</h1>", _overview(sets)]
    for name, checked in sets.items():
        parts.append(f"<h2>Findings: {escape(name)}</h2>")
        parts += _findings(checked.report.findings, checked.dataset, None, apply_exif)
    if len(sets) > 1:
        parts.append("<h2>Findings: training and test set compared</h2>")
        parts += _findings(shared, sets["test"].dataset, sets["train"].dataset, apply_exif)
    parts += [
        "<h2>Classes</h2>",
        class_histogram(reports),
        "<h2>Object sizes</h2>",
        size_charts(reports),
    ]
    for name, checked in sets.items():
        parts.append(f"<h2>Samples: {escape(name)}</h2>")
        indices = np.unique(np.linspace(0, len(checked.dataset) - 1, num_images).round())
        figures = [_figure(checked.dataset, int(index), apply_exif) for index in indices]
        parts.append(f'<div class="images">{"".join(figures)}</div>')
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    path.write_text(page, encoding="utf-8", errors="backslashreplace")


def _overview(sets: Mapping[str, CheckedSet]) -> str:
    rows = [
        [
            name,
            report.num_images,
            report.num_boxes,
            report.num_crowds,
            report.num_empty_images,
            len(report.class_counts),
        ]
        for name, report in ((name, checked.report) for name, checked in sets.items())
    ]
    header = ["set", "images", "boxes", "crowds", "images without boxes", "classes"]
    sources = "".join(
        f"<li>{escape(name)}: {escape(one_line(checked.report.source))}</li>"
        for name, checked in sets.items()
    )
    return f"{table(header, rows)}<ul>{sources}</ul>"


def _findings(
    findings: Sequence[Finding],
    dataset: DetectionDataset,
    other: DetectionDataset | None,
    apply_exif: bool,
) -> list[str]:
    """A section per finding, with examples and their images."""
    sections = []
    for finding in findings:
        kind = finding.kind
        examples = "".join(f"<li>{escape(text)}</li>" for text in finding.examples)
        figures = [
            _figure(dataset, index, apply_exif, other, finding.other_images[position])
            if other is not None and finding.other_images
            else _figure(dataset, index, apply_exif)
            for position, index in enumerate(finding.images)
        ]
        sections.append(
            f'<h3><span class="{kind.severity}">{kind.severity}</span> '
            f"{escape(kind.what)}: {finding.count}</h3>"
            f'<p class="fix">{escape(kind.fix)}</p><ul>{examples}</ul>'
            f'<div class="images">{"".join(figures)}</div>'
        )
    return sections or ["<p>None.</p>"]


def _figure(
    dataset: DetectionDataset,
    index: int,
    apply_exif: bool,
    other: DetectionDataset | None = None,
    other_index: int = 0,
) -> str:
    """An image with its boxes and the classes in it; with ``other``, an image of that too."""
    images = [_image(dataset, index, apply_exif)]
    names = [one_line(dataset.file_names[index])]
    if other is not None:
        images.append(_image(other, other_index, apply_exif))
        names.append(one_line(other.file_names[other_index]))
    rows = slice(dataset.offsets[index], dataset.offsets[index + 1])
    classes, counts = np.unique(dataset.class_ids[rows], return_counts=True)
    legend = ", ".join(
        f'<span class="swatch" style="background:rgb{class_color(int(c))}"></span>'
        f"{escape(one_line(dataset.class_names[c]))} {n}"
        for c, n in zip(classes, counts, strict=True)
    )
    caption = " = ".join(escape(name) for name in names)
    pair = ' class="pair"' if other is not None else ""
    return (
        f"<figure><div{pair}>{''.join(images)}</div>"
        f"<figcaption>{caption}<br>{legend or 'no boxes'}</figcaption></figure>"
    )


def _image(dataset: DetectionDataset, index: int, apply_exif: bool) -> str:
    try:
        drawn = draw_boxes(dataset, index, apply_exif)
    except ImageReadError as error:
        return f'<p class="error">{escape(one_line(str(error)))}</p>'
    data = base64.b64encode(encode_image(drawn, ".jpg")).decode()
    return f'<img alt="" src="data:image/jpeg;base64,{data}">'


def draw_boxes(dataset: DetectionDataset, index: int, apply_exif: bool = True) -> Image.Image:
    """Draw an image with its boxes, in the colors of their classes; crowds as two lines.

    Raises:
        ImageReadError: the image cannot be decoded.
    """
    image = Image.fromarray(read_image(dataset.file_names[index], apply_exif))
    scale = _IMAGE_SIDE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    image = image.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for row in range(dataset.offsets[index], dataset.offsets[index + 1]):
        x, y, width, height = dataset.boxes[row] * scale
        color = class_color(int(dataset.class_ids[row]))
        corners = [x, y, max(x, x + width - 1), max(y, y + height - 1)]
        draw.rectangle(corners, outline=color, width=2)
        if dataset.is_crowd[row]:
            draw.line(corners, fill=color, width=1)
    return image
