"""Equality with the outputs of MMDetection 3.3.0 in tests/data (how they were made: there)."""

import json

import numpy as np
import pytest
import torch

from tests.helpers import (
    DATA,
    STRIDES,
    assert_close_to_range,
    golden,
    recipe_weights,
    square_anchors,
    tensor,
)
from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.key_mapping import to_tood_keys
from tood.modeling import build_tood_resnet_fpn_backbone  # noqa: F401
from tood.modeling.assigners import ATSSAssigner, TaskAlignedAssigner
from tood.modeling.criteria.focal import CenternessFocalCriterion
from tood.modeling.criteria.task_aligned import TaskAlignedCriterion
from tood.modeling.heads import TOODHead
from tood.modeling.postprocessing import postprocess_single_image
from tood.modeling.structures import AnchorGrid, FlatPredictions, flatten_levels
from tood.modeling.targets import compute_targets
from tools.reference.recipe import random_projection, recipe_input

HEADS = {
    "head_free_dcn0_c80.npz": {"num_classes": 80, "num_dcn": 0, "anchor_type": "anchor_free"},
    "head_based_dcn2_c1.npz": {"num_classes": 1, "num_dcn": 2, "anchor_type": "anchor_based"},
}
LEVELS = ["P3", "P4", "P5", "P6", "P7"]

# Results that hang on the order that topk gives to equal values.
TIE_CASES = {"metric_ties", "all_equal_ties", "lattice_ties"}


def case_names(file: str) -> list[str]:
    return [str(name) for name in golden(file)["case_names"]]


def case_of(cases: dict[str, np.ndarray], name: str) -> dict[str, torch.Tensor]:
    """The arrays of one case, without its name before theirs."""
    prefix = f"{name}/"
    found = {k: v for k, v in cases.items() if k.startswith(prefix)}
    return {key.removeprefix(prefix): tensor(value) for key, value in found.items()}


def assert_as_many_positives(assignment, case) -> None:
    """Each ground truth has as many positives, wherever ties went."""
    expected = case["out/assigned_gt_inds"].bincount(minlength=len(case["gt_labels"]) + 1)
    ours = (assignment.matched_idxs + 1).bincount(minlength=len(expected))
    assert torch.equal(ours, expected)


@pytest.fixture(scope="module")
def tal_cases():
    return golden("assigner_tal.npz")


@pytest.fixture(scope="module")
def atss_cases():
    return golden("assigner_atss.npz")


@pytest.mark.parametrize("name", case_names("assigner_tal.npz"))
@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_task_aligned_assigner(tal_cases, name, chunk_size):
    case = case_of(tal_cases, name)
    valid = case["valid_flags"].bool()
    assignment = TaskAlignedAssigner(chunk_size=chunk_size)(
        case["pred_scores"][valid],
        case["pred_bboxes"][valid],
        (case["priors"][valid, :2] + case["priors"][valid, 2:4]) / 2,
        case["gt_bboxes"],
        case["gt_labels"],
    )
    num_classes = case["pred_scores"].shape[1]
    if name in TIE_CASES:  # as many positives of each ground truth, wherever the ties went
        assert_as_many_positives(assignment, case)
        return
    assert torch.equal(assignment.matched_idxs, case["out/assigned_gt_inds"] - 1)
    labels = case["out/assigned_labels"]
    assert torch.equal(assignment.gt_classes, torch.where(labels < 0, num_classes, labels))
    torch.testing.assert_close(
        assignment.norm_alignment_metrics,
        case["out/norm_alignment_metrics"][valid],
        rtol=1e-5,
        atol=1e-7,
    )
    positive = assignment.matched_idxs >= 0
    torch.testing.assert_close(
        assignment.alignment_metrics[positive],
        case["out/assign_metrics"][positive],
        rtol=1e-5,
        atol=0,
    )


@pytest.mark.parametrize("name", case_names("assigner_atss.npz"))
@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_atss_assigner(atss_cases, name, chunk_size):
    case = case_of(atss_cases, name)
    valid = case["valid_flags"].bool()
    levels = valid.split(atss_cases["num_level_priors"].tolist())
    assignment = ATSSAssigner(num_classes=80, chunk_size=chunk_size)(
        tensor(atss_cases["priors"])[valid],
        [int(level.sum()) for level in levels],
        case["gt_bboxes"],
        case["gt_labels"],
    )
    if name in TIE_CASES:
        assert_as_many_positives(assignment, case)
        return
    assert torch.equal(assignment.matched_idxs, case["out/assigned_gt_inds"] - 1)
    labels = case["out/assigned_labels"]
    assert torch.equal(assignment.gt_classes, torch.where(labels < 0, 80, labels))


