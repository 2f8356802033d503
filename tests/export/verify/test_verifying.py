"""A verification of what the network does in PyTorch, and of outputs that are changed by hand."""

import copy
import json

import numpy as np
import pytest
import torch

from tests.export.verify.helpers import with_info
from tood.export.verify import images, verify_export, write_report
from tood.export.verify.images import make_batches, prepare_images
from tood.export.verify.reference import run_model


@pytest.fixture(autouse=True)
def four_images(monkeypatch):
    """The test of an ONNX file has them all."""
    monkeypatch.setattr(images, "MIN_IMAGES", 4)


@pytest.fixture
def verify(confident):
    def run(backend, **options):
        return verify_export(
            "model.torchscript", *confident, open_backend=lambda _: backend, **options
        )

    return run


def test_the_network_is_verified(verify, make_backend):
    backend = make_backend()
    report = verify(backend)
    assert report.failures() == [] and report.passed
    assert [len(item.batch.images) for item in report.comparisons] == [1] * 4 + [3] * 2
    assert [len(arrays[0]) for arrays in backend.calls] == [1] * 4 + [3] * 2
    assert sum(item.detections for item in report.comparisons) > 200
    assert all(item.max_box < 1e-3 and item.max_score < 1e-5 for item in report.comparisons)
    assert "is verified with PyTorch" in report.lines()[-1]


def test_the_model_is_as_it_was(confident, verify, make_backend):
    model = confident[0]
    before = copy.deepcopy(model.state_dict())
    prepared = prepare_images(confident[1], make_backend().info, None)
    run_model(model, make_batches(prepared, 3, make_backend().info)[0])
    assert "preprocess_image" not in vars(model) and not model.head._forward_hooks
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def add_to_scores(value):
    def change(outputs):
        outputs["scores"] = np.where(outputs["scores"] > 0, outputs["scores"] + value, 0)

    return change


def drop(outputs):
    """The third detection of each image."""
    for name, filler in (("boxes", 0), ("scores", 0), ("labels", -1)):
        kept = np.delete(outputs[name], 2, axis=1)
        pad = [(0, 0), (0, 1), (0, 0)][: kept.ndim]
        outputs[name] = np.pad(kept, pad, constant_values=filler)
    outputs["num_dets"] = outputs["num_dets"] - 1


def swap_classes(outputs):
    first, second = outputs["labels"] == 0, outputs["labels"] == 1
    outputs["labels"] = np.where(first, 1, np.where(second, 0, outputs["labels"]))


def swap_axes(outputs):
    outputs["boxes"] = outputs["boxes"][..., [1, 0, 3, 2]]


def no_scale(outputs):
    outputs["boxes"] = outputs["boxes"] * 0.9


@pytest.mark.parametrize(
    "change", [add_to_scores(2e-4), drop, swap_classes, swap_axes, no_scale],
    ids=["scores", "lost", "classes", "axes", "scale"],
)  # fmt: skip
def test_changed_detections_are_caught(verify, make_backend, change):
    report = verify(make_backend(change=change))
    assert not report.passed
    assert "NOT verified" in "\n".join(report.lines())


def test_differences_within_the_limits_pass_and_are_shown(verify, make_backend):
    report = verify(make_backend(change=add_to_scores(5e-5)))
    assert report.passed
    assert all(4e-5 < item.max_score < 6e-5 for item in report.comparisons)


def test_a_lost_detection_is_counted_and_is_no_near_tie(verify, make_backend):
    report = verify(make_backend(change=drop))
    assert [item.unmatched for item in report.comparisons] == [1] * 4 + [3] * 2
    assert sum(item.near_ties for item in report.comparisons) == 0


def test_raw_output(verify, make_backend):
    report = verify(make_backend(raw=True))
    assert report.passed, report.failures()
    assert sum(item.detections for item in report.comparisons) > 200


