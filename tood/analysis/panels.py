"""The panels of the alignment figures: an image with maps, boxes or arrows over it.

Shapes: **R** points over all levels. Images are (H, W, 3) uint8, RGB.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL.Image import Image
from torch import Tensor

from ..modeling.box_ops import box_iou
from .alignment import MIN_IOU
from .model_view import ModelView

# Scores, IoUs, spatial probabilities and attention weights are all in [0, 1]. They share colors, so
# that a value looks the same in every panel and figure.
COLORS: dict[str, Any] = {"cmap": "turbo", "norm": Normalize(0, 1), "alpha": 0.6}
# Colors of the paper's Figure 1.
TASK_COLORS = {"classification": "red", "localization": "lime"}
GT_COLOR = "gold"
SIDE_COLORS = {"x1": "tab:blue", "y1": "tab:orange", "x2": "tab:green", "y2": "tab:red"}
PANEL_SIDE = 4.5  # inches, the longer side of an image


def draw_instance(
    views: Sequence[ModelView], image: np.ndarray, gt_box: Tensor, category: int
) -> Figure:
    """The paper's Figure 1 for one GT box, one row per model.

    Args:
        views: of the image.
        image: (H, W, 3) uint8, RGB.
        gt_box: (4,) x1, y1, x2, y2 in pixels.
        category: class index of the GT box.
    """
    width, height = _panel_size(image)
    figure = Figure(figsize=(4 * (width + 0.8), len(views) * (height + 0.8)), layout="compressed")
    grid = figure.subplots(len(views), 4, squeeze=False)
    for row, view in zip(grid, views, strict=True):
        ious = box_iou(gt_box, view.predictions.boxes)
        # Zero the scores of points that predict something else.
        scores = torch.where(ious > MIN_IOU, view.predictions.scores[:, category], 0.0)
        best = {"classification": int(scores.argmax()), "localization": int(ious.argmax())}
        _show_image(row[0], image, f"{view.title}: detections", view.drawing)
        class_name = view.class_names[category]
        _show_map(row[1], image, f"score for {class_name} (max {scores.max():.2f})", view, scores)
        _show_map(row[2], image, f"IoU of predicted boxes (max {ious.max():.2f})", view, ious)
        lines = [
            f"best {task}: score {scores[i]:.2f}, IoU {ious[i]:.2f}" for task, i in best.items()
        ]
        _show_image(row[3], image, "\n".join(lines))
        for axes in row:
            _draw_box(axes, gt_box, GT_COLOR, "--")
        for task, i in best.items():
            color = TASK_COLORS[task]
            _draw_box(row[3], view.predictions.boxes[i], color)
            x, y = view.points[i].tolist()
            row[3].plot(x, y, "o", color=color, markeredgecolor="black", label=task)
        _limit(row[3], image)
        row[3].legend(loc="lower right", fontsize=7)
    return figure


def draw_head(view: ModelView, image: np.ndarray) -> Figure:
    """Layer attention by level and task, M, and O of the level with the highest score.

    Args:
        view: of a T-head.
        image: (H, W, 3) uint8, RGB.
    """
    width, height = _panel_size(image)
    figure = Figure(figsize=(4 * (width + 0.8), height + 0.8), layout="compressed")
    axes = figure.subplots(1, 4)
    for panel, task in zip(axes, TASK_COLORS, strict=False):
        attention = torch.stack([level.flatten() for level in view.head_maps[task]])
        _show_attention(panel, attention, view.level_strides)
        panel.set_title(f"{view.title}: layer attention, {task}", fontsize=9, parse_math=False)
    probability = torch.cat([level.sigmoid().flatten() for level in view.head_maps["M"]])
    title = "spatial probability map M, maximum over levels"
    _show_map(axes[2], image, title, view, probability)
    _show_offsets(axes[3], image, view)
    return figure


def _show_attention(axes: Axes, attention: Tensor, strides: list[int]) -> None:
    """Attention (levels, interactive layers) as a table with colors."""
    axes.imshow(attention.numpy(), aspect="auto", **COLORS)
    for level, layer in np.ndindex(*attention.shape):
        weight = f"{attention[level, layer]:.2f}"
        axes.text(layer, level, weight, ha="center", va="center", color="black")
    axes.set_xlabel("interactive layer")
    axes.set_xticks(range(attention.shape[1]), [str(n + 1) for n in range(attention.shape[1])])
    axes.set_yticks(range(len(strides)), [f"stride {stride}" for stride in strides])


def _show_offsets(axes: Axes, image: np.ndarray, view: ModelView) -> None:
    """Offsets of the four sides as arrows, at the confident points of the best level."""
    level_scores = view.predictions.scores.amax(1).split(view.num_cells)
    best = max(range(len(level_scores)), key=lambda i: level_scores[i].max().item())
    title = f"offsets O of the four sides, stride {view.level_strides[best]}"
    _show_image(axes, image, title)
    confident = level_scores[best] > 0.25 * level_scores[best].max()
    arrow_starts = view.points.split(view.num_cells)[best][confident].t().numpy()
    offsets = view.head_maps["O"][best].flatten(1)[:, confident].numpy()
    width, height = view.cell_sizes[best]
    for i, (side, color) in enumerate(SIDE_COLORS.items()):
        dy, dx = offsets[2 * i : 2 * i + 2]
        arrows: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.004}
        axes.quiver(*arrow_starts, dx * width, dy * height, color=color, label=side, **arrows)
    _limit(axes, image)
    axes.legend(loc="lower right", fontsize=7)


def _show_map(axes: Axes, image: np.ndarray, title: str, view: ModelView, values: Tensor) -> None:
    """Values (R,) in [0, 1] as colors over the image, with a color bar as tall as the image."""
    _show_image(axes, image, title)
    shown = axes.imshow(view.heat_map(values), extent=view.extent, **COLORS)
    _limit(axes, image)
    # An inset takes the height of the image; axes of its own would take that of the whole row.
    axes.figure.colorbar(shown, cax=axes.inset_axes((1.02, 0, 0.04, 1)))


def _show_image(axes: Axes, image: np.ndarray, title: str, drawing: Image | None = None) -> None:
    """The image, or a drawing of it at any size, in pixel coordinates of the image."""
    height, width = image.shape[:2]
    axes.imshow(image if drawing is None else np.asarray(drawing), extent=(0, width, height, 0))
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.axis("off")


def _draw_box(axes: Axes, box: Tensor, color: str, style: str = "-") -> None:
    x1, y1, x2, y2 = box.tolist()
    axes.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=color, linestyle=style, linewidth=2)
    )


def _limit(axes: Axes, image: np.ndarray) -> None:
    axes.set_xlim(0, image.shape[1])
    axes.set_ylim(image.shape[0], 0)


def _panel_size(image: np.ndarray) -> tuple[float, float]:
    """(width, height) in inches."""
    height, width = image.shape[:2]
    scale = PANEL_SIDE / max(height, width)
    return width * scale, height * scale
