"""Reads what W&B writes offline."""

import json
import time
from pathlib import Path
from typing import Any

_BLOCK, _HEADER = 32 * 1024, 7


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """For each offline run its id, config, tags, the rows of its history, and its exit code.

    W&B's own process may write the last records after a run has finished.
    """
    files = sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    end = time.monotonic() + 20
    while True:
        runs = [_read_run(path) for path in files]
        if all(run["exit"] is not None for run in runs) or time.monotonic() > end:
            return runs
        time.sleep(0.05)


def _read_run(path: Path) -> dict[str, Any]:
    from wandb.proto import wandb_internal_pb2

    run: dict[str, Any] = {"history": [], "exit": None, "config": {}, "preempting": False}
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run |= {"id": record.run.run_id, "project": record.run.project}
            run |= {"name": record.run.display_name, "tags": list(record.run.tags)}
        elif kind == "config":
            for item in record.config.update:
                run["config"][item.key or item.nested_key[0]] = json.loads(item.value_json)
        elif kind == "history":
            row = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            run["history"].append(row)
        elif kind == "exit":
            run["exit"] = record.exit.exit_code
        elif kind == "preempting":
            run["preempting"] = True
    return run


def _records(data: bytes):
    """The records of a LevelDB log after W&B's header of seven bytes."""
    position, parts = 7, []
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]
        position += _HEADER
        parts.append(data[position : position + length])
        position += length
        if position > len(data):
            return  # it is being written
        if kind in (1, 4):  # a whole record, or the last part of one
            yield b"".join(parts)
            parts = []
