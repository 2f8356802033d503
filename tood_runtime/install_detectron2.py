"""Install detectron2, which is not on the package index.

Three ways, tried in this order; the script says which one it took and how to get another:

1. keep:    a detectron2 that already imports is left alone.
2. source:  the official repository at the commit ``SOURCE_COMMIT``, compiled on this machine.
3. index:   the package index holds detectron2's own Python code of June 2021 inside a wheel for
            Windows, ``geoai-detectron2`` 0.4. Its hash is checked, the compiled library is dropped,
            the code gets the few mends that today's NumPy, Pillow and torch ask for, and the
            result is written as the pure-Python wheel ``detectron2`` 0.4+pure, which pip installs
            like any.

Usage: ``python tools/install_detectron2.py [--way auto|source|index]``, with the Python that is to
have detectron2. torch has to be there already.
"""

import argparse
import base64
import hashlib
import re
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

SOURCE_COMMIT = "02b5c4e295e990042a714712c21dc79b731e8833"
SOURCE_URL = f"https://github.com/facebookresearch/detectron2/archive/{SOURCE_COMMIT}.zip"

INDEX_PACKAGE = "geoai-detectron2==0.4"
INDEX_TARGET = (
    *("--platform", "win_amd64", "--python-version", "37"),
    *("--implementation", "cp", "--abi", "cp37m"),
)
INDEX_SHA256 = "6eb280a50dbc3536caa9dc73229dfbbe0bda4fea6692c17803584dda680fad8d"

PURE_VERSION = "0.4+pure"
REQUIREMENTS = (
    "termcolor>=1.1",
    "Pillow>=7.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "matplotlib",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5,<0.1.6",
    "iopath>=0.1.7,<0.1.11",
    "pycocotools>=2.0.2",
    "omegaconf>=2.1,<2.4",
    "hydra-core>=1.1",
)

# The code as it was in 2021 uses names that Pillow and NumPy have since removed, and a default
# that torch is about to change.
MENDS = (
    (re.compile(rb"\bImage\.LINEAR\b"), rb"Image.BILINEAR"),
    (re.compile(rb"\bnp\.(bool|int|float)\b"), rb"\1"),
    (re.compile(rb"\btorch\.meshgrid\((\w+), (\w+)\)"), rb'torch.meshgrid(\1, \2, indexing="ij")'),
)

# Stands in for the compiled library: what detectron2 registers is declared, so that everything
# imports, and whatever needs compiled code says so when it is called.
STAND_IN = '''\
"""Stand-in for detectron2's compiled operators: this detectron2 was installed as pure Python."""

import torch

_MESSAGE = (
    "detectron2._C.{} needs detectron2's compiled operators, and this detectron2 is pure Python. "
    "Install the official source with a C++ compiler at hand: "
    "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2.git"
)

_library = torch.library.Library("detectron2", "DEF")
_library.define(
    "nms_rotated(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor"
)
_library.define("box_iou_rotated(Tensor boxes1, Tensor boxes2) -> Tensor")


def _unavailable(name):
    def operator(*args, **kwargs):
        raise RuntimeError(_MESSAGE.format(name))

    return operator


for _name in ("nms_rotated", "box_iou_rotated"):
    _library.impl(_name, _unavailable(_name), "CompositeExplicitAutograd")


def has_cuda():
    return False


def get_cuda_version():
    return "not compiled"


def get_compiler_version():
    return "not compiled"


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _unavailable(name)
'''


def say(message: str) -> None:
    """Print a line of this script's own, marked so that it stands out from pip's."""
    print(f"[install_detectron2] {message}", flush=True)


def pip(*args: str) -> bool:
    """Run this Python's pip; True if it succeeded."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *args]
    return subprocess.run(command, check=False).returncode == 0


def probe(code: str) -> tuple[bool, str]:
    """Run ``code`` in a fresh interpreter; returns whether it worked, and its last line."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    text = (done.stdout if done.returncode == 0 else done.stderr).strip()
    return done.returncode == 0, text.splitlines()[-1] if text else ""


def installed_detectron2() -> tuple[bool, str]:
    """Whether detectron2 works here, and its version and place, or the error."""
    return probe(
        "import detectron2, detectron2.modeling, detectron2.engine;"
        "print(detectron2.__version__, 'in', detectron2.__path__[0])"
    )


def source_is_reachable(timeout: float = 5.0) -> bool:
    """Ask for the archive's header only, so that a machine without GitHub is told at once."""
    request = urllib.request.Request(SOURCE_URL, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=timeout):
            return True
    except OSError as error:
        say(f"GitHub cannot be reached from here ({error}).")
        return False


