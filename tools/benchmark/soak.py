r"""What a long training costs besides its steps: memory that grows, and the agreement of processes.

python -m tools.benchmark.soak memory --iterations 2000
python -m tools.benchmark.soak agreement

``memory`` trains a small model on the synthetic shapes and prints the resident memory of the
process and its workers every 100 iterations. ``agreement`` times what every iteration adds in two
processes: the sums that let them stop, save and count unreadable images together.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import torch
import torch.multiprocessing as mp
from detectron2.engine import HookBase

from tood.config.loading import load_config
from tood.data import setup_datasets
from tood.data.synthetic import write_dataset
from tood.engine import Trainer
from tood.engine.step_sums import StepSums
from tools.processes import family_mib

# Until then, allocators and caches fill up.
WARMUP_ITERATIONS = 200
# As many values as CheckpointHook adds up.
NUM_VALUES = 6


class MemoryHook(HookBase):
    """Prints the resident memory every 100 iterations."""

    def __init__(self) -> None:
        self.samples: dict[int, float] = {}

    def after_step(self) -> None:
        """Take a sample."""
        done = self.trainer.iter + 1
        if done % 100 == 0:
            self.samples[done] = family_mib(os.getpid())
            print(f"{done} iterations: {self.samples[done]:.1f} MiB", flush=True)


def measure_memory(iterations: int, num_workers: int) -> float:
    """Train, and return by which fraction the memory grew after the warm-up."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_dataset(Path(folder) / "data", num_train=64, num_val=4, size=64)
        pairs = {
            "DATASETS.TRAIN_ANNOTATIONS": data / "train.json",
            "DATASETS.TRAIN_IMAGES": data / "images",
            "DATASETS.TEST": "()",
            "DATALOADER.NUM_WORKERS": num_workers,
            "INPUT.MIN_SIZE_TRAIN": "(64,)",
            "MODEL.WEIGHTS": "",
            "MODEL.FPN.OUT_CHANNELS": 64,
            "MODEL.TOOD.HEAD.CHANNELS": 64,
            "MODEL.TOOD.HEAD.NUM_CONVS": 1,
            "SOLVER.IMS_PER_BATCH": 2,
            "SOLVER.BASE_LR": 0.001,
            "SOLVER.MAX_ITER": iterations,
            "SOLVER.STEPS": "()",
            "SOLVER.CHECKPOINT_PERIOD": 500,
            "SEED": 1,
            "OUTPUT_DIR": Path(folder) / "run",
        }
        words = [str(word) for pair in pairs.items() for word in pair]
        cfg = load_config("quickstart/TOOD-R18-shapes", words)
        setup_datasets(cfg, ("TRAIN",))
        trainer = Trainer(cfg)
        hook = MemoryHook()
        trainer.register_hooks([hook])
        trainer.train()
    start = hook.samples[WARMUP_ITERATIONS]
    return (max(hook.samples.values()) - start) / start


def time_agreement(rank: int, init_file: str, calls: int) -> None:
    """Time the sums of one of two processes, and print the median in microseconds."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{init_file}", rank=rank, world_size=2
    )
    sums = StepSums(NUM_VALUES)
    times = []
    for _ in range(calls):
        time.sleep(0.001)  # a step, in which the sums of the last one arrive
        start = time.perf_counter()
        sums.exchange([0] * NUM_VALUES)
        times.append(time.perf_counter() - start)
    sums.close()
    if rank == 0:
        times.sort()
        print(
            f"median {times[calls // 2] * 1e6:.0f} us, 99 % {times[calls * 99 // 100] * 1e6:.0f} us"
        )
    torch.distributed.destroy_process_group()


def main(argv: list[str] | None = None) -> int:
    """Run the program; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("memory", "agreement"))
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2, help="of the data loader (2)")
    args = parser.parse_args(argv)
    if args.what == "memory":
        print(f"growth {measure_memory(args.iterations, args.workers):.2%}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(time_agreement, (f"{folder}/init", args.iterations), nprocs=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
