"""Images through a network in batches: read ahead, grouped by size, and returned in order."""

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Batches that may wait for images of their size, so that mixed sizes still fill batches.
_WAITING_BATCHES = 4


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int, threads: int = 2
) -> Iterator[Result]:
    """Apply a function in threads while the caller works on earlier results.

    Args:
        function: called once per item.
        items: taken in the caller's thread, at most ``ahead`` before they are due.
        ahead: number of items whose results may wait; at least 1.
        threads: number of calls at the same time.

    Returns:
        The results in order. What ``items`` or ``function`` raises comes after the results of the
        items before it.
    """
    source = iter(items)
    futures: deque[Future[Result]] = deque()
    failure: Exception | None = None
    with ThreadPoolExecutor(threads, thread_name_prefix="read-ahead") as pool:
        try:
            while True:
                while failure is None and len(futures) <= ahead:
                    try:
                        futures.append(pool.submit(function, next(source)))
                    except StopIteration:
                        break
                    except Exception as error:  # raised below, when it is due
                        failure = error
                if not futures:
                    break
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()
    if failure is not None:
        raise failure


def run_in_batches(
    run: Callable[[list[Item]], Sequence[Result]],
    items: Iterable[Item],
    *,
    key: Callable[[Item], Hashable],
    batch_size: int,
) -> Iterator[Result]:
    """Run items in batches of equal keys, and return their results in the order of the items.

    Where keys alternate, items wait for others of their key, at most four batches of them in all
    with the results that wait for their turn. Then the oldest goes with a smaller batch.

    Args:
        run: takes 1 to ``batch_size`` items of one key, and returns a result for each.
        items: taken when they are due. What they raise comes after the results of those before.
        key: of an item, such as its padded size.
        batch_size: at least 1.
    """
    most_waiting = 1 if batch_size == 1 else _WAITING_BATCHES * batch_size
    groups: dict[Hashable, list[tuple[int, Item]]] = {}
    results: dict[int, Result] = {}
    due = 0

    def run_group(group_key: Hashable) -> None:
        """Run the batch of a key."""
        indices, group = zip(*groups.pop(group_key), strict=True)
        results.update(zip(indices, run(list(group)), strict=True))

    def oldest() -> Hashable:
        """The key of the item that waits longest."""
        return min(groups, key=lambda group_key: groups[group_key][0][0])

    def due_results() -> Iterator[Result]:
        """The results whose turn it is."""
        nonlocal due
        while due in results:
            yield results.pop(due)
            due += 1

    source = iter(items)
    failure: Exception | None = None
    for index in itertools.count():
        try:
            item = next(source)
        except StopIteration:
            break
        except Exception as error:  # raised below, after the results of the items before it
            failure = error
            break
        group_key = key(item)
        groups.setdefault(group_key, []).append((index, item))
        del item  # only its group holds it, as long as it waits
        if len(groups[group_key]) == batch_size:
            run_group(group_key)
        elif index + 1 - due >= most_waiting:
            run_group(oldest())
        yield from due_results()
    while groups:
        run_group(oldest())
        yield from due_results()
    if failure is not None:
        raise failure


def read_ahead(items: Iterable[Item], *, ahead: int = 2) -> Iterator[Item]:
    """Take items in a thread while the caller works on earlier ones.

    Args:
        items: taken in one thread, in order.
        ahead: number of items that may wait; at least 1.

    Returns:
        The items. What ``items`` raises comes after the items before it.
    """
    waiting: queue.Queue[tuple[Item | None, BaseException | None, bool]] = queue.Queue(ahead)
    stopped = threading.Event()

    def put(entry: tuple[Item | None, BaseException | None, bool]) -> None:
        while not stopped.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return
            except queue.Full:
                pass

    def read() -> None:
        source = iter(items)
        try:
            for item in source:
                put((item, None, False))
                if stopped.is_set():
                    break
            put((None, None, True))
        except BaseException as error:  # raised in the caller's thread
            put((None, error, True))
        finally:
            if isinstance(source, Generator):
                source.close()

    threading.Thread(target=read, name="read-ahead", daemon=True).start()
    try:
        while True:
            item, error, is_last = waiting.get()
            if error is not None:
                raise error
            if is_last:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()


class Worker(Generic[Item]):
    """Applies a function to items in a thread, in order, while the caller makes more of them.

    Use it in a ``with`` statement. Its end waits for the items that are left. When the function
    raises, the error is raised in the caller at its next item or at the end, and items that are
    left are dropped.

    Args:
        function: called once per item.
        ahead: number of items that may wait; :meth:`put` waits for a place.
    """

    def __init__(self, function: Callable[[Item], object], *, ahead: int = 8) -> None:
        self._function = function
        self._waiting: queue.Queue[Item | None] = queue.Queue(ahead)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Add an item."""
        self._raise()
        self._waiting.put(item)

    def __enter__(self) -> "Worker[Item]":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._waiting.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._error is None:
                try:
                    self._function(item)
                except BaseException as error:  # raised in the caller's thread
                    self._error = error
