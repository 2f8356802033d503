"""Watch TOOD learn: make data, train, evaluate, draw. Minutes on a CPU, no network, no GPU.

``make quickstart`` runs this. It calls the same command lines that a user calls: the dataset
module, train_net.py and demo.py.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
from tqdm import tqdm

from tood.config.loading import load_config
from tood.engine import epochs_to_iters

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/quickstart/TOOD-R18-shapes.yaml"
NUM_DRAWN = 8

# For a quick look whether everything runs, as CI does: too short to learn much.
SHORT = ["SOLVER.MAX_ITER", "60", "SOLVER.STEPS", "(50,)", "TEST.EVAL_PERIOD", "30"]
SHORT_DATA = ["--num-train", "80", "--num-val", "16"]


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", default="output/quickstart", help="folder for all results")
    parser.add_argument("--short", action="store_true", help="a few iterations, to see it run")
    return parser.parse_args()


def run(command: list[str], log: Path) -> None:
    """Run one of the project's programs; where it fails, show the end of its output and stop."""
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        fail(command, log)


def fail(command: list[str], log: Path) -> None:
    """Stop with the command that failed and the end of its output."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines[-15:]), file=sys.stderr)
    sys.exit(f"\nthis failed: {shlex.join(command)}\nits whole output is in {log}")


def read_metrics(path: Path) -> list[dict]:
    """The rows of metrics.json written so far; a row that is being written is left for later."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def show_progress(bar: tqdm, rows: list[dict]) -> None:
    """Bring the bar to the last row: iteration, phase, loss, AP."""
    values = {key: value for row in rows for key, value in row.items()}
    if "total_loss" not in values:
        return
    bar.set_description("TAL" if values.get("phase_aligned") else "ATSS", refresh=False)
    shown = {"loss": f"{values['total_loss']:.2f}"}
    if "bbox/AP" in values:
        shown["AP"] = f"{values['bbox/AP']:.1f}"
    bar.set_postfix(shown, refresh=False)
    bar.update(min(values["iteration"] + 1, bar.total) - bar.n)


def train(command: list[str], output: Path, max_iter: int, log: Path) -> None:
    """Run train_net.py with a progress bar that follows its metrics.json."""
    metrics = output / "metrics.json"
    metrics.unlink(missing_ok=True)  # a run's rows are appended to the last one's
    with (
        log.open("w", encoding="utf-8") as file,
        # Without a terminal, a line now and then instead of a bar that is drawn anew.
        tqdm(total=max_iter, unit="it", mininterval=0.2 if sys.stderr.isatty() else 20) as bar,
    ):
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(0.5)
                show_progress(bar, read_metrics(metrics))
        finally:
            process.terminate()  # where the quickstart itself is stopped
        show_progress(bar, read_metrics(metrics))
    if process.returncode:
        fail(command, log)


def plot(rows: list[dict], switch: int, target: Path) -> None:
    """Losses and AP over iterations, with the switch of the phases marked."""
    figure, (losses, ap) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    for name, label in (("loss_cls", "classification"), ("loss_box_reg", "box regression")):
        points = [(row["iteration"], row[name]) for row in rows if name in row]
        losses.plot(*zip(*points, strict=True), label=label)
    losses.set(ylabel="loss", ylim=(0, None), title="TOOD-R18 on synthetic shapes")
    points = [(row["iteration"], row["bbox/AP"]) for row in rows if "bbox/AP" in row]
    ap.plot(*zip(*points, strict=True), marker="o", color="tab:green")
    ap.set(xlabel="iteration", ylabel="AP (0.50:0.95), unseen pictures", ylim=(0, None))
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
    plt.close(figure)


