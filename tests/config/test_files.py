"""Finding configs by path and by name, in a checkout and in an installed package."""

import pytest

from tests.helpers import CONFIGS, PUBLISHED
from tood.config import files
from tood.errors import ConfigError


def problem(name) -> str:
    with pytest.raises(ConfigError) as error:
        files.find_config_file(name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_config_has_a_name():
    names = files.config_names()
    assert set(PUBLISHED) < set(names)
    assert "ablations/ATSS-Parallel" in names and "quickstart/TOOD-R18-shapes" in names
    assert not any("Base-" in name for name in names)
    for name in names:
        assert files.find_config_file(name) == CONFIGS / f"{name}.yaml"
    assert files.named_config("Base-TOOD") == CONFIGS / "Base-TOOD.yaml"


def test_files_come_before_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.find_config_file("TOOD-R50-1x") == CONFIGS / "TOOD-R50-1x.yaml"
    (tmp_path / "TOOD-R50-1x").write_text("SEED: 1\n")
    assert str(files.find_config_file("TOOD-R50-1x")) == "TOOD-R50-1x"


@pytest.mark.parametrize(
    "name, meant",
    [
        ("TOOD-R50-1", "TOOD-R50-1x"),
        ("tood-r50-1x", "TOOD-R50-1x"),
        ("TOOD-R101-DCN", "TOOD-R101-DCN-2x"),
        ("configs/TOOD-R50-2x.yaml", "TOOD-R50-2x"),  # what a checkout has, without one
        ("/elsewhere/ablations/ATSS-THead.yaml", "ablations/ATSS-THead"),
        ("ATSS-Paralel", "ablations/ATSS-Parallel"),
        ("TOOD-R18-shapes", "quickstart/TOOD-R18-shapes"),
    ],
)
def test_suggestions(name, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert problem(name) == f"Config file {name} does not exist. Did you mean {meant}?"


def test_unknown_names_list_what_exists():
    message = problem("YOLO")
    assert message.startswith("Config file YOLO does not exist. Available: TOOD-R101-2x, ")
    assert all(name in message for name in PUBLISHED) and message.endswith("ablations/*.")
    assert problem("").startswith("No config is given. Available: ")
    assert "does not exist" in problem("x" * 5000)
    assert "does not exist" in problem("a\0b")


def test_folders_are_not_configs(tmp_path):
    assert "is a folder, not a config file. Available" in problem(tmp_path)
    (tmp_path / "config.yaml").write_text("SEED: 1\n")
    assert f"is a folder, not a config file. Use {tmp_path}/config.yaml." in problem(tmp_path)


def test_special_files_are_not_configs():
    assert "/dev/null is not a regular file" in problem("/dev/null")


@pytest.mark.parametrize(
    "name", ["../configs/TOOD-R50-1x", "./Base-TOOD", "ablations/../TOOD-R50-1x"]
)
def test_names_are_no_paths(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problem(name)


@pytest.mark.parametrize("url", ["https://x.org/a.yaml", "s3://bucket/a.yaml", "file:///a.yaml"])
def test_urls_are_refused(url):
    assert "local files only" in problem(url)


def test_package_without_configs(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "__file__", str(tmp_path / "tood" / "config" / "files.py"))
    with pytest.raises(ConfigError, match="Reinstall"):
        files.config_folder.__wrapped__()
    (tmp_path / "tood" / "configs").mkdir(parents=True)
    (tmp_path / "tood" / "configs" / "Base-TOOD.yaml").write_text("")
    assert files.config_folder.__wrapped__() == tmp_path / "tood" / "configs"
