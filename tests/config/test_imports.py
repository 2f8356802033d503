"""MODEL.TOOD.CUSTOM_IMPORTS: files and modules are imported once, and problems are reported."""

import sys

import pytest

from tood.config.imports import import_custom
from tood.errors import ConfigError


@pytest.fixture(autouse=True)
def modules_are_forgotten():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path, content: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return str(path)


COUNT = "import builtins; builtins.imports = getattr(builtins, 'imports', 0) + 1\n"


@pytest.fixture
def imports(monkeypatch):
    """How often the files with the content ``COUNT`` were imported."""
    import builtins

    monkeypatch.setattr(builtins, "imports", 0, raising=False)
    return lambda: builtins.imports


def test_files_are_imported_once(tmp_path, imports):
    path = write(tmp_path / "own.py", COUNT)
    import_custom(path)
    import_custom(path)
    assert imports() == 1
    import_custom(write(tmp_path / "other" / "own.py", COUNT))  # same name, another folder
    assert imports() == 2


def test_modules_by_name(tmp_path, imports, monkeypatch):
    write(tmp_path / "tood_test_module.py", COUNT)
    monkeypatch.syspath_prepend(tmp_path)
    import_custom("tood_test_module")
    import_custom("tood_test_module")
    assert imports() == 1


@pytest.mark.parametrize(
    "name, message",
    [
        ("/nowhere/parts.py", "lists /nowhere/parts.py, which does not exist"),
        ("parts.py", "relative to the working directory"),
        ("no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_missing(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="MODEL.TOOD.CUSTOM_IMPORTS lists") as error:
        import_custom(name)
    assert message in str(error.value)


def test_missing_import_of_a_file(tmp_path):
    path = write(tmp_path / "own.py", "import no_such_module\n")
    with pytest.raises(ConfigError, match="No module named 'no_such_module'"):
        import_custom(path)


def test_errors_in_a_file_are_raised_each_time(tmp_path):
    path = write(tmp_path / "own.py", "1 / 0\n")
    for _ in range(2):  # a file that failed is not taken for imported
        with pytest.raises(ZeroDivisionError):
            import_custom(path)