class GoldenHead:
    """A head with golden weights, its golden inputs, and the anchors that belong to them."""

    def __init__(self, file: str) -> None:
        self.data = golden(file)
        self.num_classes = HEADS[file]["num_classes"]
        self.head = TOODHead(in_channels=64, channels=64, strides=STRIDES, **HEADS[file])
        weights = {
            "bbox_head." + key.removeprefix("state_dict/"): tensor(value)
            for key, value in self.data.items()
            if key.startswith("state_dict/")
        }
        converted, _ = to_tood_keys(weights, "mmdet")
        self.head.load_state_dict({k.removeprefix("head."): v for k, v in converted.items()})
        self.features = [tensor(self.data[f"feat/{level}"]) for level in LEVELS]
        self.anchors = square_anchors([tuple(x.shape[-2:]) for x in self.features])

    def points(self) -> AnchorGrid:
        shapes = [tuple(x.shape[-2:]) for x in self.features]
        return AnchorGrid.from_levels(self.anchors, shapes, STRIDES)


@pytest.fixture(scope="module", params=list(HEADS))
def golden_head(request):
    return GoldenHead(request.param)


def test_head_forward(golden_head):
    with torch.no_grad():
        output = golden_head.head(golden_head.features, golden_head.anchors)
    for level, scores, boxes in zip(LEVELS, output.pred_scores, output.pred_boxes, strict=True):
        assert_close_to_range(scores, tensor(golden_head.data[f"cls_score/{level}"]), 1e-5)
        assert_close_to_range(boxes, tensor(golden_head.data[f"bbox_pred/{level}"]), 1e-5)


@pytest.mark.parametrize("variant", ["std", "pad", "empty1", "empty", "low"])
@pytest.mark.parametrize("phase", ["atss", "tal"])
def test_losses_and_gradients(golden_head, phase, variant):
    data, head = golden_head.data, golden_head.head
    key = f"loss/{phase}/{variant}"
    gts = [(tensor(data[f"gt/img{i}/bboxes"]), tensor(data[f"gt/img{i}/labels"])) for i in (0, 1)]
    nothing = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    if variant == "low":
        gts = [(tensor(data["gt/low/bboxes"]), tensor(data["gt/low/labels"])), nothing]
    elif variant == "empty":
        gts = [nothing, nothing]
    elif variant == "empty1":
        gts[1] = nothing
    # Image 1 of the variant "pad" ends at 128x160, also when rounded up to 32.
    sizes = [(160, 200), (120, 150) if variant == "pad" else (160, 200)]
    criterion, assigner = {
        "atss": (CenternessFocalCriterion(), ATSSAssigner()),
        "tal": (TaskAlignedCriterion(), TaskAlignedAssigner()),
    }[phase]

    features = [x.clone().requires_grad_() for x in golden_head.features]
    head.zero_grad()
    output = head(features, golden_head.anchors)
    flat = FlatPredictions(flatten_levels(output.pred_scores), flatten_levels(output.pred_boxes))
    labels, _ = compute_targets(
        assigner,
        flat,
        golden_head.points(),
        sizes,
        32,
        [boxes for boxes, _ in gts],
        [classes for _, classes in gts],
    )
    classes = torch.where(labels.gt_classes < 0, golden_head.num_classes, labels.gt_classes)
    assert torch.equal(classes, tensor(data[f"{key}/labels"]).long())
    assert torch.equal(labels.gt_classes >= 0, tensor(data[f"{key}/label_weights"]) > 0)

    sums = criterion(flat, labels)
    cls, box_reg = sums["loss_cls"], sums["loss_box_reg"]
    loss_cls = cls.total / cls.normalizer.clamp(min=1)
    loss_box = 2 * box_reg.total / box_reg.normalizer.clamp(min=1)
    assert loss_cls.item() == pytest.approx(data[f"{key}/loss_cls"].sum(), rel=1e-5)
    assert loss_box.item() == pytest.approx(data[f"{key}/loss_bbox"].sum(), rel=1e-5, abs=1e-9)

    (loss_cls + loss_box).backward()
    weights = dict(head.named_parameters())
    names = [str(name) for name in data["grad_names"]]
    for name, norm, dot in zip(
        names, data[f"{key}/grad_norm"], data[f"{key}/grad_dot"], strict=True
    ):
        if name.startswith("feat"):
            gradient = features[int(name[4:])].grad
        else:
            (ours,), _ = to_tood_keys({f"bbox_head.{name}": torch.zeros(())}, "mmdet")
            gradient = weights[ours.removeprefix("head.")].grad
        gradient = gradient.double()
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-7), name
        # A sum of terms that cancel: relative to its largest possible size, not to itself.
        assert random_projection(f"grad:{name}", gradient.numpy()) == pytest.approx(
            dot, rel=1e-4, abs=1e-4 * norm + 1e-7
        ), name


