"""tools.experiments.option_table: its rows, what it runs, what it keeps, and the table."""

import json
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tood.config.loading import load_config
from tood.errors import TOODError
from tools.experiments import alignment_table, option_table

ROWS_FILES = sorted((ROOT / "tools/experiments/rows").glob("*.yaml"))
CONFIG = ROOT / "configs/quickstart/TOOD-R18-shapes.yaml"


@pytest.fixture
def commands(monkeypatch):
    """Replaces ``tood train``: records its arguments, and writes what it would measure."""
    calls = []

    def run_command(arguments, log):
        calls.append(arguments)
        folder = Path(arguments[arguments.index("--output") + 1])
        seed = int(arguments[arguments.index("SEED") + 1])
        lines = [{"iteration": 1, "bbox/AP": 60.0}, {"iteration": 2}]
        last = {"iteration": 3, "bbox/AP": 50.0 + seed, "bbox/AP75": 40.0}
        if "TEST.AUG.ENABLED" in arguments:
            last["bbox_TTA/AP"] = 55.0
        text = "\n".join(json.dumps(line) for line in [*lines, last])
        (folder / "metrics.json").write_text(text + "\n")
        (folder / "model_final.pth").touch()

    monkeypatch.setattr(alignment_table, "run_command", run_command)
    return calls


def test_means_over_seeds_and_continuation(commands, tmp_path, capsys):
    rows = tmp_path / "rows.yaml"
    rows.write_text('plain: ""\nTTA: TEST.AUG.ENABLED True TEST.AUG.MIN_SIZES "(64, 96)"\n')
    arguments = ["--config-file", "a.yaml", "--rows-file", str(rows), "--output", str(tmp_path)]
    arguments += ["--seeds", "1", "3", "--opts", "MODEL.DEVICE", "cpu"]
    option_table.main(arguments)
    assert [call[call.index("SEED") + 1] for call in commands] == ["1", "1", "3", "3"]
    assert commands[1][commands[1].index("TEST.AUG.MIN_SIZES") + 1] == "(64, 96)"
    lines = capsys.readouterr().out.splitlines()[-2:]
    plain, tta = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert plain == ["plain", "2", "52.0 ± 1.4", "", "40.0 ± 0.0", "", "60.0 ± 0.0"]
    assert tta[:2] == ["TTA", "2"] and tta[5] == "55.0 ± 0.0"
    option_table.main(arguments)
    assert len(commands) == 4  # nothing runs again


@pytest.mark.parametrize("path", ROWS_FILES, ids=lambda path: path.stem)
def test_options_of_the_rows_exist(path):
    rows = option_table.read_rows(str(path))
    assert len(rows) >= 5
    for options in rows.values():
        load_config(str(CONFIG), options)


def test_wrong_files(tmp_path):
    (tmp_path / "rows.yaml").write_text("- MODEL.DEVICE cpu\n")
    with pytest.raises(TOODError, match="no mapping from a name to options"):
        option_table.read_rows(str(tmp_path / "rows.yaml"))
    (tmp_path / "metrics.json").write_text('{"iteration": 1}\n')
    with pytest.raises(TOODError, match="was not evaluated"):
        option_table.read_results(tmp_path / "metrics.json")
    rows = ["--config-file", "a", "--rows-file", str(ROWS_FILES[0]), "--rows", "none"]
    with pytest.raises(TOODError, match="Unknown row 'none'"):
        option_table.main(rows)
