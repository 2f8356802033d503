"""What this project's model and MMDetection's compute from the same weights and images."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from tood.checkpoint.key_mapping import from_tood_keys
from tood.config.loading import load_config
from tood.modeling.meta_arch import TOOD
from tools import CONFIGS
from tools.reference.mmdet import MMDetTOOD, build_reference, precision

PHASES = ("warmup", "aligned")


@dataclass
class ModelOutputs:
    """Maps by level, detections by image, losses and updates by name.

    Attributes:
        features: C3 to C5, then P3 to P7.
        scores: (N, K, Hi, Wi).
        boxes: (N, 4, Hi, Wi), pixels.
        detections: boxes, scores and classes, not clipped to the image, as MMDetection's are.
        losses: of both phases.
        updates: the change of each parameter in one SGD step, by phase and MMDetection's names.
    """

    features: list[Tensor]
    scores: list[Tensor]
    boxes: list[Tensor]
    detections: list[tuple[Tensor, Tensor, Tensor]]
    losses: dict[str, float]
    updates: dict[str, dict[str, Tensor]]


class Comparison:
    """Both models of a config, with equal weights, on a batch of images with ground truth.

    Args:
        name: of the config.
        images: (H, W, 3) uint8, RGB; one batch.
        weights: file or URL; None for random ones by :mod:`tools.reference.recipe`.
        dtype: of all computations.
    """

    def __init__(
        self, name: str, images: list[np.ndarray], weights: str | None, dtype: torch.dtype
    ) -> None:
        self._dtype = dtype
        with precision(dtype):
            self._cfg = load_config(str(CONFIGS / f"{name}.yaml"), ["MODEL.DEVICE", "cpu"])
            self._model: TOOD = build_model(self._cfg)
            self._reference = build_reference(name, self._model, weights)
            self._model.to(dtype)
            self._reference.to(dtype)
            truth = [make_ground_truth(image, seed) for seed, image in enumerate(images)]
            boxes, classes = [b.to(dtype) for b, _ in truth], [c for _, c in truth]
            self._batch, self._samples = self._reference.preprocess(images, boxes, classes)
            self._inputs = [
                _make_input(*x, dtype) for x in zip(images, boxes, classes, strict=True)
            ]

    def run_candidate(self) -> ModelOutputs:
        """Run this project's model."""
        with precision(self._dtype):
            return _run_candidate(self._model, self._cfg, self._inputs)

    def run_reference(self, noise: float = 0) -> ModelOutputs:
        """Run MMDetection's model.

        Args:
            noise: relative change of every value of the normalized input.
        """
        with precision(self._dtype):
            batch = self._batch
            if noise:
                batch = batch * (1 + noise * torch.randn(batch.shape).clamp(-2, 2))
            return _run_reference(self._reference, batch, self._samples)


def make_ground_truth(image: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
    """Four boxes (M, 4) from small to large, and their classes (M,)."""
    height, width = image.shape[:2]
    random = np.random.RandomState(seed)
    sizes = np.array([0.1, 0.25, 0.5, 0.8]) * min(height, width)
    x1, y1 = (random.uniform(0, side - sizes) for side in (width, height))
    boxes = np.stack([x1, y1, x1 + sizes, y1 + sizes * 0.9], axis=1).astype(np.float32)
    return torch.from_numpy(boxes), torch.from_numpy(random.randint(0, 80, len(sizes)))


def _make_input(image: np.ndarray, boxes: Tensor, classes: Tensor, dtype: torch.dtype) -> dict:
    instances = Instances(image.shape[:2])
    instances.gt_boxes = Boxes(boxes)
    instances.gt_boxes.tensor = boxes  # Boxes converts to float32
    instances.gt_classes = classes
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    return {"image": tensor.to(dtype), "instances": instances}


def _sgd_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, losses: Iterable[Tensor]
) -> dict[str, Tensor]:
    """The change of each parameter in a step of SGD; restores the model."""
    before = {key: value.detach().clone() for key, value in model.state_dict().items()}
    torch.stack(list(losses)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    updates = {key: value.detach() - before[key] for key, value in model.named_parameters()}
    model.load_state_dict(before)
    return updates


def _run_candidate(model: TOOD, cfg: CfgNode, inputs: list[dict]) -> ModelOutputs:
    losses, updates = {}, {}
    for phase in PHASES:
        model.train().set_phase(phase)
        phase_losses = model(inputs)
        losses.update({f"{phase}/{name}": loss.item() for name, loss in phase_losses.items()})
        update = _sgd_step(model, build_optimizer(cfg, model), phase_losses.values())
        updates[phase] = from_tood_keys(update, "mmdet")
    with torch.no_grad():
        images = model.eval().preprocess_image(inputs)
        stages = model.backbone.bottom_up(images.tensor)
        pyramid = model.backbone(images.tensor)
        _, predictions = model.predict(pyramid)
        detections = model.detect(predictions, [None] * len(inputs))  # None: not clipped
    features = [stages[f"res{i}"] for i in (3, 4, 5)]
    features += [pyramid[name] for name in model.head_in_features]
    found = [(d.boxes, d.scores, d.classes) for d in detections]
    return ModelOutputs(features, predictions.scores, predictions.boxes, found, losses, updates)


def _run_reference(reference: MMDetTOOD, batch: Tensor, samples: list) -> ModelOutputs:
    losses, updates = {}, {}
    for phase in PHASES:
        reference.set_phase(phase)
        reference.model.train()  # this also puts its batch norms into evaluation mode
        phase_losses = reference.losses(batch, samples)
        losses.update({f"{phase}/{name}": loss.item() for name, loss in phase_losses.items()})
        updates[phase] = _sgd_step(reference.model, reference.optimizer(), phase_losses.values())
    with torch.no_grad():
        stages = reference.model.eval().backbone(batch)
        pyramid = reference.model.neck(stages)
        scores, boxes = reference.head(pyramid)
        metas = [sample.metainfo for sample in samples]
        detections = reference.head.predict_by_feat(
            scores, boxes, batch_img_metas=metas, rescale=False
        )
        strides = reference.head.prior_generator.strides
        boxes = [level * stride for level, (stride, _) in zip(boxes, strides, strict=True)]
    found = [(d.bboxes, d.scores, d.labels) for d in detections]
    return ModelOutputs([*stages[1:], *pyramid], list(scores), boxes, found, losses, updates)
