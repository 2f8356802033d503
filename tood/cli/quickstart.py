"""``tood quickstart``: watch TOOD learn, in minutes on a CPU, without network, data or GPU.

Draws a dataset, trains, evaluates and detects. Training and detection are the same commands that a
user types.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

from tood_runtime.cli.parser import EXIT_OK
from tood_runtime.cli.signals import exit_on_signals
from tood_runtime.output_files import make_output_folder

from ..config import load_config
from ..data.synthetic import write_dataset
from ..engine import epochs_to_iters
from ..errors import TOODError

CONFIG = "quickstart/TOOD-R18-shapes"
NUM_DRAWN = 8

# --short: too short to learn much; CI runs it to see that everything works.
SHORT = ["SOLVER.MAX_ITER", "60", "SOLVER.STEPS", "(50,)", "TEST.EVAL_PERIOD", "30"]
SHORT_DATA = {"num_train": 80, "num_val": 16}


def main(args: argparse.Namespace) -> int:
    """Run the four steps.

    Args:
        args: the options of ``tood quickstart``.

    Raises:
        TOODError: a step failed; the message names its log.
    """
    output = make_output_folder(args.output).resolve()
    data = output / "data"

    print("1/4  drawing a dataset of synthetic shapes", flush=True)
    write_dataset(data, **(SHORT_DATA if args.short else {}))

    options = ["OUTPUT_DIR", str(output)]
    for split, name in (("TRAIN", "train"), ("TEST", "val")):
        options += [f"DATASETS.{split}_ANNOTATIONS", str(data / f"{name}.json")]
        options += [f"DATASETS.{split}_IMAGES", str(data / "images")]
    options += SHORT if args.short else []
    cfg = load_config(CONFIG, options)
    num_images = len(_image_records(data / "train.json"))
    switch = epochs_to_iters(cfg.MODEL.TOOD.WARMUP.EPOCHS, num_images, cfg.SOLVER.IMS_PER_BATCH)

    max_iter = cfg.SOLVER.MAX_ITER
    print(
        f"2/4  training for {max_iter} iterations; the assigner switches from ATSS to task "
        f"alignment learning after {switch}",
        flush=True,
    )
    started = time.monotonic()
    with exit_on_signals():
        train([CONFIG, "--num-gpus", "1", *options], output, max_iter)
        minutes = (time.monotonic() - started) / 60

        print("3/4  detecting objects in images of the test set", flush=True)
        records = _image_records(data / "val.json")[:NUM_DRAWN]
        files = [str(data / "images" / record["file_name"]) for record in records]
        detections = ["--output", str(output / "detections"), "--score-threshold", "0.4"]
        run(["detect", str(output), *files, *detections], output / "detect.log")

    print("4/4  plotting")
    rows = read_metrics(output / "metrics.json")
    plot(rows, switch, output / "training.png")
    ap = [row["bbox/AP"] for row in rows if "bbox/AP" in row][-1]
    print(report(ap, minutes, output))
    return EXIT_OK


def _image_records(file: Path) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["images"]
    return images


def run(
    arguments: Sequence[str], log: Path, while_running: Callable[[], None] = lambda: None
) -> None:
    """Run a ``tood`` command in a process of its own.

    Args:
        arguments: command and options.
        log: file for its output.
        while_running: called twice a second, and once at the end.

    Raises:
        TOODError: the command failed.
    """
    command = [sys.executable, "-m", "tood", *arguments]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(0.5)
                while_running()
        finally:  # also when the quickstart itself is stopped
            process.terminate()
            process.wait()
    while_running()
    if process.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        print("\n".join(lines[-15:]), file=sys.stderr)
        raise TOODError(
            f"This command failed: {shlex.join(command)}. Read its output in {log}, fix the cause, "
            "and run tood quickstart again."
        )


def train(arguments: Sequence[str], output: Path, max_iter: int) -> None:
    """Run ``tood train`` with a progress bar that follows its metrics.json."""
    metrics = output / "metrics.json"
    metrics.unlink(missing_ok=True)  # detectron2 appends to the rows of an earlier run
    # Without a terminal, the bar is a line now and then.
    interval = 0.2 if sys.stderr.isatty() else 20
    with tqdm(total=max_iter, unit="it", mininterval=interval) as bar:
        run(
            ["train", *arguments],
            output / "train.log",
            lambda: show_progress(bar, read_metrics(metrics)),
        )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the complete rows of metrics.json; the last row may be half written."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def show_progress(bar: tqdm, rows: list[dict[str, Any]]) -> None:
    """Move the bar to the last row: iteration, phase, loss, AP."""
    values = {key: value for row in rows for key, value in row.items()}
    if "total_loss" not in values:
        return
    bar.set_description("aligned" if values.get("phase_aligned") else "warm-up", refresh=False)
    shown = {"loss": f"{values['total_loss']:.2f}"}
    if "bbox/AP" in values:
        shown["AP"] = f"{values['bbox/AP']:.1f}"
    bar.set_postfix(shown, refresh=False)
    bar.update(min(values["iteration"] + 1, bar.total) - bar.n)


def plot(rows: list[dict[str, Any]], switch: int, target: Path) -> None:
    """Plot losses and AP over iterations, with the switch between the phases marked."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    losses, ap = figure.subplots(2, 1, sharex=True)
    for name, label in (("loss_cls", "classification"), ("loss_box_reg", "box regression")):
        points = [(row["iteration"], row[name]) for row in rows if name in row]
        losses.plot(*zip(*points, strict=True), label=label)
    losses.set(ylabel="loss", ylim=(0, None), title="TOOD-R18 on synthetic shapes")
    points = [(row["iteration"], row["bbox/AP"]) for row in rows if "bbox/AP" in row]
    ap.plot(*zip(*points, strict=True), marker="o", color="tab:green")
    ap.set(xlabel="iteration", ylabel="AP (0.50:0.95) on test images", ylim=(0, None))
    for axes in (losses, ap):
        axes.axvline(switch, color="black", linestyle="--", linewidth=1)
        axes.grid(alpha=0.3)
    losses.annotate(
        "ATSS → task alignment learning",
        (switch, 0.96),
        xycoords=("data", "axes fraction"),
        xytext=(6, 0),
        textcoords="offset points",
        va="top",
    )
    losses.legend(loc="upper right")
    figure.savefig(target, dpi=120)


