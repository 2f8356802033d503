"""Files and folders that programs write."""

import json

import pytest

from tood_runtime.output_files import (
    OutputError,
    make_output_folder,
    validate_output_file,
    write_json,
)


def test_output_folder_and_files(tmp_path):
    assert make_output_folder(str(tmp_path / "a" / "b")).is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="it is a file. Choose another folder"):
        make_output_folder(str(tmp_path / "file"))
    with pytest.raises(OutputError, match="--output"):
        make_output_folder(str(tmp_path / "file" / "below"))
    with pytest.raises(OutputError, match=r"--json .* is a folder. Name a file in it"):
        validate_output_file("--json", str(tmp_path))
    validate_output_file("--json", None)
    write_json(tmp_path / "new" / "x.json", {"a": [1.5]})
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == {"a": [1.5]}
    with pytest.raises(OutputError, match=r"Cannot write .*\. Choose another file\."):
        write_json(tmp_path / "file" / "x.json", {})


def test_output_below_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(OutputError, match=r"notes.txt is a file"):
        validate_output_file("--json", str(tmp_path / "notes.txt" / "found.json"))
