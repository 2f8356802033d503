"""The house rules: imports point downward, files and functions stay short, keys are explained."""

import ast
import re
from pathlib import Path

import pytest

from tests.helpers import ROOT

PACKAGE = ROOT / "tood"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up. A module may import its own layer and those before it.
LAYERS = [
    {"version", "errors", "environment", "compat", "registry"},
    {"modeling.box_ops", "modeling.layers"},
    {"modeling.assigners", "modeling.losses", "modeling.criteria", "modeling.postprocessing",
     "modeling.heads", "modeling.backbone", "modeling.labeling", "modeling.phases"},
    {"modeling.meta_arch", "modeling"},
    {"config", "checkpoint", "data", "evaluation"},
    {"engine", "predictor"},
    {"", "check"},
]  # fmt: skip

# Tensors in, tensors out: usable by people who train something else.
PURE = ["modeling.box_ops", "modeling.layers", "modeling.assigners", "modeling.losses",
        "modeling.criteria", "modeling.labeling", "modeling.postprocessing"]  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, without the leading "tood."."""
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
                is_module = (PACKAGE / inner.replace(".", "/")).with_suffix(".py").exists()
                found.add(inner if is_module else target)
    return found


def layer(module: str) -> int:
    while True:
        for i, names in enumerate(LAYERS):
            if module in names:
                return i
        if "." not in module:
            pytest.fail(f"tests/test_architecture.py has no layer for {module!r}")
        module = module.rpartition(".")[0]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_downward(path):
    name = module_name(path)
    for target in imports(path):
        assert layer(target) <= layer(name), f"{name} imports {target}, which is above it"


@pytest.mark.parametrize(
    "path", [p for p in FILES if module_name(p).startswith(tuple(PURE))], ids=module_name
)
def test_pure_modules_know_no_config_and_no_instances(path):
    text = path.read_text()
    for word in ("CfgNode", "configurable", "detectron2.config", "Instances", "EventStorage"):
        assert not re.search(rf"^(from|import).*\b{re.escape(word)}", text, re.M), word
    assert not re.search(r"\bcfg\b", text)


def test_only_the_meta_architecture_knows_storage_and_processes():
    for path in (PACKAGE / "modeling").rglob("*.py"):
        if path.name != "meta_arch.py":
            text = path.read_text()
            assert "get_event_storage" not in text and "utils.comm" not in text, path


@pytest.mark.parametrize(
    "path",
    [*FILES, *sorted((ROOT / "tools").glob("*.py")), ROOT / "train_net.py", ROOT / "demo/demo.py"],
    ids=str,
)
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = ast.get_docstring(node)
            lines = node.end_lineno - node.lineno + 1 - (len(doc.splitlines()) if doc else 0)
            assert lines <= 60, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_arguments_are_annotated(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            for argument in arguments:
                if argument.arg not in ("self", "cls"):
                    assert argument.annotation is not None, f"{node.name}({argument.arg})"
            assert node.returns is not None, f"{node.name} has no annotated result"


def test_every_config_key_is_explained():
    """A comment stands above each key, or above the group that it ends."""
    lines = (PACKAGE / "config.py").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("def add_tood_config"))
    end = next(i for i, line in enumerate(lines) if line.startswith("def load_config"))
    explained, keys = False, 0
    for line in lines[start:end]:
        text = line.strip()
        if text.startswith("#"):
            explained = True
        elif re.match(r"(node|cfg)\.[\w.]+ = (?!node = )(?!CfgNode)", text):
            assert explained, text
            keys += 1
        elif not text or "CfgNode" in text:
            explained = explained and bool(text)
    assert keys >= 25


def test_leaf_configs_are_short():
    for path in (ROOT / "configs").glob("TOOD-*.yaml"):
        lines = [x for x in path.read_text().splitlines() if x and not x.startswith("#")]
        assert len(lines) <= 10, path
