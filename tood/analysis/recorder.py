"""What a dense detector predicts before its suppression: recorded while it runs."""

import torch
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from torch import Tensor, nn

from ..errors import ConfigError
from ..modeling import TOOD
from ..modeling.box_ops import box_centers
from ..modeling.structures import ImagePredictions


class PredictionRecorder:
    """Records what a detector's head predicts, whenever the model runs.

    Args:
        model: a :class:`TOOD`, or detectron2's ``RetinaNet``; also inside DistributedDataParallel.

    Raises:
        ConfigError: another model.
    """

    def __init__(self, model: nn.Module) -> None:
        model = getattr(model, "module", model)
        if not isinstance(model, (TOOD, RetinaNet)):
            raise ConfigError(
                f"{type(model).__name__} is no model whose dense predictions are known: there are "
                "TOOD and RetinaNet"
            )
        self.model = model
        self._call: tuple[list[Tensor], object] | None = None
        self._hook = None

    def start(self) -> None:
        """Record from now on."""
        self.stop()
        self._hook = self.model.head.register_forward_hook(self._record)

    def stop(self) -> None:
        """Record no more, and forget."""
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._call = None

    def _record(self, _: nn.Module, inputs: tuple, output: object) -> None:
        self._call = inputs[0], output

    @property
    def level_shapes(self) -> list[tuple[int, int]]:
        """(Hi, Wi) of the levels of the last batch; predictions are in their order, row by row.

        Raises:
            RuntimeError: nothing was recorded.
        """
        return [tuple(level.shape[-2:]) for level in self._last()[0]]

    @property
    def points(self) -> Tensor:
        """(R, 2) the points of the last batch's predictions, in pixels of the network's input.

        Raises:
            RuntimeError: nothing was recorded.
        """
        return box_centers(self._anchors())

    def _anchors(self) -> Tensor:
        """(R, 4) pixels."""
        levels = self.model.anchor_generator(self._last()[0])
        return torch.cat([level.tensor for level in levels])

    def _last(self) -> tuple[list[Tensor], object]:
        if self._call is None:
            raise RuntimeError("nothing is recorded: call start(), and then the model")
        return self._call

    @torch.no_grad()
    def for_image(self, index: int) -> ImagePredictions:
        """The predictions for an image of the last batch.

        Args:
            index: of the image in the batch.

        Raises:
            RuntimeError: nothing was recorded.
        """
        output = self._last()[1]
        if isinstance(self.model, TOOD):
            scores, boxes, centerness = output.for_image(index, self.model.level_strides)
            scores, boxes = torch.cat(scores), torch.cat(boxes)
            return ImagePredictions(
                scores if centerness is None else scores * torch.cat(centerness), boxes
            )
        num_classes = self.model.num_classes
        logits, deltas = (
            torch.cat([_rows(level[index], columns) for level in levels])
            for levels, columns in zip(output, (num_classes, 4), strict=True)
        )
        boxes = self.model.box2box_transform.apply_deltas(deltas.float(), self._anchors())
        return ImagePredictions(logits.float().sigmoid(), boxes)


def _rows(level: Tensor, columns: int) -> Tensor:
    """(H * W * A, columns) of a map (A * columns, H, W)."""
    return level.unflatten(0, (-1, columns)).permute(2, 3, 0, 1).reshape(-1, columns)
