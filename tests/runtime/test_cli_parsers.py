"""Command lines, as the torch-free parsers read them."""

import pytest
from detectron2.engine import default_argument_parser

from tood_runtime.cli import COMMANDS, UsageError, main, parse


def parsed(line: str):
    """The arguments of a command line that has no quotes."""
    return parse(line.split())[1]


# ---- What is understood -------------------------------------------------------------------------


# None where they are not given: a launcher may decide. tood.engine.launch has the defaults.
LAUNCH_OPTIONS = {"num_gpus", "num_machines", "machine_rank", "dist_url"}


def test_detectron2s_command_line():
    """The documented forms of train_net.py, with detectron2's meaning."""
    line = "--config-file F --num-gpus 8 --eval-only --dist-url tcp://h:1 MODEL.WEIGHTS X SEED 1"
    args = parsed(f"train {line}")
    theirs = default_argument_parser().parse_args(line.split())
    for name, value in vars(theirs).items():
        given = f"--{name.replace('_', '-')}" in line
        expected = None if name in LAUNCH_OPTIONS and not given else value
        assert getattr(args, name) == expected, name
    assert args.model is None and args.opts == ["MODEL.WEIGHTS", "X", "SEED", "1"]


def test_all_of_detectron2s_options_are_known_with_their_defaults():
    ours = {s: a for a in COMMANDS["train"].parser()._actions for s in a.option_strings}
    for action in default_argument_parser()._actions:
        for option in action.option_strings:
            assert option in ours
            if action.dest not in ("help", "config_file"):
                default = None if action.dest in LAUNCH_OPTIONS else action.default
                assert ours[option].default == default, option
                assert type(ours[option]) is type(action), option


@pytest.mark.parametrize(
    "line, model, opts",
    [
        ("train M", "M", []),
        ("train M A.B 1", "M", ["A.B", "1"]),
        ("train TOOD-R50-1x SEED 1", "TOOD-R50-1x", ["SEED", "1"]),
        ("train M A.B 1 --resume", "M", ["A.B", "1"]),
        ("train --resume M A.B 1 C.D 2", "M", ["A.B", "1", "C.D", "2"]),
        ("train M A.B 1 --resume C.D 2", "M", ["A.B", "1", "C.D", "2"]),
        ("train M --opts A.B 1 --resume", "M", ["A.B", "1"]),
        ("train M C.D 2 --resume --opts A.B 1", "M", ["A.B", "1", "C.D", "2"]),
        ("train M A.B -1e-3 --resume C.D -5", "M", ["A.B", "-1e-3", "C.D", "-5"]),
        ("train --resume --config-file F A.B 1 C.D 2", None, ["A.B", "1", "C.D", "2"]),
        ("train A.B 1 --config-file F --resume", None, ["A.B", "1"]),
        ("eval --model m.onnx A.B 1", "m.onnx", ["A.B", "1"]),
        ("eval A.B 1 --model m.onnx", "m.onnx", ["A.B", "1"]),
    ],
)
def test_options_and_pairs_in_any_order(line, model, opts):
    args = parsed(line)
    assert (args.model, args.opts) == (model, opts)
    assert args.resume == ("--resume" in line)


def test_eval_is_train_with_eval_only():
    args, other = parsed("eval M A.B 1"), parsed("train M A.B 1 --eval-only")
    assert vars(args) == {**vars(other), "annotations": None, "images": None}


@pytest.mark.parametrize(
    "line, model, inputs",
    [
        ("detect M a.jpg b.jpg", "M", ["a.jpg", "b.jpg"]),
        ("detect M IMG_001.JPG", "M", ["IMG_001.JPG"]),
        ("detect M --input a.jpg b.jpg", "M", ["a.jpg", "b.jpg"]),
        ("detect M a.jpg --output out --input b.jpg", "M", ["a.jpg", "b.jpg"]),
        ("detect --config-file F a.jpg b.jpg", None, ["a.jpg", "b.jpg"]),
        ("detect --config-file F --input a.jpg --output out", None, ["a.jpg"]),
        ("detect --model m.onnx a.jpg b.jpg", "m.onnx", ["a.jpg", "b.jpg"]),
    ],
)
def test_images_of_detect(line, model, inputs):
    args = parsed(f"{line} --opts MODEL.WEIGHTS w --score-threshold 0.5")
    assert (args.model, args.inputs) == (model, inputs)
    assert args.opts == ["MODEL.WEIGHTS", "w"] and args.score_threshold == 0.5


def test_old_spellings_of_the_demo():
    line = "--config-file F --input a.jpg --output out"
    new = parsed(f"detect {line} --score-threshold 0.4 --json r.json")
    assert vars(parsed(f"detect {line} --confidence-threshold 0.4 --save-json r.json")) == vars(new)


def test_several_models():
    args = parsed("visualize A B --weights a.pth b.pth --annotations v.json --images i")
    assert args.models == ["A", "B"] and args.weights == ["a.pth", "b.pth"]
    assert parsed("info").models == [] and parsed("info --size 1333x800").size == (1333, 800)


def test_shared_options_are_the_same_everywhere():
    """One meaning has one spelling, one destination and one type in all commands."""
    seen = {}
    for name, command in COMMANDS.items():
        for action in command.parser()._actions:
            for option in action.option_strings:
                meaning = (action.dest, action.type)
                assert seen.setdefault(option, meaning) == meaning, f"{name} {option}"
        names = {action.dest for action in command.parser()._actions}
        if {"model", "models"} & names:
            assert {"config_file", "opts"} <= names, name
            # A model is traced on the CPU, and its file runs anywhere.
            assert ("device" in names) == (name != "export"), name


