"""What is mutated, and the tests that have to notice."""

from dataclasses import dataclass

from tools import ROOT

MODELING, TESTS = "tood/modeling", "tests/modeling"


@dataclass(frozen=True)
class Target:
    """What is mutated, and the tests that have to notice.

    Attributes:
        modules: files and folders below the root.
        tests: likewise; those that fail fastest first.
        floor: the least score in percent.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    floor: float


TARGETS = {
    "box_ops": Target(
        (f"{MODELING}/box_ops.py",),
        (
            f"{TESTS}/test_box_ops.py",
            "tests/properties/test_box_ops.py",
            "tests/properties/test_box_coding.py",
        ),
        95,
    ),
    "assigners": Target(
        (f"{MODELING}/assigners",),
        (f"{TESTS}/assigners", "tests/properties/test_assigners.py"),
        95,
    ),
    "criteria": Target(
        (f"{MODELING}/criteria", f"{MODELING}/losses.py"),
        (f"{TESTS}/criteria", f"{TESTS}/test_losses.py", "tests/properties/test_losses.py"),
        95,
    ),
    "post-processing": Target(
        (f"{MODELING}/postprocessing.py",),
        (f"{TESTS}/test_postprocessing.py", "tests/properties/test_nms.py"),
        95,
    ),
    "coders": Target(
        (f"{MODELING}/heads/box_coding.py",),
        (f"{TESTS}/heads", "tests/properties/test_box_coding.py", f"{TESTS}/test_golden.py"),
        90,
    ),
    "targets": Target(
        (f"{MODELING}/targets.py",),
        (f"{TESTS}/test_targets.py", f"{TESTS}/test_unusable_boxes.py", f"{TESTS}/test_golden.py"),
        90,
    ),
    "phases": Target(
        (f"{MODELING}/phases.py",),
        (f"{TESTS}/test_custom_parts.py", f"{TESTS}/test_ablations.py", "tests/engine/hooks"),
        90,
    ),
    "key mapping": Target(
        ("tood/checkpoint/key_mapping.py",),
        ("tests/checkpoint/test_key_mapping.py", "tests/checkpoint/test_convert.py"),
        90,
    ),
}


def find_modules(target: Target) -> list[str]:
    """The files of a target, relative to the root."""
    found = []
    for name in target.modules:
        path = ROOT / name
        files = sorted(path.glob("*.py")) if path.is_dir() else [path]
        found += [str(file.relative_to(ROOT)) for file in files]
    return found
