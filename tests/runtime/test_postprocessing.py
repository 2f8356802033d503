"""Post-processing in NumPy equals the model's own, and its options do what they say."""

import numpy as np
import pytest
import torch

from tests.runtime.test_nms import random_boxes
from tood.modeling.postprocessing import finalize as finalize_in_torch
from tood.modeling.postprocessing import image_candidates, postprocess_single_image
from tood_runtime.model_info import ModelFileError
from tood_runtime.nms import Candidates
from tood_runtime.postprocessing import (
    detections_of_image,
    finalize,
    points_per_level,
    require_possible,
)
from tood_runtime.prediction import OptionError, PredictionSettings


def detect(boxes, scores, info, **options):
    """The detections of the only image of a file with raw output."""
    threshold = options.pop("score_threshold")
    return detections_of_image(
        {"boxes": boxes[None], "scores": scores[None]},
        0,
        info,
        settings=PredictionSettings(threshold),
        **options,
    )


def test_points_per_level(make_info):
    # Padded to 96x160; the levels are 12x20, 6x10, 3x5, 2x3 and 1x2.
    assert points_per_level((90, 130), make_info()) == [240, 60, 15, 6, 2]


@pytest.mark.parametrize("max_detections", [0, 20, -1])
@pytest.mark.parametrize("threshold, topk", [(0.0, 30), (0.5, 1000)])
def test_detections_equal_the_model_s(make_info, threshold, topk, max_detections):
    """Against the model's post-processing, with the scaling of detectron2."""
    info = make_info(output="raw", topk_candidates=topk, max_detections=max_detections)
    generator = np.random.default_rng(4)
    points = points_per_level((96, 128), info)
    boxes, _, _ = random_boxes(generator, sum(points))
    boxes -= 20  # some reach over the edges, some lie outside
    boxes[::7] = np.nan
    scores = generator.random((sum(points), 3), np.float32)
    expected = postprocess_single_image(
        list(torch.from_numpy(scores).split(points)),
        list(torch.from_numpy(boxes).split(points)),
        score_thresh=threshold,
        topk_candidates=topk,
        nms_thresh=info.nms_threshold,
        max_detections=max_detections,
        image_size=(90, 100),
    )
    found = detect(
        boxes,
        scores,
        info,
        input_size=(96, 128),
        image_size=(90, 100),
        original_size=(45, 200),
        score_threshold=threshold,
    )
    assert max_detections == 0 or len(expected.scores)
    scaled = expected.boxes.numpy() * np.array([2, 0.5, 2, 0.5], np.float32)
    np.testing.assert_array_equal(found.boxes, scaled)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.classes, expected.classes)


def test_boxes_that_scaling_empties_are_dropped(make_info):
    info = make_info(output="raw", level_strides=[32], min_size=0)
    boxes = np.array([[0, 0, 1e-45, 8], [0, 0, 8, 8]], np.float32)
    scores = np.array([[0.9, 0, 0], [0.8, 0, 0]], np.float32)
    found = detect(
        boxes,
        scores,
        info,
        input_size=(32, 64),
        image_size=(32, 64),
        original_size=(32, 1),
        score_threshold=0.1,
    )
    assert found.scores.tolist() == [np.float32(0.8)]


def test_other_points_than_the_strides_mean(make_info):
    with pytest.raises(ModelFileError, match=r"gives 7 boxes for 128x96 pixels.*mean 257"):
        detect(
            np.zeros((7, 4), np.float32),
            np.zeros((7, 3), np.float32),
            make_info(output="raw"),
            input_size=(96, 128),
            image_size=(96, 128),
            original_size=(96, 128),
            score_threshold=0.1,
        )


@pytest.fixture
def predictions():
    generator = np.random.default_rng(5)
    boxes, _, _ = random_boxes(generator, 300)
    return torch.from_numpy(generator.random((300, 3), np.float32)), torch.from_numpy(boxes)


def run(predictions, **options) -> Candidates:
    """Candidates of the model, and the NumPy part of it with options."""
    scores, boxes = predictions
    settings = PredictionSettings(0.4, **options)
    found = image_candidates(
        [scores], [boxes], score_thresh=0.4, topk_candidates=250, class_ids=settings.class_ids
    )
    candidates = Candidates(*(column.numpy() for column in found))
    return finalize(
        candidates,
        settings,
        nms_threshold=0.6,
        max_detections=50,
        image_size=(150, 150),
        original_size=(150, 150),
    )


def test_a_class_filter_comes_before_the_limits(predictions):
    """As if the model had no other classes: no slot goes to a class that is dropped later."""
    scores, boxes = predictions
    alone = postprocess_single_image(
        [scores[:, 1:2]],
        [boxes],
        score_thresh=0.4,
        topk_candidates=250,
        nms_thresh=0.6,
        max_detections=50,
        image_size=(150, 150),
    )
    found = run(predictions, class_ids=(1,))
    np.testing.assert_array_equal(found.boxes, alone.boxes)
    assert set(found.classes) == {1} and len(found.scores) == 50
    assert (run(predictions).classes == 1).sum() < 50


@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_another_iou_threshold(predictions, threshold):
    scores, boxes = predictions
    candidates = image_candidates([scores], [boxes], score_thresh=0.4, topk_candidates=250)
    expected = finalize_in_torch(
        candidates, nms_thresh=threshold, max_detections=300, image_size=(150, 150)
    )
    found = run(predictions, nms_threshold=threshold, max_detections=300)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.classes, expected.classes)


def test_options_of_a_file_with_nms_inside(make_info):
    info = make_info(output="detections", max_detections=20)
    for options in ({}, {"nms_threshold": info.nms_threshold}, {"max_detections": 20}):
        require_possible(PredictionSettings(**options), info)
    require_possible(PredictionSettings(nms="soft", max_detections=90, slice_size=64), info)
    for options in ({"nms_threshold": 0.1}, {"nms": "soft"}, {"max_detections": 21}):
        require_possible(PredictionSettings(**options), make_info(output="raw"))
        with pytest.raises(OptionError, match="--raw"):
            require_possible(PredictionSettings(**options), info)


@pytest.mark.parametrize(
    "changed",
    [
        {"boxes": np.zeros((1, 2, 5), np.float32)},
        {"boxes": np.zeros((2, 4), np.float32)},
        {"scores": np.zeros((1, 3), np.float32)},
        {"labels": np.zeros((1, 2), np.float32)},
        {"labels": np.array([[0, -1]])},
        {"num_dets": np.array([3])},
        {"num_dets": np.array([-1])},
        {"num_dets": np.array(2)},
    ],
    ids=repr,
)
def test_outputs_that_the_metadata_does_not_promise(make_info, changed):
    outputs = {
        "boxes": np.ones((1, 2, 4), np.float32),
        "scores": np.ones((1, 2), np.float32),
        "labels": np.array([[0, 7]]),  # a class without a name
        "num_dets": np.array([2]),
    }
    sizes = {"input_size": (32, 32), "image_size": (32, 32), "original_size": (32, 32)}
    assert detections_of_image(outputs, 0, make_info(), **sizes).classes.tolist() == [0, 7]
    with pytest.raises(ModelFileError, match="gives other outputs than its metadata promises"):
        detections_of_image({**outputs, **changed}, 0, make_info(), **sizes)
