"""Candidates of several views of an image: mapped back, and chosen from together."""

import pytest
import torch
from detectron2.modeling import build_model
from torchvision.ops import batched_nms

from tests.export.helpers import make_confident
from tood.modeling.structures import ImageDetections
from tood.modeling.views import candidates_of_views, to_frame

H, W = 96, 128


def candidate(*box: float) -> ImageDetections:
    return ImageDetections(
        torch.tensor([box], dtype=torch.float32), torch.tensor([0.5]), torch.tensor([1])
    )


@pytest.fixture
def model(tiny_cfg):
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 40
    model = make_confident(build_model(tiny_cfg).eval())
    model.test_score_thresh = 0.3
    return model


def view(image: torch.Tensor, flipped: bool = False) -> dict:
    return {"image": image.flip(-1) if flipped else image, "flipped": flipped}


def resized(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return torch.nn.functional.interpolate(image[None], (height, width), mode="bilinear")[0]


def detect(model, *inputs: dict) -> list:
    with torch.no_grad():
        return [output["instances"] for output in model(list(inputs))]


def assert_same(found, expected, atol=0.0):
    assert len(found) == len(expected) > 10
    boxes = found.pred_boxes.tensor, expected.pred_boxes.tensor
    torch.testing.assert_close(*boxes, rtol=0, atol=atol)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=atol / 100)
    assert torch.equal(found.pred_classes, expected.pred_classes)


def test_boxes_in_the_frame():
    found = candidate(10, 20, 30, 60)
    assert to_frame(found, (80, 100), False, (80, 100)) is not None
    assert to_frame(found, (80, 100), False, (80, 100)).boxes is found.boxes  # no arithmetic
    assert to_frame(found, (80, 100), False, (40, 300)).boxes.tolist() == [[30, 10, 90, 30]]
    assert to_frame(found, (80, 100), True, (80, 100)).boxes.tolist() == [[70, 20, 90, 60]]
    assert to_frame(found, (80, 100), True, (160, 50)).boxes.tolist() == [[35, 40, 45, 120]]


def test_views_of_one_padded_size_share_a_run():
    """Also those of different images; the candidates come back in the order of the views."""
    runs = []

    def candidates(batch):
        runs.append([x["image"].shape[-2:] for x in batch])
        assert not any("views" in x for x in batch)
        return [candidate(0, 0, float(x["number"]), 1) for x in batch]

    def images(*sizes):
        return [{"image": torch.zeros(3, *size)} for size in sizes]

    first, second = images((60, 60), (64, 30))
    first["views"] = images((60, 60), (128, 128), (33, 64))
    second["views"] = images((120, 100), (64, 40))
    third = {**images((50, 64))[0], "number": 6}  # its own single view
    for number, x in enumerate((*first["views"], *second["views"]), 1):
        x["number"] = number
    found = candidates_of_views(candidates, [first, second, third], 32)
    # Padded: 64x64, 128x128 and 64x64; 128x128 and 64x64; 64x64.
    assert runs == [[(60, 60), (33, 64), (64, 40), (50, 64)], [(128, 128), (120, 100)]]
    widths = [x.boxes[:, 2].tolist() for x in found]
    assert widths[0] == pytest.approx([1, 2 * 60 / 128, 3 * 60 / 64])
    assert widths[1] == pytest.approx([4 * 30 / 100, 5 * 30 / 40]) and widths[2] == [6]
    with pytest.raises(ValueError, match="empty list of views"):
        candidates_of_views(candidates, [{**first, "views": []}], 32)


def test_identity_changes_nothing(model, make_input):
    """Bit for bit, and also scaled to the size that detections refer to."""
    x = make_input(H, W)
    x["height"], x["width"] = 191, 300
    (expected,) = detect(model, x)
    (found,) = detect(model, {**x, "views": [view(x["image"])]})
    assert_same(found, expected)


def test_equals_a_slow_reference(model, make_input):
    """Candidates of every view, mapped one by one; then NMS of each class over all of them."""
    x = make_input(H, W)
    x["height"], x["width"] = 2 * H, 2 * W
    large = resized(x["image"], 2 * H, 2 * W)
    x["views"] = [view(x["image"]), view(x["image"], True), view(large), view(large, True)]
    boxes, scores, classes = [], [], []
    for one in x["views"]:
        with torch.no_grad():
            (found,) = model.image_candidates([{"image": one["image"]}])
        width = one["image"].shape[-1]
        for box, score, label in zip(*(part.tolist() for part in found), strict=True):
            x1, y1, x2, y2 = box
            x1, x2 = (width - x2, width - x1) if one["flipped"] else (x1, x2)
            scale = 2 * W / width
            limits = (2 * W, 2 * H) * 2
            scaled = (
                max(0, min(v * scale, n)) for v, n in zip((x1, y1, x2, y2), limits, strict=True)
            )
            boxes.append(list(scaled))
            scores.append(score)
            classes.append(label)
    boxes, scores, classes = torch.tensor(boxes), torch.tensor(scores), torch.tensor(classes)
    keep = batched_nms(boxes, scores, classes, model.test_nms_thresh)[:40]
    (found,) = detect(model, x)
    assert len(found) == 40
    torch.testing.assert_close(found.scores, scores[keep], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.pred_boxes.tensor, boxes[keep], rtol=0, atol=1e-2)
    assert torch.equal(found.pred_classes, classes[keep])


def test_a_mirrored_image_has_mirrored_detections(model, make_input):
    x = make_input(H, W)
    flipped = {**x, "image": x["image"].flip(-1)}
    plain, mirrored = detect(model, x)[0], detect(model, flipped)[0]
    assert (plain.scores[:10] - mirrored.scores[:10]).abs().max() > 1e-3  # not without
    found, expected = (
        detect(model, {**one, "views": [view(one["image"]), view(one["image"], True)]})[0]
        for one in (flipped, x)
    )
    left, top, right, bottom = expected.pred_boxes.tensor.unbind(1)
    expected.pred_boxes.tensor = torch.stack([W - right, top, W - left, bottom], dim=1)
    assert_same(found, expected, atol=1e-3)


def test_single_equals_batched(model, make_input):
    inputs = []
    for height, width in ((96, 128), (64, 96), (96, 128)):
        x = make_input(height, width)
        small = resized(x["image"], height // 2, width // 2)
        x["views"] = [view(x["image"]), view(small, True), view(x["image"], True)]
        inputs.append(x)
    single = [detect(model, x)[0] for x in inputs]
    for found, expected in zip(detect(model, *inputs), single, strict=True):
        assert_same(found, expected, atol=1e-3)
