"""With several processes, the main process reads for all."""

import multiprocessing

import numpy as np
import torch

from tests.helpers import unused_port
from tood.data import catalog, setup_datasets
from tood.data.registration import (
    load_dataset,
)
from tood.errors import DataError


def _set_up_in_a_process(rank, port, cfg, queue):
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    reads = []
    original = catalog.read_dataset
    catalog.read_dataset = lambda *args: reads.append(args) or original(*args)
    try:
        setup_datasets(cfg)
        datasets = [load_dataset(cfg.DATASETS[split][0]) for split in ("TRAIN", "TEST")]
        outcome = [(x.boxes, x.class_names, x.file_names) for x in datasets]
    except DataError as error:
        outcome = str(error)
    queue.put((rank, outcome, len(reads), cfg.MODEL.TOOD.NUM_CLASSES))
    torch.distributed.destroy_process_group()


def _set_up_in_two_processes(cfg):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    port = unused_port()
    processes = [
        context.Process(target=_set_up_in_a_process, args=(rank, port, cfg, queue))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    results = sorted((queue.get(timeout=60) for _ in processes), key=lambda result: result[0])
    for process in processes:
        process.join(30)
    return results


def test_the_main_process_reads_for_all(shapes_cfg):
    shapes_cfg.MODEL.TOOD.NUM_CLASSES = 80
    first, second = _set_up_in_two_processes(shapes_cfg)
    assert (first[2], second[2]) == (2, 0) and first[3] == second[3] == 5
    for mine, others in zip(first[1], second[1], strict=True):
        np.testing.assert_array_equal(mine[0], others[0])
        assert mine[1:] == others[1:]


def test_an_error_of_the_main_process_reaches_all(shapes_cfg, edited_json):
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = edited_json(lambda c: "broken")
    first, second = _set_up_in_two_processes(shapes_cfg)
    assert "not a JSON file" in first[1] and first[1] == second[1]
