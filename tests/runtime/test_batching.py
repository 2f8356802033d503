"""Reading ahead, and batches of equal sizes whose results keep the order of the images."""

import itertools
import random
import threading
import time
import weakref

import pytest

from tood_runtime.batching import map_ahead, run_in_batches


class Recorder:
    """Runs batches of ``(number, key)``, and notes them."""

    def __init__(self):
        self.batches = []

    def __call__(self, batch):
        self.batches.append(batch)
        return [f"result {number}" for number, _ in batch]


def run(keys, batch_size):
    recorder = Recorder()
    items = list(enumerate(keys))
    results = run_in_batches(recorder, items, key=lambda item: item[1], batch_size=batch_size)
    return list(results), recorder.batches


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("keys", ["", "a", "aaaaaaa", "abababab", "aab", "abcdefghijkl", "baaaaaa"])
def test_order_is_kept_and_batches_have_one_key(keys, batch_size):
    results, batches = run(keys, batch_size)
    assert results == [f"result {i}" for i in range(len(keys))]
    for batch in batches:
        assert len({key for _, key in batch}) == 1 and len(batch) <= batch_size
        numbers = [number for number, _ in batch]
        assert numbers == sorted(numbers)


def test_random_keys():
    generator = random.Random(0)
    for _ in range(200):
        keys = generator.choices("abcd", weights=[8, 4, 2, 1], k=generator.randint(0, 40))
        batch_size = generator.randint(1, 5)
        results, batches = run(keys, batch_size)
        assert results == [f"result {i}" for i in range(len(keys))]
        assert sum(map(len, batches)) == len(keys)


def test_alternating_keys_fill_batches():
    _, batches = run("ab" * 8, 4)
    assert [len(batch) for batch in batches] == [4, 4, 4, 4]


@pytest.mark.parametrize("keys", ["a" * 50, "ab" * 25, "b" + "a" * 49])
def test_few_items_wait(keys):
    """Items that were taken, and neither returned nor about to be, are at most four batches."""
    taken = itertools.count()
    last = 0

    def items():
        nonlocal last
        for key in keys:
            last = next(taken)
            yield last, key

    results = run_in_batches(Recorder(), items(), key=lambda item: item[1], batch_size=2)
    for due, _ in enumerate(results):
        assert last + 1 - due <= 8


def test_a_single_item_is_never_kept_waiting_without_batches():
    source = iter([(0, "a"), (1, "b")])
    results = run_in_batches(Recorder(), source, key=lambda item: item[1], batch_size=1)
    assert next(results) == "result 0"
    assert next(source) == (1, "b")


def test_map_ahead_keeps_the_order():
    def work(number):
        time.sleep(0.001 * (number % 3))
        return number * number

    assert list(map_ahead(work, range(30), ahead=4, threads=3)) == [n * n for n in range(30)]
    assert list(map_ahead(work, [], ahead=4)) == []


def test_map_ahead_works_while_the_caller_does():
    started = [threading.Event() for _ in range(4)]

    def work(number):
        started[number].set()
        return number

    results = map_ahead(work, range(4), ahead=2, threads=1)
    assert next(results) == 0
    assert started[1].wait(10) and started[2].wait(10) and not started[3].is_set()
    assert list(results) == [1, 2, 3]


def test_errors_come_after_the_results_before_them():
    def work(number):
        if number == 2:
            raise ValueError("two")
        return number

    results = map_ahead(work, range(5), ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)

    def items():
        yield from (0, 1)
        raise OSError("the camera is gone")

    results = map_ahead(work, items(), ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="camera"):
        next(results)


def test_threads_end_with_the_generator():
    before = threading.active_count()
    results = map_ahead(abs, itertools.count(), ahead=3)
    assert next(results) == 0
    results.close()
    assert threading.active_count() == before


def test_items_are_released_when_their_batch_is_done():
    class Item:
        pass

    references = []

    def make():
        item = Item()
        references.append(weakref.ref(item))
        return item

    def items():
        for _ in range(6):
            yield make()

    results = run_in_batches(len_of_each, items(), key=type, batch_size=3)
    next(results)
    assert [reference() for reference in references] == [None] * 3
    next(results)
    assert [reference() for reference in references] == [None] * 3


def len_of_each(batch):
    return [len(batch)] * len(batch)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_errors_of_the_items_come_after_the_results(batch_size):
    def items():
        yield from enumerate("aba")
        raise OSError("gone")

    results = run_in_batches(Recorder(), items(), key=lambda item: item[1], batch_size=batch_size)
    assert [next(results) for _ in range(3)] == ["result 0", "result 1", "result 2"]
    with pytest.raises(OSError, match="gone"):
        next(results)
