"""Time from the start of a process to the first detection, and what it is made of.

    python -m tools.benchmark.startup TOOD-R50-1x street.jpg [--weights model.pth] [--rounds 7]
    python -m tools.benchmark.startup model.onnx street.jpg [--runtime openvino]

Two programs take turns, each in new processes. For a model of PyTorch, one imports PyTorch and the
parts of detectron2 that every model needs; the other detects objects with ``tood.Detector``. For an
exported file, one imports the runtime and loads the file, and the other detects with
``tood_runtime``, which needs no PyTorch. What the second takes longer, without the time of the
network itself, is this project's.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

from tood_runtime.model_files import is_model_file

# Each prints as JSON when it is done, its CPU seconds, the wall-clock seconds of the network's
# first run, and the wall-clock seconds of its parts.
_BASELINES = {
    "pytorch": """
import json, time, torch
import detectron2.checkpoint, detectron2.config, detectron2.modeling
print(json.dumps([time.time(), time.process_time(), 0, {}]))
""",
    "onnxruntime": """
import json, sys, time, numpy, onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(json.dumps([time.time(), time.process_time(), 0, {}]))
""",
    "openvino": """
import json, sys, time, numpy, openvino
core = openvino.Core()
settings = {"INFERENCE_PRECISION_HINT": "f32"}
core.compile_model(core.read_model(sys.argv[1]), "CPU", settings)
print(json.dumps([time.time(), time.process_time(), 0, {}]))
""",
}

# Replaces the method RUN of OBJECT by one that measures itself.
_TIMED = """
def timed(owner, name):
    run = getattr(owner, name)
    def measured(*arguments, **options):
        start, cpu_start = time.perf_counter(), time.process_time()
        outputs = run(*arguments, **options)
        network[:] = time.perf_counter() - start, time.process_time() - cpu_start
        return outputs
    setattr(owner, name, measured)
network = [0.0, 0.0]
"""

_DETECT_IN_PYTORCH = f"""
import json, sys, time
{_TIMED}
parts, since = {{}}, time.time()
def mark(name):
    global since
    parts[name], since = time.time() - since, time.time()
import torch
mark("import torch")
import detectron2.checkpoint, detectron2.config, detectron2.modeling
mark("import detectron2")
from tood import Detector
mark("import tood")
detector = Detector.from_pretrained(sys.argv[1], weights=sys.argv[4] or None, device="cpu")
mark("build the model and load its weights")
timed(detector.model, "inference")
detector(sys.argv[2])
mark("first detection")
parts["first detection"] -= network[0]
print(json.dumps([time.time(), time.process_time() - network[1], network[0], parts]))
"""

_DETECT_IN_RUNTIME = f"""
import json, sys, time
{_TIMED}
from tood_runtime.detector import RuntimeDetector
detector = RuntimeDetector(sys.argv[1], runtime=sys.argv[3])
timed(detector.backend, "run")
detector(sys.argv[2], score_threshold=max(0.3, detector.lowest_threshold))
print(json.dumps([time.time(), time.process_time() - network[1], network[0], {{}}]))
"""

Measurement = tuple[float, float, float, dict[str, float]]


def measure(code: str, arguments: list[str]) -> Measurement:
    """Run a program.

    Returns:
        Seconds until it was done and its CPU seconds, both without the network; the seconds of the
        network; the seconds of its parts.
    """
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    end, cpu, network, parts = json.loads(done.stdout.splitlines()[-1])
    return end - start - network, cpu, network, parts


def main() -> None:
    """Print medians in seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="a name, run folder or checkpoint; or an exported file")
    parser.add_argument("image")
    parser.add_argument("--weights", default="", help="instead of the model's; not of a file")
    parser.add_argument("--runtime", choices=("onnxruntime", "openvino"), default="onnxruntime")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    runtime = args.runtime if is_model_file(args.model) else "pytorch"
    program = _DETECT_IN_PYTORCH if runtime == "pytorch" else _DETECT_IN_RUNTIME
    arguments = [args.model, args.image, runtime, args.weights]
    loads, detects = [], []
    for _ in range(args.rounds):
        loads.append(measure(_BASELINES[runtime], arguments))
        detects.append(measure(program, arguments))
    report(runtime, loads, detects)


def report(runtime: str, loads: list[Measurement], detects: list[Measurement]) -> None:
    """Print the medians of both programs, of their differences and of the parts."""
    baseline, package = f"{runtime}: import it and load the file", "tood_runtime"
    if runtime == "pytorch":
        baseline, package = "import PyTorch and detectron2", "tood.Detector"
    rows = {
        baseline: loads,
        f"{package}: until the first detection, without the network": detects,
        "difference": [
            (mine[0] - own[0], mine[1] - own[1]) for mine, own in zip(detects, loads, strict=True)
        ],
    }
    print(" wall s    CPU s")
    for name, values in rows.items():
        wall, cpu = (statistics.median(value[i] for value in values) for i in (0, 1))
        print(f"{wall:7.3f}  {cpu:7.3f}  {name}")
    print(
        f"{statistics.median(value[2] for value in detects):7.3f}           the network's first run"
    )
    ratios = [
        (mine[0] + mine[2]) / (own[0] + mine[2]) for mine, own in zip(detects, loads, strict=True)
    ]
    print(
        f"{statistics.median(ratios):7.2f}x          with the network, of the first and the network"
    )
    for name in detects[0][3]:
        print(f"{statistics.median(value[3][name] for value in detects):7.3f}           {name}")


if __name__ == "__main__":
    main()
