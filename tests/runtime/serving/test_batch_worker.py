"""What shares a batch, and that every image gets its own result."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from tests.runtime.serving.fake_detector import FakeDetector, image
from tood_runtime.serving.batch_worker import BatchWorker


@pytest.fixture
def detector():
    return FakeDetector()


@pytest.fixture
def make_worker(detector):
    workers = []

    def make(**options):
        workers.append(BatchWorker(detector, **{"batch_size": 4, "batch_wait": 5.0, **options}))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


def submit(worker, detector, pixels, **options):
    return worker.submit(detector.prepare(pixels), detector.validate_options(**options))


def assert_result(future, pixels, **options):
    expected = FakeDetector()(pixels, **options)
    found = future.result(timeout=10).found
    np.testing.assert_array_equal(found.boxes, expected.xyxy)
    np.testing.assert_array_equal(found.scores, expected.confidence)
    np.testing.assert_array_equal(found.classes, expected.class_id)


def sizes(detector):
    return [len(images) for images, _ in detector.batches]


def test_a_full_batch_does_not_wait(make_worker, detector):
    worker = make_worker(batch_wait=60.0)
    pixels = [image(value) for value in (10, 20, 30, 40)]
    futures = [submit(worker, detector, one) for one in pixels]
    for future, one in zip(futures, pixels, strict=True):
        assert_result(future, one)
        assert future.result().batch_size == 4
    assert sizes(detector) == [4]


def test_an_image_alone_waits_for_a_while(make_worker, detector):
    worker = make_worker(batch_wait=0.05)
    result = submit(worker, detector, image()).result(timeout=10)
    assert 0.05 <= result.waited < 5 and result.batch_size == 1


def test_a_batch_has_images_of_one_padded_size(make_worker, detector):
    worker = make_worker(batch_wait=0.05)
    shapes = [(20, 30), (40, 30), (31, 17), (64, 32), (20, 30)]
    pixels = [image(50 + i, *shape) for i, shape in enumerate(shapes)]
    futures = [submit(worker, detector, one) for one in pixels]
    for future, one in zip(futures, pixels, strict=True):
        assert_result(future, one)
    assert sizes(detector) == [3, 2]  # the oldest first


def test_options_of_each_image(make_worker, detector):
    """Thresholds share a batch; what decides which detections compete does not."""
    worker = make_worker(batch_size=8, batch_wait=0.05)
    all_options = [
        {"score_threshold": 0.5},
        {"score_threshold": 0.2},
        {"score_threshold": 0.8},
        {"classes": ["person"], "score_threshold": 0.2},
        {"max_detections": 1, "score_threshold": 0.2},
        {"classes": ["person"], "score_threshold": 0.5},
    ]
    pixels = [image(10 * i) for i in range(len(all_options))]
    futures = [
        submit(worker, detector, one, **options)
        for one, options in zip(pixels, all_options, strict=True)
    ]
    for future, one, options in zip(futures, pixels, all_options, strict=True):
        assert_result(future, one, **options)
    assert sizes(detector) == [3, 2, 1]
    assert [settings.score_threshold for _, settings in detector.batches] == [0.2, 0.2, 0.2]


def test_a_failing_image_fails_alone(make_worker, detector, caplog):
    worker = make_worker()
    pixels = [image(10), image(6), image(20), image(30)]
    futures = [submit(worker, detector, one) for one in pixels]
    for future, one in zip(futures, pixels, strict=True):
        if one[0, 0, 0] == 6:
            with pytest.raises(RuntimeError, match="out of memory"):
                future.result(timeout=10)
        else:
            assert_result(future, one)
    assert sizes(detector) == [4, 1, 1, 1, 1]
    assert worker.is_healthy and "each goes alone" in caplog.text


def test_canceled_images_are_not_run(make_worker, detector):
    worker = make_worker(batch_wait=0.3)
    futures = [submit(worker, detector, image(value)) for value in (10, 20, 30)]
    assert futures[0].cancel() and futures[2].cancel()
    assert_result(futures[1], image(20))
    assert sizes(detector) == [1]


def test_closing_finishes_what_waits(make_worker, detector):
    worker = make_worker(batch_wait=60.0)
    futures = [submit(worker, detector, image(value)) for value in range(10, 100, 10)]
    worker.close()
    assert all(future.done() for future in futures)
    for value, future in zip(range(10, 100, 10), futures, strict=True):
        assert_result(future, image(value))
    with pytest.raises(RuntimeError, match="closed"):
        submit(worker, detector, image())


def test_many_threads(make_worker, detector):
    counted = []
    worker = make_worker(batch_wait=0.001, on_batch=counted.append)
    generator = np.random.default_rng(0)
    heights = generator.integers(8, 100, 300)
    pixels = [image(i % 200 + 7, int(height), 30) for i, height in enumerate(heights)]
    barrier = threading.Barrier(4)

    def work(part):
        barrier.wait()
        return [(one, submit(worker, detector, one)) for one in part]

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(work, [pixels[i::4] for i in range(4)]))
    futures = [future for part in parts for _, future in part]
    assert not wait(futures, timeout=30).not_done
    for part in parts:
        for one, future in part:
            assert_result(future, one)
    assert sum(counted) == 300 and max(counted) <= 4
    assert len(worker) == 0
