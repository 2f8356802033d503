"""The generated parts of the documentation: complete, current, and the same everywhere."""

import re

import pytest
from detectron2.config import CfgNode, get_cfg

from tests.helpers import ROOT
from tood import add_tood_config
from tood.config.merging import all_keys
from tood.model_zoo import MODELS
from tood_runtime.cli.commands import COMMANDS
from tools.docs import __main__ as program
from tools.docs import markdown
from tools.docs.command_reference import command_reference
from tools.docs.config_reference import config_reference, read_keys, read_sources


@pytest.mark.parametrize("name", program.GENERATORS)
def test_files_are_current(name):
    text = (ROOT / name).read_text()
    assert program.GENERATORS[name](text) == text, "run python -m tools.docs"


def test_every_key_is_described():
    """The page has exactly the keys that exist, with their defaults."""
    before = get_cfg()
    cfg = before.clone()
    add_tood_config(cfg)
    added = [key for key in all_keys(cfg) if key not in set(all_keys(before))]

    def value(key: str):
        node = cfg
        for name in key.split("."):
            node = node[name]
        return node

    leaves = {key: value(key) for key in added if not isinstance(value(key), CfgNode)}
    keys = read_keys(read_sources())
    described = {key.name: key for key in keys if key.default is not None}
    assert list(described) == sorted(described, key=list(described).index)  # no key twice
    assert set(described) == set(leaves) and len(leaves) > 50
    for name, key in described.items():
        assert key.default == repr(leaves[name]) and len(key.text) > 5 and key.section
    assert {key.name for key in keys if key.default is None} <= set(added)


def test_key_without_comment():
    source = "def _add_model_keys(node):\n    # ---- Model ----\n    node.A = 1\n"
    with pytest.raises(ValueError, match=r"MODEL\.TOOD\.A has no comment"):
        read_keys(source)
    (key,) = read_keys(
        source.replace("    node.A", "    # What A is,\n    # in words.\n    node.A")
    )
    assert (key.section, key.name, key.default) == ("Model", "MODEL.TOOD.A", "1")
    assert key.text == "What A is, in words."
    assert "| `MODEL.TOOD.A` | `1` | What A is, in words. |" in config_reference(
        source.replace("    node.A", "    # What A is, in words.\n    node.A")
    )


def test_every_command_and_option_is_described():
    sections = command_reference().split("\n## ")[1:]
    assert [section.split("\n")[0] for section in sections] == [f"tood {name}" for name in COMMANDS]
    for section, command in zip(sections, COMMANDS.values(), strict=True):
        assert command.summary in section
        for action in command.parser()._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert f"`{option}" in section
    assert not re.search(r"127\.0\.0\.1:\d", command_reference()), "depends on the user"


def test_tables_have_every_model():
    for name in ("README.md", "MODEL_ZOO.md"):
        text = (ROOT / name).read_text()
        for part in re.findall(r"<!-- ([\w:]+):begin -->", text):
            content = text.split(f"<!-- {part}:begin -->")[1].split(f"<!-- {part}:end -->")[0]
            for info in MODELS:
                assert info.name in content, f"{info.name} in {part} of {name}"


def test_table_format():
    text = markdown.table(("a", "b", "c"), [("x|y", "", ""), ("", "", "z")])
    assert text == "| a | b | c |\n| --- | --- | --- |\n| x\\|y | | |\n| | | z |"


def test_replace_part():
    text = "before\n<!-- x:begin -->\nold\n<!-- x:end -->\nafter \\1\n"
    assert markdown.replace_part(text, "x", "new \\1") == text.replace("old", "new \\1")
    assert markdown.replace_part(text.replace("old\n", ""), "x", "old") == text
    with pytest.raises(ValueError, match="y:begin"):
        markdown.replace_part(text, "y", "new")


def test_check_and_write(tmp_path, monkeypatch, capsys):
    generators = {"a/b.md": lambda old: "text\n"}
    monkeypatch.setattr(program, "GENERATORS", generators)
    monkeypatch.setattr(program, "ROOT", tmp_path)
    assert program.main(["--check"]) == 1
    assert "a/b.md is not current" in capsys.readouterr().out
    assert not (tmp_path / "a").exists()
    assert program.main([]) == 0 and (tmp_path / "a/b.md").read_text() == "text\n"
    assert program.main(["--check"]) == 0
