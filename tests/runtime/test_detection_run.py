"""A whole run: every kind of input, all outputs, and whatever goes wrong on the way."""

import threading
import time

import pytest
from PIL import Image

from tests.runtime.sources.video_files import write_video
from tests.runtime.test_image_detector import FakeDetector, image
from tood_runtime.detection_run import DetectionRun, RunSummary
from tood_runtime.image_io import ImageReadError
from tood_runtime.image_writing import ImageWriteError
from tood_runtime.output_files import OutputError
from tood_runtime.outputs import Output
from tood_runtime.sources import collect_inputs


class Recorder(Output):
    """Remembers what it gets."""

    def __init__(self, needs_pixels=True, failure=None, delay=0.0):
        self.needs_pixels, self.failure, self.delay = needs_pixels, failure, delay
        self.results, self.is_open, self.threads = [], None, set()

    def open(self, detector):
        self.is_open = True

    def add(self, result):
        time.sleep(self.delay)
        self.threads.add(threading.current_thread())
        if self.failure is not None:
            raise self.failure
        self.results.append(result)

    def close(self):
        assert self.is_open
        self.is_open = False


@pytest.fixture
def inputs(tmp_path):
    pytest.importorskip("av")
    for name, value in (("a.png", 10), ("c.png", 20)):
        Image.fromarray(image(value=value)).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"no image")
    write_video(tmp_path / "clip.mp4", 4)
    names = ("a.png", "b.png", "clip.mp4", "c.png")
    return collect_inputs([tmp_path / name for name in names])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_everything_in_order(inputs, batch_size):
    output, steps = Recorder(), []
    run = DetectionRun(FakeDetector(), inputs, [output], batch_size=batch_size)
    run.run(lambda: steps.append(1))
    assert [result.index for result in output.results] == [0, 2, 2, 2, 2, 3]
    assert [result.found.frame for result in output.results] == [None, 0, 1, 2, 3, None]
    assert [result.image_id for result in output.results] == [1, 2, 3, 4, 5, 6]
    assert [result.rate is None for result in output.results] == [True] + [False] * 4 + [True]
    values = [int(result.pixels[0, 0, 0]) for result in output.results]
    assert values[0] == 10 and values[-1] == 20
    assert len(steps) == 7 and not output.is_open
    summary = run.summary
    assert (summary.num_images, summary.num_unreadable, summary.num_problems) == (6, 1, 1)
    assert "b.png" in summary.problems[0] and summary.counts["car"] == 12
    assert output.threads and threading.main_thread() not in output.threads


def test_pixels_are_kept_only_where_they_are_needed(inputs):
    output = Recorder(needs_pixels=False)
    DetectionRun(FakeDetector(), inputs, [output]).run()
    assert all(result.pixels is None for result in output.results)


def test_image_ids_of_numbered_files(tmp_path):
    for name in ("000139.png", "7.png"):
        Image.fromarray(image()).save(tmp_path / name)
    output = Recorder()
    DetectionRun(FakeDetector(), collect_inputs([tmp_path]), [output]).run()
    assert [result.image_id for result in output.results] == [139, 7]


def test_a_main_thread_output(inputs):
    output = Recorder()
    output.in_main_thread = True
    DetectionRun(FakeDetector(), inputs, [output]).run()
    assert output.threads == {threading.main_thread()}


def test_what_cannot_be_written_is_counted(inputs):
    failing, fine = Recorder(failure=ImageWriteError("no place")), Recorder()
    run = DetectionRun(FakeDetector(), inputs, [failing, fine])
    run.run()
    assert len(fine.results) == 6 and run.summary.num_problems == 7


def test_an_output_that_cannot_go_on_ends_the_run(inputs):
    failing, fine = Recorder(failure=OutputError("disk full")), Recorder()
    run = DetectionRun(FakeDetector(), inputs, [fine, failing])
    with pytest.raises(OutputError, match="disk full"):
        run.run()
    assert failing.is_open is fine.is_open is False


def test_whatever_ends_the_run_completes_the_outputs(inputs):
    class Stopping(FakeDetector):
        def _run(self, batch, settings):
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super()._run(batch, settings)

    output = Recorder(delay=0.02)
    run = DetectionRun(Stopping(), inputs, [output])
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert len(output.results) == 2 and output.is_open is False


def test_reading_and_writing_overlap_with_the_network(tmp_path):
    """Three parts of 20 ms each take little more than one of them."""
    for i in range(12):
        Image.fromarray(image()).save(tmp_path / f"{i}.png")

    class Slow(FakeDetector):
        def _run(self, batch, settings):
            time.sleep(0.02)
            return super()._run(batch, settings)

        def _resize(self, pixels):
            time.sleep(0.02)
            return pixels

    output = Recorder(delay=0.02)
    run = DetectionRun(Slow(), collect_inputs([tmp_path]), [output])
    start = time.perf_counter()
    run.run()
    assert len(output.results) == 12
    assert time.perf_counter() - start < 0.75 * 12 * 0.06


def test_the_objects_of_a_video_are_numbered(inputs):
    pytest.importorskip("trackers")
    output = Recorder()
    run = DetectionRun(FakeDetector(("car",)), inputs, [output], track=True)
    run.run()
    numbers = [result.found.tracker_id for result in output.results]
    assert numbers[0] is numbers[-1] is None
    assert len({int(found[0]) for found in numbers[2:5]}) == 1 and numbers[4][0] >= 0
    assert output.results[3].found.to_supervision().tracker_id[0] == numbers[3][0]


def test_the_summary(caplog):
    caplog.set_level("INFO")
    summary = RunSummary(num_images=4, num_unreadable=60, seconds=2)
    summary.counts.update(["car", "car", "dog"])
    for number in range(60):
        summary.add_problem(ImageReadError(f"problem {number}"))
    summary.log(0.3)
    assert caplog.messages[49:] == [
        "problem 49",
        "... and 10 more problems",
        "3 objects in 4 images (2 car, 1 dog), 2.0 images/s",
        "60 of 64 images skipped.",
    ]
    caplog.clear()
    RunSummary().log(0.3)
    assert caplog.messages == ["0 objects in 0 images, 0.0 images/s"]


def test_a_live_source_does_not_fall_behind(monkeypatch, tmp_path):
    """Frames every millisecond, and a network that takes 20: most are skipped."""
    from tood_runtime.prediction import SourceImage
    from tood_runtime.sources import VideoInput, items

    def camera(index):
        for number in range(300):
            time.sleep(0.001)
            yield SourceImage(image(), f"camera{index}", number, number / 1000)

    class Slow(FakeDetector):
        def _run(self, batch, settings):
            time.sleep(0.02)
            return super()._run(batch, settings)

    monkeypatch.setattr(items, "read_camera", camera)
    output = Recorder()
    DetectionRun(Slow(), [VideoInput("0")], [output]).run()
    frames = [result.found.frame for result in output.results]
    assert frames == sorted(frames) and frames[-1] == 299 and 5 < len(frames) < 100
