"""Which keypoint names mean two sides."""

import pytest
from detectron2.data.datasets.builtin_meta import (
    COCO_PERSON_KEYPOINT_FLIP_MAP,
    COCO_PERSON_KEYPOINT_NAMES,
)

from tood.data.keypoint_flips import pair_sides


def test_persons_of_coco():
    pairs, problem = pair_sides(COCO_PERSON_KEYPOINT_NAMES)
    assert pairs == list(COCO_PERSON_KEYPOINT_FLIP_MAP) and not problem


@pytest.mark.parametrize(
    "left, right",
    [
        ("left_eye", "right_eye"),
        ("eye_left", "eye_right"),
        ("Left Eye", "Right Eye"),
        ("LEFT_EYE", "RIGHT_EYE"),
        ("leftEye", "rightEye"),
        ("lefteye", "righteye"),
        ("l_eye", "r_eye"),
        ("eye.L", "eye.R"),
        ("LEye", "REye"),
        ("eyeL", "eyeR"),
        ("top-left", "top-right"),
    ],
)
def test_pairs(left, right):
    assert pair_sides(["nose", right, left]) == ([(right, left)], "")


@pytest.mark.parametrize(
    "names",
    [
        ["nose", "tail"],
        ["L1", "L2", "L3"],  # vertebrae
        ["lip", "rib", "collar", "ear"],
        ["head"],
    ],
)
def test_no_sides(names):
    assert pair_sides(names) == ([], "")


@pytest.mark.parametrize(
    "names, problem",
    [
        ([], "not known"),
        (["left_eye", "nose"], "'left_eye' has no counterpart 'right_eye'"),
        (["nose", "right_eye", "left_Eye"], "'right_eye' has no counterpart 'left_eye'"),
        (["l_eye", "r_eye", "l_ear"], "'l_ear' has no counterpart 'r_ear'"),
        (["Left", "right"], "'Left' has no counterpart 'Right'"),
        (["left", "right", "left"], "two of its keypoints have one name"),
        (["1", "2"], "say nothing (['1', '2'])"),
        (["nose", ""], "say nothing (['nose', ''])"),
    ],
)
def test_what_is_not_certain(names, problem):
    pairs, found = pair_sides(names)
    assert not pairs and problem in found
