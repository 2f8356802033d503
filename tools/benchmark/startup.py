"""Time from the start of a process to the first detection with an exported file.

    python -m tools.benchmark.startup model.onnx street.jpg [--runtime openvino] [--rounds 7]

Two programs take turns, each in new processes: one imports the runtime and loads the file, and the
other detects objects with ``tood_runtime``. What the second takes longer, without the time of the
network itself, is this project's. Needs no PyTorch.
"""

import argparse
import statistics
import subprocess
import sys
import time

# Both print when they are done, their CPU seconds, and the wall-clock seconds of the network.
_LOAD = {
    "onnxruntime": """
import sys, time, numpy, onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(time.time(), time.process_time(), 0)
""",
    "openvino": """
import sys, time, numpy, openvino
core = openvino.Core()
settings = {"INFERENCE_PRECISION_HINT": "f32"}
core.compile_model(core.read_model(sys.argv[1]), "CPU", settings)
print(time.time(), time.process_time(), 0)
""",
}

_DETECT = """
import sys, time
from tood_runtime.detector import RuntimeDetector
detector = RuntimeDetector(sys.argv[1], runtime=sys.argv[3])
run, wall, cpu = detector.backend.run, 0.0, 0.0
def timed(*arrays):
    global wall, cpu
    start, cpu_start = time.perf_counter(), time.process_time()
    outputs = run(*arrays)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    return outputs
detector.backend.run = timed
detector(sys.argv[2], score_threshold=max(0.3, detector.lowest_threshold))
print(time.time(), time.process_time() - cpu, wall)
"""


def measure(code: str, arguments: list[str]) -> tuple[float, float, float]:
    """Run a program.

    Returns:
        Seconds until it was done and its CPU seconds, both without the network, and the seconds of
        the network.
    """
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    end, cpu, network = map(float, done.stdout.split())
    return end - start - network, cpu, network


def main() -> None:
    """Print medians in seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--runtime", choices=tuple(_LOAD), default="onnxruntime")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    arguments = [args.model, args.image, args.runtime]
    loads, detects = [], []
    for _ in range(args.rounds):
        loads.append(measure(_LOAD[args.runtime], arguments))
        detects.append(measure(_DETECT, arguments))
    rows = {
        f"{args.runtime}: import it and load the file": loads,
        "tood_runtime: until the first detection, without the network": detects,
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


if __name__ == "__main__":
    main()
