"""tools.reference.fuzz: its scenes and its judgment; a few cases where MMDetection is installed."""

import json
from dataclasses import replace

import pytest
import torch

from tests.helpers import GOLDEN, make_ground_truth
from tood.modeling.structures import AssignerInput
from tools.reference.fuzz import __main__ as fuzz
from tools.reference.fuzz.ablations import EMPTY_IMAGES, SMALL_SUMS
from tools.reference.fuzz.assigners import (
    CENTRAL_BORDER,
    EQUAL_AREAS,
    SINGLE_CANDIDATE,
    TIE_AT_THRESHOLD,
    TIE_AT_TOPK,
    atss_ties,
    explain_by_ties,
    explanations,
    ties_of_rule,
)
from tools.reference.fuzz.scenes import BOX_KINDS, Scene, random_scene


def draw(seed: int) -> Scene:
    return random_scene(torch.Generator().manual_seed(seed), 3, 200, 320)


def test_scenes_are_deterministic_and_differ():
    assert draw(3).describe() == draw(3).describe()
    torch.testing.assert_close(draw(3).ground_truth[0].boxes, draw(3).ground_truth[0].boxes)
    scenes = [draw(seed) for seed in range(300)]
    assert {kind for scene in scenes for kind in scene.box_kinds} == set(BOX_KINDS)
    assert {len(scene.strides) for scene in scenes} == {1, 2, 3, 4, 5, 6}
    counts = [len(gt.boxes) for scene in scenes for gt in scene.ground_truth]
    assert min(counts) == 0 and max(counts) > 150
    classes = [scene.num_classes for scene in scenes]
    assert min(classes) == 1 and max(classes) > 1000
    for scene in scenes:
        for gt in scene.ground_truth:
            assert torch.isfinite(gt.boxes).all() and (gt.classes < scene.num_classes).all()


def test_points_inside_are_those_of_the_grid():
    """Of an image that is smaller than its batch, by hand: 32 x 64 pixels at stride 16."""
    empty = make_ground_truth([], [])
    scene = Scene([16], [(100, 100), (20, 40)], 1, [empty, empty], ["plain", "plain"])
    assert scene.level_shapes == [(8, 8)]
    inputs = scene.points_inside(*scene.padded_sizes[1])
    assert inputs.centers.tolist() == [[16.0 * x, 16.0 * y] for y in range(2) for x in range(4)]


def one_level(*centers: float) -> AssignerInput:
    """Anchors of 8 x 8 pixels in a row."""
    x = torch.tensor(centers)
    anchors = torch.stack([x - 4, torch.full_like(x, -4.0), x + 4, torch.full_like(x, 4.0)], dim=1)
    return AssignerInput.from_anchors([anchors], [8])


def test_ties_of_atss():
    """Two points at the same distance count where one of them is the last of the k best."""
    box = torch.tensor([[-5.0, -4.0, 5.0, 4.0]])
    assert atss_ties(one_level(-8, 8, 1), box, topk=2) == {0: TIE_AT_TOPK}
    assert atss_ties(one_level(-8, 8, 1), box, topk=3) == {}
    assert atss_ties(one_level(-7, 8, 1), box, topk=2) == {}
    assert atss_ties(one_level(-7, 8, 1), box, topk=1) == {0: SINGLE_CANDIDATE}
    # Two equal IoUs: their mean is the threshold.
    assert atss_ties(one_level(-3, 3), box, topk=2) == {0: TIE_AT_THRESHOLD}
    assert atss_ties(one_level(-3, 3), box[:0], topk=2) == {}


def test_only_what_nothing_explains_fails(tmp_path, monkeypatch, capsys):
    found = {0: [], 1: [("2 points", "a tie")], 2: [("2 points", "a tie"), ("a loss", "")]}
    check = lambda generator, _: (draw(1), found[generator.initial_seed()])  # noqa: E731
    monkeypatch.setattr(fuzz, "CHECKS", {"ATSS": check})
    monkeypatch.setattr(fuzz, "import_mmdet", lambda: None)
    arguments = ["--checks", "ATSS", "--output", str(tmp_path / "found")]
    fuzz.main([*arguments, "--cases", "2"])
    assert not (tmp_path / "found").exists()
    with pytest.raises(SystemExit) as error:
        fuzz.main([*arguments, "--cases", "3"])
    assert error.value.code == 1
    (path,) = (tmp_path / "found").iterdir()
    case = json.loads(path.read_text())
    assert (case["check"], case["case"], case["differences"]) == ("ATSS", 2, ["a loss"])
    assert case["strides"] == draw(1).strides
    assert "unexplained" in capsys.readouterr().out


