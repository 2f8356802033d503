"""The changelog's table of renames agrees with the code."""

import re

from tests.helpers import ROOT
from tood.config.renames import RENAMED_KEYS

TEXT = (ROOT / "CHANGELOG.md").read_text()
UNRELEASED = TEXT[TEXT.index("## Unreleased") : TEXT.index("## 0.1.0")]


def table(heading: str) -> list[tuple[list[str], list[str]]]:
    """Names in the columns "old" and "new" of the table below a heading."""
    section = UNRELEASED.split(f"#### {heading}\n")[1].split("####")[0]
    rows = re.findall(r"^\| (`.+) \| (`.+) \|$", section, re.M)
    return [(re.findall(r"`([^`]+)`", old), re.findall(r"`([^`]+)`", new)) for old, new in rows]


def test_config_keys():
    """Each renamed key has a row, or its group has one."""
    renames = {old: new for (old,), (new,) in table("Config keys")}
    for old, new in RENAMED_KEYS.items():
        group = max((row for row in renames if f"{old}.".startswith(f"{row}.")), key=len)
        assert renames[group] + old.removeprefix(group) == new
    assert set(renames) <= set(RENAMED_KEYS)


def test_new_names_exist():
    """Every new identifier is in the source, and no old one that was replaced everywhere."""
    folders = ("tood", "tood_runtime", "tools")
    source = "".join(p.read_text() for f in folders for p in (ROOT / f).rglob("*.py"))
    for _, new in table("Python names"):
        for name in new:
            for word in re.findall(r"[A-Za-z_]\w+", name):
                assert re.search(rf"\b{word}\b", source), f"{word} is not in the source"


def test_new_modules_exist():
    for _, new in table("Python modules"):
        parent = ""
        for name in new:
            # "tood.config.defaults", then "loading" next to it.
            parent, name = name.rpartition(".")[::2] if "." in name else (parent, name)
            path = ROOT.joinpath(*parent.split("."), name)
            assert path.is_dir() or path.with_suffix(".py").is_file(), f"{parent}.{name}"
