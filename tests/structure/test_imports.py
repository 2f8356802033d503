"""The import rule: imports point downward only, and each dependency stays where it belongs."""

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

PACKAGE = ROOT / "tood"
RUNTIME = ROOT / "tood_runtime"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up. A module may import its own layer and those before it.
LAYERS = [
    {"version", "errors", "environment", "compat", "registry"},
    # Below the model, which validates its own keys when it is built.
    {"config"},
    {"modeling.tracing", "modeling.box_ops", "modeling.structures", "modeling.layers",
     "modeling.profiling", "modeling.swin_windows"},
    {"modeling.losses", "modeling.assigners", "modeling.criteria", "modeling.heads",
     "modeling.backbone", "modeling.timm_backbone", "modeling.postprocessing", "modeling.targets",
     "modeling.phases", "modeling.assignment_stats", "modeling.normalizers", "modeling.events",
     "modeling.ground_truth", "modeling.small_maps", "modeling.roi_heads"},
    {"modeling.anchors", "modeling.dense_detector", "modeling.core_args", "modeling.views"},
    {"modeling.meta_arch", "modeling.proposal_network", "modeling"},
    {"model_zoo", "checkpoint", "data"},
    {"analysis"},
    {"evaluation", "inference", "export"},
    {"report"},
    {"engine"},
    {"cli"},
    {"", "__main__"},
]  # fmt: skip

# detectron2's inputs and outputs.
INSTANCES_ARE_KNOWN = ("meta_arch.py", "ground_truth.py", "proposal_network.py", "roi_heads.py")

# Torch and the registry class only: usable by people who train something else.
TORCH_ONLY = ["modeling.box_ops", "modeling.structures", "modeling.layers", "modeling.losses",
              "modeling.assigners", "modeling.criteria", "modeling.targets",
              "modeling.postprocessing", "modeling.assignment_stats"]  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, without the leading "tood."."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name[5:] for a in node.names if a.name.startswith("tood.")}
        elif isinstance(node, ast.ImportFrom):
            target = node.module or ""
            if node.level:
                base = package.split(".") if package else []
                base = base[: len(base) - node.level + 1]
                target = ".".join([*base, *([target] if target else [])])
            elif target == "tood" or target.startswith("tood."):
                target = target[5:]
            else:
                continue
            for alias in node.names:
                inner = f"{target}.{alias.name}".strip(".")
                path_of_inner = PACKAGE / inner.replace(".", "/")
                is_module = path_of_inner.with_suffix(".py").exists() or path_of_inner.is_dir()
                found.add(inner if is_module else target)
    return found


def external_imports(path: Path) -> set[str]:
    """Top-level names of the packages that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found


def layer(module: str) -> int:
    while True:
        for i, names in enumerate(LAYERS):
            if module in names:
                return i
        if "." not in module:
            pytest.fail(f"tests/structure/test_imports.py has no layer for {module!r}")
        module = module.rpartition(".")[0]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_downward(path):
    name = module_name(path)
    for target in imports(path):
        assert layer(target) <= layer(name), f"{name} imports {target}, which is above it"


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=lambda p: p.stem)
def test_runtime_imports_nothing_of_ours_and_no_torch(path):
    heavy = {"tood", "torch", "torchvision", "detectron2", "fvcore", "cv2", "matplotlib"}
    assert not heavy & external_imports(path)


@pytest.mark.parametrize(
    "path", [p for p in FILES if module_name(p).startswith(tuple(TORCH_ONLY))], ids=module_name
)
def test_torch_only_modules_know_no_config_and_no_instances(path):
    text = path.read_text()
    packages = external_imports(path) - sys.stdlib_module_names
    assert packages <= {"torch", "torchvision", "detectron2"}
    # Of detectron2 the registry alone.
    assert set(re.findall(r"^from (detectron2\S*)", text, re.M)) <= {"detectron2.utils.registry"}
    for word in ("CfgNode", "configurable", "detectron2.config", "Instances", "EventStorage"):
        assert not re.search(rf"^(from|import).*\b{re.escape(word)}", text, re.M), word
    assert not re.search(r"\bcfg\b", text)
    # Messages name arguments; whoever reads the config adds the key.
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert "MODEL." not in node.value, node.value


def test_instances_storage_and_processes_stay_in_their_files():
    for path in (PACKAGE / "modeling").rglob("*.py"):
        text = path.read_text()
        if path.name not in INSTANCES_ARE_KNOWN:
            assert "Instances" not in re.sub(r'""".*?"""', "", text, flags=re.S), path
        if path.name != "events.py":
            assert "get_event_storage" not in text, path
        if path.name not in ("events.py", "normalizers.py"):
            assert not re.search(r"utils import comm|utils\.comm", text), path


def test_only_the_model_knows_its_class():
    """Others find the core with find_dense_core, which works inside larger models too."""
    for path in [*FILES, *(ROOT / "tools").rglob("*.py")]:
        if "modeling" not in path.parts:
            assert not re.search(r"isinstance\([^)]*\bTOOD\b", path.read_text()), path


def test_nobody_edits_the_import_path():
    for folder in ("tood", "tood_runtime", "tools", "tests", "demo"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != Path(__file__).name:
                assert not re.search(r"sys\.path\.(insert|append)", path.read_text()), path