# ---- What is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, message",
    [
        ("trian M", "Unknown command 'trian'. Did you mean train? Available: train, eval,"),
        ("--verbose", "Unknown option '--verbose'. Available: train,"),
        ("train", "Name a MODEL (a model-zoo name, a training run's folder or a config file)"),
        ("train SOLVER.MAX_ITER 3", "Name a MODEL or --config-file before SOLVER.MAX_ITER"),
        ("train TOOD-R50-1x --config-file F", "Give either MODEL or --config-file, not both"),
        ("train TOOD-R50-1x A.B 1 --config-file F", "Give either MODEL or --config-file"),
        ("eval TOOD-R50-1x --model m.onnx", "Give either MODEL or --model, not both"),
        ("eval --model m.onnx --config-file F", "Give either --model or --config-file, not both"),
        ("train M --resme", "Unknown option --resme. Did you mean --resume?"),
        ("train M A.B 1 --resme C.D 2", "Unknown option --resme. Did you mean --resume?"),
        ("train M --config F", "Unknown option --config. Did you mean --config-file?"),
        ("train M --num-gpus two", "--num-gpus: invalid int value: 'two'"),
        ("train M SOLVER.MAX_ITER", "SOLVER.MAX_ITER has no value"),
        ("train M A.B 1 SOLVER.MAX_ITER --resume", "SOLVER.MAX_ITER has no value"),
        ("train --config-file F SOLVER.MAX_ITER", "SOLVER.MAX_ITER has no value"),
        ("train M MODEL.X=3", "Write MODEL.X 3, with a space instead of '='"),
        ("train --config-file F MODEL.X=3", "Write MODEL.X 3, with a space instead of '='"),
        ("train M NUM_CLASSES=3", "Write NUM_CLASSES 3, with a space instead of '='"),
        ("train M MODEL.X = 3", "Write MODEL.X 3, without '='"),
        ("train M SOLVER.STEPS 2000, 2750 SEED 1", 'with spaces: SOLVER.STEPS "(2000, 2750)"'),
        ("train M SOLVER.STEPS (2000, 2750)", 'with spaces: SOLVER.STEPS "(2000, 2750)"'),
        ("train M SOLVER.STEPS 2000, 2500, 2750", 'spaces: SOLVER.STEPS "(2000, 2500, 2750)"'),
        ("train M SOLVER.MAX_ITER=3", "Write SOLVER.MAX_ITER 3, with a space instead of '='"),
        ("train M SOLVER.MAX_ITER= 3", "Write SOLVER.MAX_ITER VALUE, with a space instead of"),
        ("train M --SOLVER.MAX_ITER 3", "Config keys have no dashes. Write SOLVER.MAX_ITER VALUE"),
        ("train M --SOLVER.MAX_ITER=3", "Config keys have no dashes. Write SOLVER.MAX_ITER 3"),
        ("train M solver.max_iter 3", "Config keys are in capitals. Write SOLVER.MAX_ITER VALUE"),
        ("train M A.B 1 stray", "'stray' is not a config key"),
        ("train M stray", "'stray' is not a config key"),
        ("detect M a.jpg --opts b.jpg", "'b.jpg' is not a config key"),
        ("detect M", "Name at least one IMAGE"),
        ("detect M a.jpg --score-threshold 30", "'30' is not a number between 0 and 1"),
        ("detect M a.jpg --score-threshold x", "'x' is not a number between 0 and 1"),
        ("info --size 1280", "'1280' is not WIDTHxHEIGHT, such as 1280x800"),
        ("info --size 0x800", "'0x800' is not WIDTHxHEIGHT"),
        ("info M --config-file F", "Give either MODEL or --config-file"),
        ("visualize", "Name at least one MODEL"),
        ("visualize A B --weights a", "--weights needs one file for each MODEL, got 1 for 2"),
        ("visualize A --num-images 0", "'0' is not a whole number of at least 1"),
        ("convert a.pth", "OUTPUT"),
        ("convert a.pth b.pth --to x", "invalid choice: 'x'"),
        ("check-env now", "Unexpected argument 'now'"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(line, message, capsys):
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert message in err and "--help" in err


def test_usage_errors_can_be_caught():
    with pytest.raises(UsageError, match="Unknown command"):
        parse(["nothing"])


# ---- Help ---------------------------------------------------------------------------------------


def test_overview(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert all(f"  {name} " in out for name in COMMANDS)
        assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: tood {name} ") and COMMANDS[name].summary in out


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_right(name):
    for example in COMMANDS[name].examples:
        parse([name, *example.split()])


@pytest.mark.parametrize(
    "line", ["detect M a.jpg MODEL.TOOD.NUM_CLASSES 3", "info M MODEL.TOOD.NUM_CLASSES 3"]
)
def test_pairs_where_files_are_expected_are_not_file_names(line):
    with pytest.raises(UsageError, match="MODEL.TOOD.NUM_CLASSES is a config key. Write --opts"):
        parsed(line)
    assert parsed("detect M IMG_0001.JPG").inputs == ["IMG_0001.JPG"]