def report(ap: float, minutes: float, output: Path) -> str:
    """What came out, where everything is, and what to try next."""
    tood = "tood" if shutil.which("tood") else f"{_shown(Path(sys.executable))} -m tood"
    folder = _shown(output)
    return f"""
AP = {ap:.1f}   ({minutes:.1f} minutes of training; AP 0.50:0.95 in percent)

report      {_shown(output / "report.html")}
detections  {_shown(output / "detections")}
plot        {_shown(output / "training.png")}
checkpoint  {_shown(output / "model_final.pth")}
metrics     {_shown(output / "metrics.json")}  (tensorboard --logdir {folder})

Try next:
  # detect objects in your own images with the model that was just trained
  {tood} detect {folder} *.jpg --output output/detections
  # train on your own data: COCO, YOLO, Pascal VOC or Open Images ({tood} train --help)
  {tood} train custom/TOOD-R50 --num-gpus 1 --output output/mine \\
      DATASETS.TRAIN_ANNOTATIONS train.json DATASETS.TRAIN_IMAGES images/ \\
      DATASETS.TEST_ANNOTATIONS val.json DATASETS.TEST_IMAGES images/
  # train the published model on COCO with 8 GPUs
  {tood} train TOOD-R50-1x --num-gpus 8"""


def _shown(path: Path) -> str:
    """A path as the user would type it."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)