def test_explanations_are_tried_one_by_one():
    ties = [{0: "a", 3: "b"}, {}, {1: "a"}]
    assert list(explanations(ties)) == [
        ("a", [{0}, set(), {1}]),
        ("b", [{3}, set(), set()]),
        ("a; b", [{0, 3}, set(), {1}]),
    ]
    assert list(explanations([{}, {2: "a"}])) == [("a", [set(), {2}])]
    assert list(explanations([{}])) == []


def test_a_tie_explains_only_what_is_gone_without_its_objects():
    gt = make_ground_truth([[0, 0, 20, 20], [5, 5, 25, 25], [2, 3, 50, 61]], [0, 0, 0])
    scene = Scene([8], [(64, 64)], 1, [gt], ["plain"])
    ties = [{0: TIE_AT_THRESHOLD, 2: TIE_AT_TOPK}]

    def has(box):
        return lambda rest: box in rest.ground_truth[0].boxes.tolist()

    assert explain_by_ties(scene, ties, has([0, 0, 20, 20])) == TIE_AT_THRESHOLD
    assert explain_by_ties(scene, ties, has([2, 3, 50, 61])) == TIE_AT_TOPK
    assert explain_by_ties(scene, ties, has([5, 5, 25, 25])) == ""
    assert explain_by_ties(scene, [{}], lambda _: True) == ""
    both = explain_by_ties(scene, ties, lambda rest: len(rest.ground_truth[0].boxes) > 1)
    assert both == f"{TIE_AT_THRESHOLD}; {TIE_AT_TOPK}"


def test_ties_of_the_ablations():
    gt = make_ground_truth([[0, 0, 20, 20], [5, 5, 25, 25], [2, 3, 50, 61]], [0, 0, 0])
    scene = Scene([8, 16, 32, 64, 128], [(64, 64)], 1, [gt], ["plain"])
    assert ties_of_rule("FCOS", scene) == [{0: EQUAL_AREAS, 1: EQUAL_AREAS}]
    # (-35 + 55) / 2 + 0.4 * 45 is 28, the center of the fourth cell of P3.
    gt = make_ground_truth([[-35, 69, 55, 81], [-35, 69, 56, 80]], [0, 0])
    scene = replace(scene, ground_truth=[gt])
    assert ties_of_rule("FoveaBox", scene) == [{0: CENTRAL_BORDER}]
    assert ties_of_rule("FCOS", scene) == [{}]


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("check", "cases"), [("ATSS", 30), ("TAL", 30), ("ablation", 20), ("head", 3)]
)
def test_first_cases(check, cases, tmp_path):
    pytest.importorskip("mmdet")
    fuzz.import_mmdet()
    (counts,) = fuzz.run([check], range(cases), tmp_path).values()
    assert counts["equal"] >= cases / 2 and not counts["unexplained"]


@pytest.mark.mmdet
def test_stored_cases():
    """One case for each explanation, and those that found a fault, which are equal now."""
    pytest.importorskip("mmdet")
    fuzz.import_mmdet()
    stored = json.loads((GOLDEN / "fuzz_cases.json").read_text())
    assert {case["explanation"] for case in stored} == {
        *(EMPTY_IMAGES, SMALL_SUMS, EQUAL_AREAS, CENTRAL_BORDER),
        *(TIE_AT_TOPK, TIE_AT_THRESHOLD, SINGLE_CANDIDATE, "equal"),
    }
    for case in stored:
        _, differences = fuzz.run_case(case["check"], case["case"])
        assert {why for _, why in differences} == ({case["explanation"]} - {"equal"}), case
