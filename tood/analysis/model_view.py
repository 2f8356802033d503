"""What a model predicts for one image, in the coordinates of that image; drawn by ``figures.py``.

Shapes: **R** points over all levels, **K** classes, **Hi, Wi** the map of level i.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL.Image import Image
from torch import Tensor, nn

from tood_runtime.detections import Detections
from tood_runtime.drawing import draw_detections

from ..modeling.dense_detector import find_dense_core
from ..modeling.heads import TOODHead
from ..modeling.structures import ImagePredictions
from .recorder import PredictionRecorder


class DetectorProtocol(Protocol):
    """The part of :class:`tood.inference.Detector` that the figures use.

    A protocol, because ``tood.analysis`` is below ``tood.inference`` and cannot import it.
    """

    model: nn.Module
    resize: "Resize"
    class_names: list[str]
    cfg: CfgNode

    def __call__(self, image: np.ndarray, *, score_threshold: float) -> Detections:
        """Detect objects in an image (H, W, 3), uint8 RGB."""
        ...


class Resize(Protocol):
    """detectron2's ``ResizeShortestEdge``."""

    def get_transform(self, image: np.ndarray) -> "Transform":
        """The transform for an image (H, W, 3)."""
        ...


class Transform(Protocol):
    """detectron2's ``ResizeTransform``, or ``NoOpTransform`` where ``INPUT.MIN_SIZE_TEST`` is 0."""

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Transform points (n, 2): x, y in pixels."""
        ...


@dataclass(frozen=True)
class ModelView:
    """What a model predicts for one image, everything in pixels of the image.

    Attributes:
        title: names the model.
        class_names: by class index.
        drawing: the image with the detections, possibly enlarged.
        predictions: of all R points, before NMS.
        points: (R, 2).
        level_shapes: (Hi, Wi) of each level.
        cell_sizes: (width, height) of a cell of each level.
        level_strides: of each level, in pixels of the network's input.
        head_maps: outputs of modules inside a T-head, each a list by level: "classification" and
            "localization", the attention to each interactive layer; "M" (1, Hi, Wi), the logits of
            the spatial probability map; "O" (8, Hi, Wi), the offsets (y, x) in cells of the sides
            x1, y1, x2, y2. Empty for other heads.
    """

    title: str
    class_names: list[str]
    drawing: Image
    predictions: ImagePredictions
    points: Tensor
    level_shapes: list[tuple[int, int]]
    cell_sizes: list[tuple[float, float]]
    level_strides: list[int]
    head_maps: dict[str, list[Tensor]]

    @property
    def num_cells(self) -> list[int]:
        """Hi * Wi of each level."""
        return [height * width for height, width in self.level_shapes]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of :meth:`heat_map` in the image.

        Cells tile the padded input of the network from its top left corner, so the map covers the
        whole image and ends at or beyond its right and bottom border.
        """
        (rows, columns), (width, height) = self.level_shapes[0], self.cell_sizes[0]
        return 0.0, columns * width, rows * height, 0.0

    def heat_map(self, values: Tensor) -> np.ndarray:
        """The largest of the values (R,) at each cell of the finest level, over all levels.

        Each cell of a coarse level counts for all the fine cells that it covers.
        """
        values = values.view(sum(self.num_cells), -1).amax(1)  # over the anchors of a cell
        rows, columns = (torch.arange(side) for side in self.level_shapes[0])
        maps = []
        for level, shape, stride in zip(
            values.split(self.num_cells), self.level_shapes, self.level_strides, strict=True
        ):
            coarse_rows = (rows * self.level_strides[0] // stride).clamp(max=shape[0] - 1)
            coarse_columns = (columns * self.level_strides[0] // stride).clamp(max=shape[1] - 1)
            maps.append(level.view(shape)[coarse_rows[:, None], coarse_columns])
        return torch.stack(maps).amax(0).numpy()


class ModelViewer:
    """Runs a detector and records what happens inside; a context manager.

    Args:
        title: names the model in the figures.
        detector: of a model that :class:`PredictionRecorder` supports.

    Raises:
        ConfigError: the model is of another kind.
    """

    def __init__(self, title: str, detector: DetectorProtocol) -> None:
        self.title = title
        self.detector = detector
        self._recorder = PredictionRecorder(detector.model)
        self._head_maps: dict[str, list[Tensor]] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "ModelViewer":
        self._recorder.start()
        model = find_dense_core(self.detector.model) or self.detector.model
        if isinstance(head := model.head, TOODHead):
            for name, module in {
                "classification": head.cls_decomp.layer_attention,
                "localization": head.reg_decomp.layer_attention,
                "M": head.cls_prob_module.output_conv,
                "O": head.reg_offset_module.output_conv,
            }.items():
                self._hooks.append(module.register_forward_hook(self._record_as(name)))
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._recorder.stop()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _record_as(self, name: str) -> Callable[[nn.Module, tuple, Tensor], None]:
        def hook(_: nn.Module, __: tuple, output: Tensor) -> None:
            self._head_maps.setdefault(name, []).append(output[0].detach().float().cpu())

        return hook

    def view(self, image: np.ndarray, score_threshold: float) -> ModelView:
        """Run the detector on an image.

        Args:
            image: (H, W, 3) uint8, RGB.
            score_threshold: minimum score of the detections that are drawn.
        """
        self._head_maps = {}
        detections = self.detector(image, score_threshold=score_threshold)
        size = np.array([[image.shape[1], image.shape[0]]], np.float64)
        input_size = self.detector.resize.get_transform(image).apply_coords(size.copy())
        scale = torch.from_numpy(size / input_size)[0].float()
        scores, boxes = self._recorder.for_image(0)
        grid = self._recorder.grid
        x_scale, y_scale = scale.tolist()
        return ModelView(
            title=self.title,
            class_names=self.detector.class_names,
            drawing=draw_detections(image, detections),
            predictions=ImagePredictions(scores.cpu(), boxes.cpu() * scale.repeat(2)),
            points=grid.centers.cpu() * scale,
            level_shapes=grid.level_shapes,
            cell_sizes=[(stride * x_scale, stride * y_scale) for stride in grid.level_strides],
            level_strides=grid.level_strides,
            head_maps=self._head_maps,
        )
