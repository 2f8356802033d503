"""Requests per second and latency of ``python -m tood_runtime.serving`` on loopback.

    python -m tools.benchmark.serving model.onnx street.jpg [more images] [--clients 1 8 32]

The server is a process of its own; each client is a thread that keeps its connection and sends the
next request when it has an answer. Every answer is compared with that of the first request for the
same image, and counted as lost if there is none. ``RuntimeDetector.predict`` on the same images in
this process, before the server starts, shows what there is to reach. Needs no PyTorch.
"""

import argparse
import http.client
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from tood_runtime.detector import RuntimeDetector


def start_server(model: str, options: list[str]) -> tuple[subprocess.Popen[str], int]:
    """Start a server; returns its process and port when the model has run once."""
    command = [sys.executable, "-m", "tood_runtime.serving", model, "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r":(\d+)/ ", line)
    if found is None:
        sys.exit(line.strip() or "The server does not start.")
    port = int(found[1])
    while ask(http.client.HTTPConnection("127.0.0.1", port), "GET", "/healthz")[0] != 200:
        time.sleep(0.1)
    return process, port


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    """Send a request; returns status and body."""
    connection.request(method, path, body, {"Content-Type": "application/octet-stream"})
    response = connection.getresponse()
    return response.status, response.read()


def run_clients(
    port: int, files: list[bytes], expected: list[object], clients: int, seconds: float
) -> tuple[list[float], int, float]:
    """Send requests from several clients at once.

    Returns:
        Seconds of each request, the number of lost or wrong answers, and how long it all took.
    """
    latencies: list[float] = []
    wrong = 0
    lock = threading.Lock()
    end = time.perf_counter() + seconds

    def work(index: int) -> None:
        nonlocal wrong
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() < end:
            index = (index + 1) % len(files)
            start = time.perf_counter()
            try:
                status, body = ask(connection, "POST", "/detect", files[index])
                is_right = status == 200 and summary(body) == expected[index]
            except OSError:
                is_right = False
            with lock:
                latencies.append(time.perf_counter() - start)
                wrong += not is_right
        connection.close()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, wrong, time.perf_counter() - start


def summary(body: bytes) -> object:
    """What is the same in each answer for an image, whatever was in its batch."""
    content = json.loads(body)
    rows = [(one["class_id"], round(one["score"], 3)) for one in content["detections"]]
    return content["image"], sorted(rows)


def peak_memory(process: "subprocess.Popen[str]") -> int:
    """Megabytes that a process had at most; 0 where the system does not say."""
    status = Path(f"/proc/{process.pid}/status")
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.is_file() else None
    return int(found[1]) // 1000 if found else 0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 100])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--batch-size", default="4")
    parser.add_argument("--batch-wait", default="5")
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    detector = RuntimeDetector(args.model, threads=args.threads)
    paths = args.images * max(1, 64 // len(args.images))
    list(detector.predict(paths[:8]))
    start = time.perf_counter()
    number = len(list(detector.predict(paths, batch_size=int(args.batch_size))))
    print(f"RuntimeDetector.predict: {number / (time.perf_counter() - start):.1f} images/s\n")
    del detector
    options = ["--batch-size", args.batch_size, "--batch-wait", args.batch_wait]
    options += [] if args.threads is None else ["--threads", str(args.threads)]
    process, port = start_server(args.model, options)
    try:
        files = [Path(image).read_bytes() for image in args.images]
        connection = http.client.HTTPConnection("127.0.0.1", port)
        expected = [summary(ask(connection, "POST", "/detect", file)[1]) for file in files]
        print("| clients | requests/s | median ms | 95 % ms | wrong or lost | peak MB |")
        print("| --- | --- | --- | --- | --- | --- |")
        for clients in args.clients:
            latencies, wrong, total = run_clients(port, files, expected, clients, args.seconds)
            ordered = sorted(1000 * latency for latency in latencies)
            print(
                f"| {clients} | {len(ordered) / total:.1f} | {statistics.median(ordered):.0f} | "
                f"{ordered[int(0.95 * (len(ordered) - 1))]:.0f} | {wrong} of {len(ordered)} | "
                f"{peak_memory(process)} |"
            )
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