def assert_same_detections(detections, data, key, tolerance=1e-3):
    """The same boxes in the same order; scores and boxes within the tolerance."""
    boxes, scores, classes = (tensor(data[f"{key}/{x}"]) for x in ("bboxes", "scores", "labels"))
    assert torch.equal(detections.classes, classes.long())
    torch.testing.assert_close(detections.scores, scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(detections.boxes, boxes, rtol=0, atol=tolerance)


@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("kind", ["dets", "dets_exact_nms", "dets_pow"])
def test_post_processing_of_the_head(golden_head, kind, image):
    data = golden_head.data
    scores = [tensor(data[f"cls_score/{level}"][image]).flatten(1).t() for level in LEVELS]
    boxes = [
        tensor(data[f"bbox_pred/{level}"][image]).flatten(1).t() * stride
        for level, stride in zip(LEVELS, STRIDES, strict=True)
    ]
    if kind == "dets_pow":
        scores = [level ** int(data["dets_pow_exponent"]) for level in scores]
    detections = postprocess_single_image(
        scores,
        boxes,
        score_thresh=0.05,
        topk_candidates=1000,
        nms_thresh=0.6,
        max_detections=100,
        image_size=None,
    )
    assert_same_detections(detections, data, f"{kind}/img{image}", tolerance=1e-4)


@pytest.mark.parametrize("wrapped", [True, False])
def test_full_r50(tiny_cfg, tmp_path, wrapped):
    """The whole model through the public contract: config, checkpoint, backbone, head, boxes."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    from tests.helpers import CONFIGS
    from tood import add_tood_config

    data = golden("full_R50.npz")
    weights = recipe_weights("TOOD-R50-1x")
    torch.save({"state_dict": weights, "meta": {}} if wrapped else weights, tmp_path / "r50.pth")
    cfg = get_cfg()
    add_tood_config(cfg)
    cfg.merge_from_file(str(CONFIGS / "TOOD-R50-1x.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0] * 3, [1.0] * 3  # the image is normalized
    model = build_model(cfg).eval()
    TOODCheckpointer(model, strict=True).load(str(tmp_path / "r50.pth"))
    image = torch.from_numpy(recipe_input("image128x160", (1, 3, 128, 160)))
    with torch.no_grad():
        bottom_up = model.backbone.bottom_up(image)
        features = model.backbone(image)
        maps = [features[f"p{level}"] for level in range(3, 8)]
        anchors = [boxes.tensor for boxes in model.anchor_generator(maps)]
        output = model.head(maps, anchors)
    for name in ("res3", "res4", "res5"):
        assert_close_to_range(bottom_up[name], tensor(data[f"C{name[-1]}"]), 1e-5)
    for i, level in enumerate(LEVELS):
        assert_close_to_range(maps[i], tensor(data[level]), 1e-5)
        assert_close_to_range(output.pred_scores[i], tensor(data[f"cls_score/{level}"]), 1e-5)
        assert_close_to_range(output.pred_boxes[i], tensor(data[f"bbox_pred/{level}"]), 1e-5)
    detections = postprocess_single_image(
        [x[0].flatten(1).t() for x in output.pred_scores],
        [x[0].flatten(1).t() * s for x, s in zip(output.pred_boxes, STRIDES, strict=True)],
        score_thresh=cfg.MODEL.TOOD.SCORE_THRESH_TEST,
        topk_candidates=cfg.MODEL.TOOD.TOPK_CANDIDATES_TEST,
        nms_thresh=cfg.MODEL.TOOD.NMS_THRESH_TEST,
        max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
        image_size=None,  # MMDetection does not clip
    )
    assert_same_detections(detections, data, "dets/img0")


def test_initialization_statistics():
    expected = json.loads((DATA / "head_init_stats.json").read_text())
    for variant, num_dcn in (("num_dcn=0", 0), ("num_dcn=2", 2)):
        head = TOODHead(in_channels=256, num_classes=80, strides=STRIDES, num_dcn=num_dcn)
        ours = dict(head.named_parameters())
        seen = set()
        for name, stats in expected[variant].items():
            (key,), _ = to_tood_keys({f"bbox_head.{name}": torch.zeros(())}, "mmdet")
            value = ours[key.removeprefix("head.")].detach()
            seen.add(key.removeprefix("head."))
            assert list(value.shape) == stats["shape"], name
            n = max(value.numel(), 2)
            spread = stats["std"]
            # Six standard errors of the mean and of the standard deviation.
            assert abs(value.mean().item() - stats["mean"]) <= 6 * spread * (2 / n) ** 0.5 + 1e-5
            if n > 2:
                assert abs(value.std().item() - spread) <= 6 * spread / n**0.5 + 1e-7, name
        assert seen == set(ours)
