import dataclasses

import pytest

from tests.export.verify.test_comparing import BATCH
from tood.export.verify.comparing import BatchComparison
from tood.export.verify.images import VerificationBatch
from tood.export.verify.matching import Limits
from tood.export.verify.report import VerificationReport

SINGLE = VerificationBatch(BATCH.images[:1], BATCH.padded_size)


@pytest.fixture
def make_report(make_backend, tmp_path):
    def build(*comparisons, precision="float32", problems=()):
        info = dataclasses.replace(make_backend().info, precision=precision)
        return VerificationReport(
            tmp_path / "model.onnx", info, "Runtime 1.0", {"torch": "2.8"}, Limits(),
            0.3 if precision != "float32" else None, list(comparisons), list(problems),
        )  # fmt: skip

    return build


def test_the_verdict_of_a_right_file(make_report, tmp_path):
    report = make_report(
        BatchComparison(SINGLE, 30, max_box=4e-4, max_score=8e-8), BatchComparison(BATCH, 50)
    )
    assert report.passed and report.failures() == []
    assert report.lines() == [
        "| batch   | images           | padded to   | detections   | unmatched   | near ties   "
        "| box (px)   | score   |",
        "|---------|------------------|-------------|--------------|-------------|-------------"
        "|------------|---------|",
        "| 1       | 200x200          | 200x200     | 30           | 0           | 0           "
        "| 4.0e-04    | 8.0e-08 |",
        "| 2       | 200x200, 200x200 | 200x200     | 50           | 0           | 0           "
        "| 0.0e+00    | 0.0e+00 |",
        f"{tmp_path / 'model.onnx'} is verified with Runtime 1.0: all 80 detections match, with 0 "
        "near ties.",
    ]


def test_the_verdict_of_a_wrong_file(make_report):
    report = make_report(
        BatchComparison(SINGLE, 30, unmatched=2, max_box=0.5, max_score=1e-7),
        BatchComparison(BATCH, problems=["Runtime 1.0 failed: out of memory."]),
        problems=["The metadata is wrong."],
    )
    assert not report.passed
    assert report.failures() == [
        "The metadata is wrong.",
        "Batch of 2 (200x200, 200x200 pixels): Runtime 1.0 failed: out of memory.",
        "2 detections of model and file differ by more than 0.01 px or 0.0001 in score; the "
        "largest differences are 5.0e-01 px and 1.0e-07.",
    ]
    lines = report.lines()
    assert lines[-4].endswith("model.onnx is NOT verified with Runtime 1.0:")
    assert lines[-3] == "- The metadata is wrong."
    assert report.to_dict()["passed"] is False


@pytest.mark.parametrize(("count", "passes"), [(0, False), (19, False), (20, True)])
def test_few_detections_are_no_evidence(make_report, count, passes):
    report = make_report(BatchComparison(SINGLE, count))
    assert report.passed == passes
    if not passes:
        (failure,) = report.failures()
        assert failure.startswith(f"The model has only {count} detections")
        assert "--images" in failure and "SCORE_THRESH_TEST" in failure


def test_a_file_that_was_never_compared_is_not_verified(make_report):
    assert not make_report().passed
    failing = [BatchComparison(SINGLE, problems=["failed."])]
    assert make_report(*failing).failures() == ["Batch of 1 (200x200 pixels): failed."]


@pytest.mark.parametrize(
    ("detections", "ties", "images", "passes"),
    [(100, 1, 1, True), (100, 7, 1, True), (100, 2, 2, False), (3000, 3, 2, True),
     (3000, 4, 3, False)],
)  # fmt: skip
def test_near_ties_may_be_a_thousandth_of_the_detections_or_in_one_image(
    make_report, detections, ties, images, passes
):
    report = make_report(
        BatchComparison(SINGLE, detections, near_ties=ties, tied_images=images),
        BatchComparison(BATCH, detections),
    )
    assert report.passed == passes
    if not passes:
        assert (
            f"{ties} of {detections} detections in batches of 1, in {images} images, are near ties"
            in report.failures()[0]
        )


def test_the_limit_of_near_ties_is_that_of_batches_of_one_size(make_report):
    """An image with a near tie is in batches of each size."""
    tied = {"detections": 100, "near_ties": 1, "tied_images": 1}
    assert make_report(BatchComparison(SINGLE, **tied), BatchComparison(BATCH, **tied)).passed


@pytest.mark.parametrize(
    ("precision", "matched", "passes"),
    [("float16", 90, True), ("float16", 89, False), ("int8", 75, True), ("int8", 74, False)],
)
def test_files_with_smaller_numbers_need_a_share_of_matches(
    make_report, precision, matched, passes
):
    item = BatchComparison(SINGLE, 50, confident=100, confident_matched=matched, max_box=3.0)
    report = make_report(item, precision=precision)
    assert report.passed == passes
    assert report.to_dict()["matched_share"] == matched / 100
    verdict = report.lines()[-1]
    assert f"{matched}.0% of the detections above 0.30 match" in verdict
