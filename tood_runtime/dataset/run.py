"""What one process of a run does: it takes shards that are missing, until none is.

Processes do not talk to each other. What is done is a file, and what is being done is a lock, which
the system drops when its process ends. So any number of them may start and end at any time.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ..output_files import OutputError
from .batch_detector import BatchDetector
from .claims import FINISHING, LISTING, Claims
from .files import remove_temporary_files
from .finishing import Summary, finish, remove_errors
from .listing import ListedImages
from .manifest import (
    Manifest,
    RunSettings,
    create_manifest,
    validate_images,
    validate_settings,
)
from .shards import ShardFiles

logger = logging.getLogger(__name__)

_LOCK_FILE = "claims.lock"
_POLL_SECONDS = 0.5
_LOG_SECONDS = 10.0

# A disk that damages files as often as this is no place for results.
_ATTEMPTS = 5


class DatasetRun:
    """A run in a folder, seen from one process.

    Args:
        folder: of the results; it exists.
        process: name of this process in the log.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, process: str = "") -> None:
        self._folder = folder
        self._process = f"{process}: " if process else ""
        self._claims = Claims(folder / _LOCK_FILE)
        self._candidates: deque[int] = deque()

    def close(self) -> None:
        """Let others have what this process has claimed."""
        self._claims.close()

    def prepare(
        self,
        settings: RunSettings,
        list_images: Callable[[], ListedImages],
        *,
        check_images: bool = True,
        retry_errors: bool = False,
    ) -> None:
        """Start the run, or join the one in the folder.

        Args:
            settings: of the run; of one that exists, they must be the same.
            list_images: lists the images of the sources. One process at a time calls it.
            check_images: whether it is called to compare the images with those of the run in the
                folder. One of several processes should.
            retry_errors: do the shards again that have images with errors.

        Raises:
            OutputError: the run in the folder has other settings or images.
            SourceError: the sources name no image.
        """
        with self._claims.held(LISTING, "lists the images"):
            manifest = Manifest.read(self._folder)
            if manifest is None:
                self._refuse_strange_shards()
                manifest = create_manifest(self._folder, settings, list_images())
            else:
                validate_settings(self._folder, manifest, settings)
                if check_images:
                    validate_images(self._folder, manifest, list_images())
        self._manifest = manifest
        self._shards = ShardFiles(self._folder, manifest)
        try:
            self._shards.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot write {self._shards.folder}: {error.strerror}.") from error
        if retry_errors:
            with self._claims.held(FINISHING, "checks the results"):
                count = remove_errors(self._shards)
            logger.info("%d images with errors are tried again, with their shards.", count)

    def _refuse_strange_shards(self) -> None:
        if any((self._folder / "shards").glob("shard-*")):
            raise OutputError(
                f"{self._folder} has shards, but their manifest is missing, so nobody knows how "
                "they were made. Choose another --output folder, or remove them."
            )

    def work(self, detector: BatchDetector) -> Summary:
        """Do shards until all are done, by this process or by others.

        Args:
            detector: the model with its options.

        Raises:
            OutputError: a file cannot be read or written.
        """
        progress = _Progress(self._process)
        for _ in range(_ATTEMPTS):
            while (shard := self._claim()) is not None:
                try:
                    self._run_shard(shard, detector, progress)
                finally:
                    self._claims.release(shard)
            with self._claims.held(FINISHING, "checks the results"):
                summary = Summary.read(self._folder, self._shards)
                if summary is None and len(self._shards.finished()) == self._num_shards:
                    summary = finish(self._folder, self._manifest, self._shards)
                    if self._claims.are_locks:  # without them others may be writing now
                        remove_temporary_files(self._folder)
                        remove_temporary_files(self._shards.folder)
            if summary is not None:
                return summary
        raise OutputError(
            f"Shards in {self._shards.folder} are damaged again and again after they were written. "
            "Choose a folder on another disk."
        )

    @property
    def _num_shards(self) -> int:
        return self._manifest.images.num_shards

    def _run_shard(self, shard: int, detector: BatchDetector, progress: "_Progress") -> None:
        records = self._manifest.images.read_shard(
            self._folder, shard, self._manifest.settings.working_directory
        )
        rows = detector.detect(records, on_image=lambda: progress.add(self._count_done))
        self._shards.write(shard, rows)

    def _count_done(self) -> str:
        return f"{len(self._shards.finished())} of {self._num_shards} shards done"

    def _claim(self) -> int | None:
        """Claim a shard that is missing, or return None if there is none any more.

        While other processes work on all that are missing, it waits: one of them may be killed.
        """
        waiting_since: float | None = None
        while True:
            if (shard := self._claim_candidate()) is not None:
                return shard
            done = self._shards.finished()
            if len(done) == self._num_shards:
                return None
            if waiting_since is None:
                waiting_since = time.monotonic()
            else:
                time.sleep(_POLL_SECONDS)
                if time.monotonic() - waiting_since > _LOG_SECONDS * 3:
                    waiting_since = time.monotonic()
                    logger.info(
                        "%sWaiting for other processes, which do the last %d shards.",
                        self._process,
                        self._num_shards - len(done),
                    )
            missing = [i for i in range(self._num_shards) if i not in done]
            if not self._claims.are_locks:  # keeps processes apart, most of the time
                start = int.from_bytes(os.urandom(4), "big") % len(missing)
                missing = missing[start:] + missing[:start]
            self._candidates.extend(missing)

    def _claim_candidate(self) -> int | None:
        """Claim the first of the candidates that can be; they are used up."""
        while self._candidates:
            shard = self._candidates.popleft()
            if self._shards.exists(shard) or not self._claims.try_claim(shard):
                continue
            if not self._shards.exists(shard):  # may have been finished in between
                return shard
            self._claims.release(shard)
        return None


def read_result(folder: Path) -> Summary | None:
    """What the finished run in a folder has found; None if it is not finished."""
    manifest = Manifest.read(folder)
    return None if manifest is None else Summary.read(folder, ShardFiles(folder, manifest))


class _Progress:
    """Logs the speed of this process, and how far all are."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._count = self._logged_count = 0
        self._start = self._logged = time.monotonic()

    def add(self, describe_all: Callable[[], str]) -> None:
        """Count an image."""
        self._count += 1
        now = time.monotonic()
        if now - self._logged >= _LOG_SECONDS:
            rate = (self._count - self._logged_count) / (now - self._logged)
            logger.info(
                "%s%.1f images/s, %d images in this process; %s.",
                self._process,
                rate,
                self._count,
                describe_all(),
            )
            self._logged, self._logged_count = now, self._count
