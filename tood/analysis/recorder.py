"""Records a detector's predictions before NMS while the model runs."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from torch import Tensor, nn

from ..errors import ConfigError
from ..modeling.dense_detector import DenseDetectorCore, find_dense_core
from ..modeling.structures import AnchorGrid, DensePredictions, ImagePredictions


class PredictionRecorder:
    """Records what a detector predicts for every point, whenever the model runs.

    Args:
        model: a model with a :class:`DenseDetectorCore`, or detectron2's ``RetinaNet``; also inside
            DistributedDataParallel.

    Raises:
        ConfigError: the model is of another kind.
    """

    def __init__(self, model: nn.Module) -> None:
        core = find_dense_core(model)
        retinanet = getattr(model, "module", model)  # inside DistributedDataParallel
        if core is None and not isinstance(retinanet, RetinaNet):
            raise ConfigError(
                f"Cannot record the predictions of {type(retinanet).__name__}. "
                "Supported: TOOD, RetinaNet"
            )
        self._model: DenseDetectorCore | RetinaNet = core or retinanet
        self._undo: Callable[[], object] | None = None
        self._last: tuple[AnchorGrid, Callable[[int], ImagePredictions]] | None = None

    def start(self) -> None:
        """Record from now on."""
        self.stop()
        if isinstance(self._model, RetinaNet):
            self._undo = self._model.head.register_forward_hook(self._record_retinanet).remove
        else:
            attributes = vars(self._model)
            attributes["predict"] = self._recording(self._model.predict)  # shadows the method
            self._undo = partial(attributes.pop, "predict")

    def stop(self) -> None:
        """Stop recording and forget the last batch."""
        if self._undo is not None:
            self._undo()
        self._undo = self._last = None

    @property
    def grid(self) -> AnchorGrid:
        """Where the predictions of the last batch are, in their order.

        RetinaNet has several anchors per cell: R is then their number over all cells.

        Raises:
            RuntimeError: nothing was recorded.
        """
        return self._recorded()[0]

    def for_image(self, index: int) -> ImagePredictions:
        """The predictions for image ``index`` of the last batch, boxes in the network's pixels.

        Raises:
            RuntimeError: nothing was recorded.
        """
        return self._recorded()[1](index)

    def _recorded(self) -> tuple[AnchorGrid, Callable[[int], ImagePredictions]]:
        if self._last is None:
            raise RuntimeError("Nothing was recorded. Call start(), then run the model")
        return self._last

    def _recording(
        self, predict: Callable[[Mapping[str, Tensor]], tuple[AnchorGrid, DensePredictions]]
    ) -> Callable[[Mapping[str, Tensor]], tuple[AnchorGrid, DensePredictions]]:
        def record(features: Mapping[str, Tensor]) -> tuple[AnchorGrid, DensePredictions]:
            grid, predictions = predict(features)
            self._last = grid, partial(_image_predictions, predictions)
            return grid, predictions

        return record

    def _record_retinanet(self, _: nn.Module, inputs: tuple, output: tuple) -> None:
        (features,) = inputs
        anchors = [level.tensor for level in self._model.anchor_generator(features)]
        shapes = [(level.shape[-2], level.shape[-1]) for level in features]
        levels = self._model.backbone.output_shape()
        strides = [levels[name].stride for name in self._model.head_in_features]
        grid = AnchorGrid.from_levels(anchors, shapes, strides)
        self._last = grid, partial(_retinanet_predictions, self._model, grid, *output)


@torch.no_grad()
def _image_predictions(predictions: DensePredictions, index: int) -> ImagePredictions:
    levels = predictions.for_image(index)
    scores, boxes = torch.cat(levels[0]), torch.cat(levels[1])
    return ImagePredictions(scores if levels[2] is None else scores * torch.cat(levels[2]), boxes)


@torch.no_grad()
def _retinanet_predictions(
    model: RetinaNet, grid: AnchorGrid, logits: list[Tensor], deltas: list[Tensor], index: int
) -> ImagePredictions:
    scores = _join_levels(logits, index, model.num_classes).sigmoid()
    boxes = model.box2box_transform.apply_deltas(_join_levels(deltas, index, 4), grid.anchors)
    return ImagePredictions(scores, boxes)


def _join_levels(levels: list[Tensor], index: int, columns: int) -> Tensor:
    """Maps (N, A * columns, Hi, Wi) -> (R, columns) of one image, anchors of a cell together."""
    rows = [level[index].unflatten(0, (-1, columns)).permute(2, 3, 0, 1) for level in levels]
    return torch.cat([level.reshape(-1, columns) for level in rows]).float()
