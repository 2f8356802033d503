r"""See alignment: the paper's Figure 1 for every ground truth, and what T-head has learned.

tools/visualize_alignment.py --model configs/TOOD-R50-1x.yaml model.pth \
    --json val.json --images images/ --output out/
tools/visualize_alignment.py --model configs/ablations/ATSS-Parallel.yaml atss.pth \
    --model configs/TOOD-R50-1x.yaml tood.pth --json val.json --images images/ --output out/

For each of the first pictures, and each of its largest ground truths, PICTURE-gtN.png: the
detections; the score of the ground truth's class at every point; the IoU of every point's box with
the ground truth; the best point of each task with its box. Models stand one under the other. Of a
T-head also PICTURE-head.png (of several models -head-1.png and so on): layer attention by level and
task; the map M; and the offsets O as arrows.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tood  # noqa: F401  (before the others: it explains what is missing)

# isort: split
import cv2
import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from tood.config.loading import load_config
from tood.data.formats.coco import read_coco_json
from tood.data.registration import class_info
from tood.errors import DataError, exit_on_user_error
from tood.evaluation import ImagePredictions, PredictionRecorder
from tood.inference.detector import Predictor
from tood.inference.drawing import display_scale, draw_detections
from tood.modeling.box_ops import box_iou
from tood.modeling.heads import TOODHead

# Colors of the paper's Figure 1.
CLASSIFICATION, LOCALIZATION, TRUTH = "red", "lime", "gold"
# Detections that are drawn score more than this.
SHOWN_SCORE = 0.3
SIDES = {"x1": "tab:blue", "y1": "tab:orange", "x2": "tab:green", "y2": "tab:red"}


@dataclass
class View:
    """What a model makes of a picture: everything in pixels of the picture.

    Attributes:
        title: the name of its config.
        result: the picture with detections, RGB, of any size.
        dense: predictions of all R points.
        points: (R, 2).
        level_shapes: (Hi, Wi) of each level.
        cells: (width, height) of a cell of each level.
        head: outputs of T-head's inner modules by level, by name; empty for other heads.
    """

    title: str
    result: np.ndarray
    dense: ImagePredictions
    points: Tensor
    level_shapes: list[tuple[int, int]]
    cells: list[Tensor]
    head: dict[str, list[Tensor]]


class Viewer:
    """A model that is looked at.

    Args:
        config_file: of the model.
        weights: file or URL.
        opts: config options.
    """

    def __init__(self, config_file: str, weights: str, opts: list[str]) -> None:
        cfg = load_config(config_file, [*opts, "MODEL.WEIGHTS", weights])
        self.title = Path(config_file).stem
        self.predictor = Predictor(cfg)
        self.names, self.ids = class_info(cfg)
        model = self.predictor.model
        self.recorder = PredictionRecorder(model)
        self.recorder.start()
        shapes = model.backbone.output_shape()
        self.strides = [shapes[name].stride for name in model.head_in_features]
        self._head: dict[str, list[Tensor]] = {}
        if isinstance(head := model.head, TOODHead):
            for name, module in {
                "classification": head.cls_decomp.layer_attention,
                "localization": head.reg_decomp.layer_attention,
                "M": head.cls_prob_module[-1],
                "O": head.reg_offset_module[-1],
            }.items():
                module.register_forward_hook(self._keep(name))

    def _keep(self, name: str) -> Callable[[nn.Module, tuple, Tensor], None]:
        def hook(_: nn.Module, __: tuple, output: Tensor) -> None:
            self._head.setdefault(name, []).append(output[0].detach().float().cpu())

        return hook

    def view(self, image: np.ndarray) -> View:
        """Look at a picture, BGR."""
        self._head = {}
        instances = self.predictor(image)
        instances = instances[instances.scores > SHOWN_SCORE]
        transform = self.predictor.resize.get_transform(image)
        scale = torch.tensor([image.shape[1] / transform.new_w, image.shape[0] / transform.new_h])
        dense = self.recorder.for_image(0)
        dense = ImagePredictions(dense.scores.cpu(), dense.boxes.cpu() * scale.repeat(2))
        result = draw_detections(image, instances, self.names, display_scale(image))[:, :, ::-1]
        points = self.recorder.points.cpu() * scale
        shapes = self.recorder.level_shapes
        cells = [stride * scale for stride in self.strides]
        return View(self.title, result, dense, points, shapes, cells, self._head)


def heat_map(view: View, values: Tensor) -> np.ndarray:
    """The largest of the values (R,) around each point of the finest level, over levels."""
    num_cells = [rows * columns for rows, columns in view.level_shapes]
    values = values.view(sum(num_cells), -1).amax(1)
    points = view.points[:: len(view.points) // sum(num_cells)].split(num_cells)
    maps = []
    for level, shape, own, cell in zip(
        values.split(num_cells), view.level_shapes, points, view.cells, strict=True
    ):
        # The level's point that is nearest to each of the finest level's.
        column, row = ((points[0] - own[0]) / cell).round().long().unbind(1)
        row, column = row.clamp(0, shape[0] - 1), column.clamp(0, shape[1] - 1)
        maps.append(level.view(shape)[row, column])
    return torch.stack(maps).amax(0).view(view.level_shapes[0]).numpy()


def _show(
    axes: Axes, image: np.ndarray, size: tuple[int, int], title: str, box: Tensor | None = None
) -> None:
    """An image in the coordinates of a picture of (height, width)."""
    axes.imshow(image, extent=(0, size[1], size[0], 0))
    axes.set_title(title, fontsize=9)
    axes.axis("off")
    if box is not None:
        _rectangle(axes, box, TRUTH, "--")


def _rectangle(axes: Axes, box: Tensor, color: str, style: str = "-") -> None:
    x1, y1, x2, y2 = box.tolist()
    axes.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=color, linestyle=style, linewidth=2)
    )


def _overlay(axes: Axes, view: View, values: Tensor, size: tuple[int, int], top: float) -> None:
    """Colors of values (R,) over a picture of (height, width)."""
    (rows, columns), (width, height) = view.level_shapes[0], view.cells[0].tolist()
    left, high = (view.points[0] - view.cells[0] / 2).tolist()
    extent = (left, left + columns * width, high + rows * height, high)
    shown = axes.imshow(
        heat_map(view, values), extent=extent, cmap="jet", alpha=0.6, vmin=0, vmax=max(top, 1e-6)
    )
    _limit(axes, size)
    axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.02)


def _limit(axes: Axes, size: tuple[int, int]) -> None:
    axes.set_xlim(0, size[1])
    axes.set_ylim(size[0], 0)


def draw_instance(views: list[View], image: np.ndarray, box: Tensor, category: int) -> plt.Figure:
    """The paper's Figure 1 of a ground truth, a row for each model."""
    size, picture = image.shape[:2], image[:, :, ::-1]
    figure, grid = plt.subplots(
        len(views), 4, figsize=(17, 4.2 * len(views)), squeeze=False, layout="constrained"
    )
    for row, view in zip(grid, views, strict=True):
        scores = view.dense.scores[:, category]
        ious = box_iou(box, view.dense.boxes)
        near = ious > 0.1  # the points that are about this ground truth
        scores = torch.where(near, scores, 0.0)
        _show(row[0], view.result, size, f"{view.title}: detections", box)
        _show(row[1], picture, size, f"classification score, at most {scores.max():.2f}", box)
        _overlay(row[1], view, scores, size, scores.max().item())
        _show(row[2], picture, size, f"IoU of the predicted boxes, at most {ious.max():.2f}", box)
        _overlay(row[2], view, ious, size, 1.0)
        best = {"classification": scores.argmax(), "localization": ious.argmax()}
        colors = {"classification": CLASSIFICATION, "localization": LOCALIZATION}
        title = ", ".join(
            f"best for {task}: score {scores[i]:.2f}, IoU {ious[i]:.2f}" for task, i in best.items()
        )
        _show(row[3], picture, size, title.replace(", best", "\nbest"), box)
        for task, i in best.items():
            _rectangle(row[3], view.dense.boxes[i], colors[task])
            row[3].plot(
                *view.points[i], "o", color=colors[task], markeredgecolor="black", label=task
            )
        _limit(row[3], size)
        row[3].legend(loc="lower right", fontsize=7)
    return figure


