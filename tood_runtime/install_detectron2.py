"""Install detectron2, which no package index has for Linux and today's Python.

Three ways, tried in this order; the program says which one it took and how to choose another:

1. keep:    a detectron2 that already imports stays, unless an older version of this program
            rebuilt it.
2. source:  the official repository at the commit ``SOURCE_COMMIT``, compiled on this machine. What
            was downloaded must have git's hash of that commit's files.
3. index:   detectron2 0.4 from the package index, rebuilt as a pure-Python wheel that pip can
            install and uninstall (``detectron2_wheel.py``).

torch has to be installed first. Nothing else has to be: this program needs only the standard
library, and ``python tools/install_detectron2.py`` runs it before anything is installed.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

from .detectron2_wheel import PURE_VERSION, rebuild_as_pure_wheel
from .git_tree import zip_tree_hash

SOURCE_COMMIT = "02b5c4e295e990042a714712c21dc79b731e8833"
# git rev-parse SOURCE_COMMIT^{tree}
SOURCE_TREE = "d523cdc74ffc15c2412544553f8caaf4803d89b9"
SOURCE_URL = f"https://github.com/facebookresearch/detectron2/archive/{SOURCE_COMMIT}.zip"
# The official detectron2.model_zoo imports pkg_resources, which later versions do not have.
SETUPTOOLS = "setuptools<81"

INDEX_PACKAGE = "geoai-detectron2==0.4"
INDEX_TARGET = (
    *("--platform", "win_amd64", "--python-version", "37"),
    *("--implementation", "cp", "--abi", "cp37m"),
)
INDEX_SHA256 = "6eb280a50dbc3536caa9dc73229dfbbe0bda4fea6692c17803584dda680fad8d"


def say(message: str) -> None:
    """Print a line, marked so that it stands out from pip's."""
    print(f"[install-detectron2] {message}", flush=True)


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
    """Whether detectron2 imports here, and its version and folder, or the error."""
    return probe(
        "import detectron2, detectron2.modeling, detectron2.engine;"
        "print(detectron2.__version__, 'in', detectron2.__path__[0])"
    )


def is_outdated_rebuild() -> bool:
    """Whether the installed detectron2 was rebuilt by an older version of this program."""
    code = "from importlib.metadata import version; print(version('detectron2'))"
    version = probe(code)[1]
    return version.startswith("0.4+pure") and version != PURE_VERSION


def download_source(path: Path, timeout: float = 10.0) -> bool:
    """Download the archive of the pinned commit; True if it has the pinned files."""
    try:
        with urllib.request.urlopen(SOURCE_URL, timeout=timeout) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except OSError as error:
        say(f"GitHub cannot be reached from here ({error}).")
        return False
    try:
        tree = zip_tree_hash(path)
    except (ValueError, zipfile.BadZipFile) as error:
        say(f"not installed: {SOURCE_URL} is damaged ({error}).")
        return False
    if tree != SOURCE_TREE:
        say(f"not installed: {SOURCE_URL} has the tree {tree} instead of {SOURCE_TREE}.")
    return tree == SOURCE_TREE


def install_source() -> bool:
    """Compile the official source at the pinned commit."""
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / f"detectron2-{SOURCE_COMMIT}.zip"
        if not download_source(archive):
            return False
        say(f"compiling the official source at {SOURCE_COMMIT[:8]}; this takes some minutes.")
        # detectron2's setup.py imports torch, so it cannot be built in an isolated environment and
        # finds its build tools in this one.
        return pip("install", "-q", SETUPTOOLS, "wheel") and pip(
            "install", "--no-build-isolation", str(archive)
        )


def install_index() -> bool:
    """Rebuild the package index's wheel without its compiled library, and install it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say(f"downloading detectron2's Python code from the package index ({INDEX_PACKAGE}).")
        only = ("--only-binary=:all:", "--no-deps")
        if not pip("download", "-q", *INDEX_TARGET, *only, "-d", name, INDEX_PACKAGE):
            say("cannot download the wheel from the package index.")
            return False
        (source,) = folder.glob("*.whl")
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        if digest != INDEX_SHA256:
            say(f"not installed: {source.name} has sha256 {digest} instead of {INDEX_SHA256}.")
            return False
        wheel = str(rebuild_as_pure_wheel(source, folder))
        # First its requirements; then itself, even where this version is installed already.
        return pip("install", "-q", wheel) and pip(
            "install", "-q", "--force-reinstall", "--no-deps", wheel
        )


WAYS = {"source": install_source, "index": install_index}


def install(way: str = "auto") -> int:
    """Install detectron2.

    Args:
        way: "auto", "source" or "index".

    Returns:
        0 if detectron2 works afterwards, 2 if torch is missing or no method worked.
    """
    order = list(WAYS) if way == "auto" else [way]
    if way == "auto" and is_outdated_rebuild():
        say("replacing the detectron2 that an older version of this program built.")
        order = ["index"]
    elif way == "auto":
        works, what = installed_detectron2()
        if works:
            say(f"kept detectron2 {what}.")
            advise_on_setuptools()
            return 0
    works, what = probe("import torch, torchvision")
    if not works:
        say(f"Cannot import torch and torchvision: {what}")
        say(
            "install both from one index, because they have to match: pip install torch torchvision"
        )
        return 2
    for name in order:
        if WAYS[name]():
            works, what = installed_detectron2()
            if works:
                say(f"installed detectron2 {what} (way: {name}).")
                if name == "index":
                    say("for the official one: tood install-detectron2 --way source")
                return 0
            say(f"detectron2 was installed but does not import: {what}")
    say(
        "No method worked. Install by hand: pip install --no-build-isolation "
        "git+https://github.com/facebookresearch/detectron2.git"
    )
    return 2


def advise_on_setuptools() -> None:
    """Say what to pin if the detectron2 that was kept needs pkg_resources, which is missing."""
    works, error = probe("import detectron2.model_zoo")
    if not works and "pkg_resources" in error:
        say(f'its detectron2.model_zoo does not import. Fix: pip install "{SETUPTOOLS}"')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option of this program to a parser."""
    parser.add_argument(
        "--way",
        choices=("auto", *WAYS),
        default="auto",
        help="auto (the default) keeps what is installed, else tries source, then index",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_arguments(parser)
    return install(parser.parse_args(argv).way)


if __name__ == "__main__":
    sys.exit(main())