def shown(path: Path) -> str:
    """A path as the user would type it."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def report(ap: float, minutes: float, output: Path) -> None:
    """Say how it went, what lies where, and what to try next."""
    weights = output / "model_final.pth"
    print(f"\nAP = {ap:.1f}   ({minutes:.1f} minutes of training; AP 0.50:0.95 in percent)\n")
    print(f"pictures    {shown(output / 'pictures')}")
    print(f"plot        {shown(output / 'training.png')}")
    print(f"checkpoint  {shown(weights)}")
    print(f"numbers     {shown(output / 'metrics.json')}  (tensorboard --logdir {shown(output)})")
    python, config = shown(Path(sys.executable)), shown(output / "config.yaml")
    print("\nTry next:")
    print("  # detect in pictures of yours with the model that was just trained")
    print(
        f"  {python} demo/demo.py --config-file {config} --input *.jpg --output output/demo "
        f"--opts MODEL.WEIGHTS {shown(weights)}"
    )
    print("  # train on data of yours, K classes in COCO format (the numbers: README.md)")
    print(
        f"  {python} train_net.py --config-file configs/TOOD-R50-1x.yaml --num-gpus 1 "
        "MODEL.TOOD.NUM_CLASSES K DATASETS.TRAIN_ANNOTATIONS train.json DATASETS.TRAIN_IMAGES images/ "
        "DATASETS.TEST_ANNOTATIONS val.json DATASETS.TEST_IMAGES images/ SOLVER.REFERENCE_WORLD_SIZE 0 "
        "SOLVER.IMS_PER_BATCH 4 SOLVER.BASE_LR 0.0025 SOLVER.MAX_ITER 3000 "
        'SOLVER.STEPS "(2000, 2750)" TEST.EVAL_PERIOD 500 OUTPUT_DIR output/mine'
    )
    print("  # train the published model on COCO with 8 GPUs")
    print(f"  {python} train_net.py --config-file configs/TOOD-R50-1x.yaml --num-gpus 8")


def main() -> None:
    """Run the quickstart."""
    args = parse_args()
    output = Path(args.output).resolve()
    output.mkdir(parents=True, exist_ok=True)
    data, python = output / "data", sys.executable

    print("1/4  drawing a dataset of synthetic shapes", flush=True)
    command = [python, "-m", "tood.data.shapes", "--out", str(data)]
    run(command + (SHORT_DATA if args.short else []), output / "data.log")

    options = ["OUTPUT_DIR", str(output)]
    for split, name in (("TRAIN", "train"), ("TEST", "val")):
        options += [f"DATASETS.{split}_ANNOTATIONS", str(data / f"{name}.json")]
        options += [f"DATASETS.{split}_IMAGES", str(data / "images")]
    if args.short:
        options += SHORT
    cfg = load_config(str(ROOT / CONFIG), options)
    num_images = len(json.loads((data / "train.json").read_text(encoding="utf-8"))["images"])
    switch = epochs_to_iters(cfg.MODEL.TOOD.WARMUP.EPOCHS, num_images, cfg.SOLVER.IMS_PER_BATCH)

    max_iter = cfg.SOLVER.MAX_ITER
    print(
        f"2/4  training for {max_iter} iterations; the assigner switches from ATSS to task "
        f"alignment learning after {switch}",
        flush=True,
    )
    command = [python, "train_net.py", "--config-file", CONFIG, "--num-gpus", "1", *options]
    started = time.monotonic()
    train(command, output, max_iter, output / "train.log")
    minutes = (time.monotonic() - started) / 60

    print("3/4  drawing detections on pictures that it has not seen", flush=True)
    images = json.loads((data / "val.json").read_text(encoding="utf-8"))["images"][:NUM_DRAWN]
    files = [str(data / "images" / image["file_name"]) for image in images]
    weights = output / "model_final.pth"
    command = [python, "demo/demo.py", "--config-file", str(output / "config.yaml")]
    command += ["--input", *files, "--output", str(output / "pictures")]
    command += ["--confidence-threshold", "0.4", "--opts", "MODEL.WEIGHTS", str(weights)]
    run(command, output / "demo.log")

    print("4/4  plotting")
    rows = read_metrics(output / "metrics.json")
    plot(rows, switch, output / "training.png")
    ap = [row["bbox/AP"] for row in rows if "bbox/AP" in row][-1]
    report(ap, minutes, output)


if __name__ == "__main__":
    main()