def draw_head(view: View, image: np.ndarray, strides: list[int]) -> plt.Figure:
    """Layer attention by level and task, M, and O of the level with the highest score."""
    size, picture = image.shape[:2], image[:, :, ::-1]
    figure, axes = plt.subplots(1, 4, figsize=(18, 4.2), layout="constrained")
    for place, task in zip(axes, ("classification", "localization"), strict=False):
        attention = torch.stack([level.flatten() for level in view.head[task]])
        place.imshow(attention, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        for level, layer in np.ndindex(*attention.shape):
            weight = attention[level, layer].item()
            color = "black" if weight > 0.5 else "white"
            place.text(layer, level, f"{weight:.2f}", ha="center", va="center", color=color)
        place.set_title(f"{view.title}: layer attention, {task}", fontsize=9)
        place.set_xlabel("interactive layer")
        place.set_xticks(range(attention.shape[1]), range(1, attention.shape[1] + 1))
        place.set_yticks(range(len(strides)), [f"stride {stride}" for stride in strides])
    _show(axes[2], picture, size, "spatial probability map M, largest over the levels")
    probability = torch.cat([level.sigmoid().flatten() for level in view.head["M"]])
    _overlay(axes[2], view, probability, size, 1.0)
    num_cells = [rows * columns for rows, columns in view.level_shapes]
    by_level = view.dense.scores.amax(1).split(num_cells)
    chosen = max(range(len(by_level)), key=lambda i: by_level[i].max())
    _show(axes[3], picture, size, f"offsets O of the four sides, stride {strides[chosen]}")
    shown = by_level[chosen] > 0.25 * by_level[chosen].max()
    points = view.points.split(num_cells)[chosen][shown]
    offsets = view.head["O"][chosen].flatten(1)[:, shown]
    width, height = view.cells[chosen].tolist()
    for i, (side, color) in enumerate(SIDES.items()):
        dy, dx = offsets[2 * i : 2 * i + 2]
        arrows = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.004}
        axes[3].quiver(*points.t(), dx * width, dy * height, color=color, label=side, **arrows)
    _limit(axes[3], size)
    axes[3].legend(loc="lower right", fontsize=7)
    return figure


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure, and forget it."""
    figure.savefig(path, dpi=90)
    plt.close(figure)
    print(path)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", nargs=2, action="append", required=True, metavar=("CONFIG", "WEIGHTS")
    )
    parser.add_argument("--json", required=True, help="COCO-format ground truth")
    parser.add_argument("--images", required=True, help="the folder of its pictures")
    parser.add_argument("--output", required=True, help="folder for the figures")
    parser.add_argument("--pictures", type=int, default=4, help="how many, from the first on")
    parser.add_argument("--instances", type=int, default=3, help="of each, from the largest on")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ...")
    return parser.parse_args()


def main() -> None:
    """Draw everything."""
    args = parse_args()
    viewers = [Viewer(config, weights, args.opts) for config, weights in args.model]
    content = read_coco_json(args.json)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    for record in content["images"][: args.pictures]:
        file = Path(args.images) / record["file_name"]
        image = cv2.imread(str(file))
        if image is None:
            raise DataError(f"{file} is missing, or no picture that OpenCV reads")
        views = [viewer.view(image) for viewer in viewers]
        found = [x for x in content["annotations"] if x["image_id"] == record["id"]]
        found.sort(key=lambda x: -x["bbox"][2] * x["bbox"][3])
        for n, annotation in enumerate(found[: args.instances], 1):
            x, y, width, height = annotation["bbox"]
            box = torch.tensor([x, y, x + width, y + height], dtype=torch.float32)
            category = viewers[0].ids.index(annotation["category_id"])
            figure = draw_instance(views, image, box, category)
            save(figure, output / f"{file.stem}-gt{n}.png")
        for i, (view, viewer) in enumerate(zip(views, viewers, strict=True), 1):
            if view.head:
                suffix = "" if len(viewers) == 1 else f"-{i}"
                save(
                    draw_head(view, image, viewer.strides), output / f"{file.stem}-head{suffix}.png"
                )


if __name__ == "__main__":
    with exit_on_user_error():
        main()
