"""Records a detector's predictions before NMS while the model runs."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import ConfigError
from ..modeling.dense_detector import find_dense_core
from ..modeling.proposal_network import TOODProposalNetwork
from ..modeling.structures import AnchorGrid, DensePredictions, ImagePredictions
from ..modeling.views import has_views


class PredictionRecorder:
    """Records what a detector's head predicts for every point, whenever the model runs.

    Of a batch that the model looks at in several runs (test-time augmentation), it would have the
    last one only; `require_single_view` refuses such a batch.

    Args:
        model: a model with a :class:`DenseDetectorCore`, or detectron2's ``RetinaNet``; also inside
            DistributedDataParallel.

    Raises:
        ConfigError: the model is of another kind, or has TOOD as its first stage.
    """

    def __init__(self, model: nn.Module) -> None:
        core = find_dense_core(model)
        retinanet = getattr(model, "module", model)  # inside DistributedDataParallel
        if isinstance(core, TOODProposalNetwork):
            raise ConfigError(
                f"The alignment of a {type(retinanet).__name__} cannot be analyzed: its detections "
                "are those of the second stage. Use a config with MODEL.META_ARCHITECTURE TOOD."
            )
        if core is None and not isinstance(retinanet, RetinaNet):
            raise ConfigError(
                f"Cannot record the predictions of {type(retinanet).__name__}. "
                "Supported: TOOD, RetinaNet. Use a TOOD or RetinaNet config."
            )
        self._model: Any = core or retinanet
        self._hook: RemovableHandle | None = None
        self._call: tuple[tuple, tuple] | None = None

    def start(self) -> None:
        """Record from now on."""
        self.stop()
        self._hook = self._model.head.register_forward_hook(self._record)

    def stop(self) -> None:
        """Stop recording and forget the last batch."""
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._call = None

    def require_single_view(self, inputs: Sequence[dict[str, Any]]) -> None:
        """Check that what was recorded is what the model has predicted for a batch.

        Args:
            inputs: of the model.

        Raises:
            ConfigError: they ask for test-time augmentation.
        """
        if has_views(inputs):
            raise ConfigError(
                "Losses and task alignment are measured on the predictions for the image itself, "
                "not with test-time augmentation. Evaluate them in a pass without it."
            )

    def _record(self, _: nn.Module, inputs: tuple, output: tuple) -> None:
        if isinstance(self._model, RetinaNet):
            logits, deltas = output
            output = [level.clone() for level in logits], deltas  # it applies the sigmoid in place
        self._call = inputs, output

    def _last_call(self) -> tuple[tuple, tuple]:
        if self._call is None:
            raise RuntimeError("Nothing was recorded. Call start(), then run the model.")
        return self._call

    @property
    def grid(self) -> AnchorGrid:
        """Where the predictions of the last batch are, in their order.

        RetinaNet has several anchors per cell: R is then their number over all cells.

        Raises:
            RuntimeError: nothing was recorded.
        """
        inputs, _ = self._last_call()
        features = inputs[0]
        shapes = [(level.shape[-2], level.shape[-1]) for level in features]
        if isinstance(self._model, RetinaNet):
            anchors = [level.tensor for level in self._model.anchor_generator(features)]
            levels = self._model.backbone.output_shape()
            strides = [levels[name].stride for name in self._model.head_in_features]
        else:
            anchors, strides = inputs[1], self._model.level_strides
        return AnchorGrid.from_levels(anchors, shapes, strides)

    @property
    def predictions(self) -> DensePredictions:
        """What the head of a model with a `DenseDetectorCore` has predicted for the last batch.

        Raises:
            RuntimeError: nothing was recorded.
            TypeError: the model is a RetinaNet.
        """
        _, output = self._last_call()
        if not isinstance(output, DensePredictions):
            raise TypeError("RetinaNet's head does not return DensePredictions. Use for_image().")
        return output

    @torch.no_grad()
    def for_image(self, index: int) -> ImagePredictions:
        """The predictions for image ``index`` of the last batch, boxes in the network's pixels.

        Raises:
            RuntimeError: nothing was recorded.
        """
        _, output = self._last_call()
        if isinstance(output, DensePredictions):
            levels = output.for_image(index)
            scores, boxes = torch.cat(levels[0]), torch.cat(levels[1])
            return ImagePredictions(
                scores if levels[2] is None else scores * torch.cat(levels[2]), boxes
            )
        logits, deltas = output
        scores = _join_levels(logits, index, self._model.num_classes).sigmoid()
        boxes = self._model.box2box_transform.apply_deltas(
            _join_levels(deltas, index, 4), self.grid.anchors
        )
        return ImagePredictions(scores, boxes)


def _join_levels(levels: list[Tensor], index: int, columns: int) -> Tensor:
    """RetinaNet's maps (N, A * columns, Hi, Wi) -> (R, columns) of one image, cell by cell."""
    rows = [level[index].unflatten(0, (-1, columns)).permute(2, 3, 0, 1) for level in levels]
    return torch.cat([level.reshape(-1, columns) for level in rows]).float()
