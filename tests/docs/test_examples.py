"""The blocks of README and guides run; those that say why they do not are at least valid."""

import re

import pytest

from tests.docs.blocks import GUIDES, PAGES, Block, all_blocks, shell_commands
from tests.docs.conftest import SHORTER
from tests.helpers import ROOT
from tood.config.files import named_config
from tood.config.loading import load_config
from tood.config.validation.solver import validate_schedule
from tood_runtime.cli import COMMANDS, main, parse

PYTHON = all_blocks(PAGES, "python")
BASH = all_blocks(PAGES, "bash")

# test_extend.py and test_two_stage.py run these, and check what they compute.
IN_OTHER_TESTS = ("class THeadForRetinaNet", "task_aligned_focal_loss(", "class BrightnessHeads")


def runs(block: Block) -> bool:
    return block.reason is None and block.page in GUIDES


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles(block):
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize(
    "block",
    [
        block
        for block in PYTHON
        if runs(block) and not block.title and not any(x in block.text for x in IN_OTHER_TESTS)
    ],
    ids=str,
)
def test_python_runs(block, workspace):
    exec(compile(block.text, str(block), "exec"), {"__name__": "example"})


@pytest.mark.parametrize("block", [b for b in PYTHON if runs(b) and b.title], ids=str)
def test_shown_files_are_used_by_a_command(block):
    """A block that shows a file runs through a command of the same page that names the file."""
    commands = [b.text for b in BASH if b.page == block.page and runs(b)]
    assert any(block.title in command for command in commands)


# Some pages share a command; it runs once.
@pytest.mark.parametrize("block", {b.text: b for b in BASH if runs(b)}.values(), ids=str)
def test_commands_run(block, workspace):
    for shown in PYTHON:
        if shown.page == block.page and shown.title:
            (workspace / shown.title).write_text(shown.text)
    for program, *arguments in shell_commands(block, workspace):
        assert program == "tood", f"say why {program} is not run, in a comment before {block}"
        assert main([*arguments, *SHORTER.get(arguments[0], [])]) == 0, arguments


@pytest.mark.parametrize("block", BASH, ids=str)
def test_commands_parse(block, tmp_path):
    """Every command of this project is accepted by its own parser, whether it runs or not."""
    commands = shell_commands(block, tmp_path)
    assert commands, f"{block} has no command"
    for program, *arguments in commands:
        if program in ("./train_net.py", "./demo/demo.py"):
            assert (ROOT / program).is_file()
            check_command(["train" if "train" in program else "detect", *arguments])
        elif program == "tood":
            check_command(arguments)
        elif program == "torchrun" and "-m" in arguments:
            assert arguments[arguments.index("-m") + 1] == "tood"
            check_command(arguments[arguments.index("-m") + 2 :])
        elif program == "torchrun":
            parse(["train", *arguments[arguments.index("train_net.py") + 1 :]])
        elif program == "make":
            check_make_target(arguments[0])
        elif program == "python" and arguments[0] == "-m" and arguments[1].startswith("tools"):
            check_tool(arguments[1], arguments[2:])


def check_command(arguments: list[str]) -> None:
    """Its parser takes it, and a training of a config of this project may have its values."""
    command, args = parse(arguments)
    file = named_config(args.model or "") if command.name == "train" else None
    if file is None or "MODEL.TOOD.CUSTOM_IMPORTS" in args.opts:  # files that are not here
        return
    num_processes = max(1, args.num_gpus or 1) * (args.num_machines or 1)
    validate_schedule(load_config(file, args.opts), num_processes)


def check_make_target(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target


def check_tool(module: str, arguments: list[str]) -> None:
    """The program exists, and its source has the options."""
    path = ROOT.joinpath(*module.split("."))
    folder = path if path.is_dir() else path.parent
    assert (path / "__main__.py").is_file() or path.with_suffix(".py").is_file(), module
    source = "".join(file.read_text() for file in folder.glob("*.py"))
    for option in arguments:
        if option.startswith("--"):
            assert f'"{option}"' in source, f"{module} has no {option}"


def test_examples_are_found():
    """The parser of this test sees the blocks."""
    assert sum(map(runs, PYTHON)) >= 8 and sum(map(runs, BASH)) >= 6
    fences = sum(page.read_text().count("\n```") for page in PAGES)
    languages = ("python", "bash", "bibtex", "sql", "yaml", "text")
    found = sum(len(all_blocks(PAGES, language)) for language in languages)
    assert 2 * found == fences, "a block has no language, or another one than those"


def test_inline_commands_parse():
    """Commands in the running text, such as `tood info MODEL`."""
    found = 0
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        text = text.partition("\n### Renamed")[0]  # the changelog's old names
        for command in re.findall(r"`tood ([^`]+)`", text):
            name, *arguments = command.split()
            if arguments and "--help" not in arguments:
                parse([name, *arguments])
            else:
                assert name in (*COMMANDS, "COMMAND", "--help", "--version"), command
            found += 1
    assert found >= 10