def install_source() -> bool:
    """Way 2: compile the official source at the pinned commit."""
    if not source_is_reachable():
        return False
    say(f"compiling the official source at {SOURCE_COMMIT[:8]}; this takes some minutes.")
    # detectron2's setup.py imports torch, so it cannot be built in an isolated environment and
    # finds its build tools in this one.
    return pip("install", "-q", "setuptools", "wheel") and pip(
        "install", "--no-build-isolation", f"detectron2 @ {SOURCE_URL}"
    )


def rebuild_as_pure_wheel(source: Path, folder: Path) -> Path:
    """Write the Windows wheel's Python code anew as a pure-Python wheel.

    Args:
        source: the wheel ``geoai_detectron2-0.4`` as downloaded. Its RECORD does not match its
            content, so it is read as a plain zip file.
        folder: where the new wheel goes.

    Returns:
        The path of ``detectron2-0.4+pure-py3-none-any.whl``.
    """
    entries: dict[str, bytes] = {}
    info = f"detectron2-{PURE_VERSION}.dist-info"
    with zipfile.ZipFile(source) as old:
        for name in old.namelist():
            data = old.read(name)
            if name.startswith("detectron2/") and not name.endswith((".pyd", "/")):
                if name.endswith(".py"):
                    data = data.replace(b"\r\n", b"\n")
                    for pattern, replacement in MENDS:
                        data = pattern.sub(replacement, data)
                entries[name] = data
            elif name.endswith(".dist-info/LICENSE"):
                entries[f"{info}/LICENSE"] = data
    entries["detectron2/_C.py"] = STAND_IN.encode()
    metadata = ["Metadata-Version: 2.1", "Name: detectron2", f"Version: {PURE_VERSION}"]
    metadata += ["Summary: detectron2 0.4 (June 2021) as pure Python, without its compiled code"]
    metadata += ["License: Apache-2.0", "Requires-Python: >=3.8"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in REQUIREMENTS]
    entries[f"{info}/METADATA"] = ("\n".join(metadata) + "\n").encode()
    entries[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: install_detectron2\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n"
    )
    entries[f"{info}/top_level.txt"] = b"detectron2\n"

    record = []
    for name, data in entries.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(data)}")
    record.append(f"{info}/RECORD,,")
    entries[f"{info}/RECORD"] = ("\n".join(record) + "\n").encode()

    wheel = folder / f"detectron2-{PURE_VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in entries.items():
            new.writestr(name, data)
    return wheel


def install_index() -> bool:
    """Way 3: rebuild the package index's wheel without its compiled library."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say(f"taking detectron2's Python code from the package index ({INDEX_PACKAGE}).")
        only = ("--only-binary=:all:", "--no-deps")
        if not pip("download", "-q", *INDEX_TARGET, *only, "-d", name, INDEX_PACKAGE):
            say("the package index did not give the wheel.")
            return False
        (source,) = folder.glob("*.whl")
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        if digest != INDEX_SHA256:
            say(f"{source.name} has the sha256 {digest}, not {INDEX_SHA256}: not installed.")
            return False
        wheel = str(rebuild_as_pure_wheel(source, folder))
        # First its needs; then itself, also in the place of another one of this version.
        return pip("install", "-q", wheel) and pip(
            "install", "-q", "--force-reinstall", "--no-deps", wheel
        )


def main() -> int:
    """Install detectron2 by the first way that works; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--way",
        choices=("auto", "source", "index"),
        default="auto",
        help="auto (the default) keeps what is there, else tries source, then index",
    )
    way = parser.parse_args().way
    if way == "auto":
        works, what = installed_detectron2()
        if works:
            say(f"kept detectron2 {what}.")
            return 0
    if not probe("import torch, torchvision")[0]:
        say(f"torch and torchvision have to import first: {probe('import torch, torchvision')[1]}")
        say("mend: pip install torch torchvision (a pair from one index; never just one of them)")
        return 1
    ways = {"source": install_source, "index": install_index}
    for name in ways if way == "auto" else (way,):
        if ways[name]():
            works, what = installed_detectron2()
            if works:
                say(f"installed detectron2 {what} (way: {name}).")
                if name == "index":
                    say("for the official one: python tools/install_detectron2.py --way source")
                return 0
            say(f"detectron2 was installed but does not import: {what}")
    say(
        "no way worked. By hand: pip install --no-build-isolation "
        "git+https://github.com/facebookresearch/detectron2.git"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