def change_point(name, value):
    def change(outputs):
        outputs[name] = outputs[name].copy()
        outputs[name][-1, -1, 0] += value

    return change


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        (change_point("boxes", 5e-3), True),
        (change_point("boxes", 2e-2), False),
        (change_point("scores", 5e-5), True),
        (change_point("scores", 2e-4), False),
    ],
)
def test_each_point_of_raw_output_counts(verify, make_backend, change, passes):
    report = verify(make_backend(raw=True, change=change))
    assert report.passed == passes
    assert {item.unmatched for item in report.comparisons} == {0 if passes else 1}


def test_a_runtime_that_fails_is_a_failure_of_the_file(verify, make_backend):
    def fail(outputs):
        if len(outputs["num_dets"]) > 1:
            raise RuntimeError("Got invalid dimensions\nfor input: images")

    report = verify(make_backend(change=fail))
    (failure,) = report.failures()
    assert failure.startswith("Batch of 3 (")
    assert failure.endswith(" pixels) and 1 more: PyTorch failed: Got invalid dimensions.")


def test_wrong_metadata_fails_although_all_detections_match(verify, make_backend):
    backend = with_info(make_backend(), class_names=list("abcde"))
    report = verify(backend)
    (failure,) = report.failures()
    assert "'class_names'" in failure


def test_files_with_a_fixed_size_and_batch(confident, verify, make_backend):
    backend = with_info(make_backend(), batch=2, height=75, width=90)
    report = verify(backend)
    assert report.passed, report.failures()
    assert [arrays[0].shape for arrays in backend.calls] == [(2, 3, 75, 90)] * 2


def test_bfloat16_is_compared_by_the_share_that_matches(verify, make_backend):
    report = verify(make_backend(precision="bfloat16"))
    assert report.passed, report.failures()
    assert 0.85 < report.matched_share <= 1
    assert "match. Measure its AP: tood eval --model" in report.lines()[-1]
    raw = verify(make_backend(raw=True, precision="bfloat16"))
    assert raw.passed, raw.failures()
    assert abs(raw.matched_share - report.matched_share) < 0.05


@pytest.mark.parametrize("change", [swap_classes, no_scale])
def test_wrong_half_files_are_caught(verify, make_backend, change):
    report = verify(make_backend(precision="bfloat16", change=change))
    assert not report.passed
    assert "of the detections above" in report.failures()[-1]


def test_a_model_in_training_mode_or_half_precision_is_refused(confident, verify, make_backend):
    model, cfg = confident
    half = copy.deepcopy(model).bfloat16()
    with pytest.raises(ValueError, match="float32"):
        verify_export("model.onnx", half, cfg, open_backend=lambda _: make_backend())
    training = copy.deepcopy(model).train()
    with pytest.raises(ValueError, match="evaluation mode"):
        verify_export("model.onnx", training, cfg, open_backend=lambda _: make_backend())


def test_the_report_is_written_next_to_the_file(confident, make_backend, tmp_path):
    path = tmp_path / "model.torchscript"
    path.write_bytes(b"model")
    backend = make_backend()
    report = verify_export(path, *confident, open_backend=lambda _: backend)
    target = write_report(path, report)
    assert target == tmp_path / "model.torchscript.verify.json"
    assert sorted(tmp_path.iterdir()) == [path, target], "no temporary file is left"
    content = json.loads(target.read_text())
    assert content["passed"] is True and content["failures"] == []
    assert content["sha256"] == {
        path.name: "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
    }
    assert content["runtime"] == "PyTorch" and content["versions"]["torch"]
    assert content["thresholds"]["box_px"] == 0.01 and content["thresholds"]["score"] == 1e-4
    first = content["batches"][0]
    assert first["images"][0]["size"] == list(report.comparisons[0].batch.images[0].size)
    assert first["detections"] == report.comparisons[0].detections
    assert {"unmatched", "near_ties", "max_box", "max_score", "padded_size"} <= set(first)
