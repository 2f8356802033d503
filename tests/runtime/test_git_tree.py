"""Git's hash of an archive, against git."""

import shutil
import subprocess
import zipfile

import pytest

from tood_runtime.git_tree import zip_tree_hash


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_empty_tree(tmp_path):
    """Git's well-known hash of it."""
    assert zip_tree_hash(write_zip(tmp_path / "a.zip", {})) == (
        "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_equals_git(tmp_path):
    """A program, a link, an empty file, and names that sort differently as files and folders."""
    folder = tmp_path / "repository"
    (folder / "a/deep").mkdir(parents=True)
    (folder / "a.txt").write_text("hello\n")
    (folder / "a-b").touch()
    (folder / "a/deep/caf\u00e9").write_bytes(bytes(range(256)))
    (folder / "a/run.sh").write_text("#!/bin/sh\n")
    (folder / "a/run.sh").chmod(0o755)
    (folder / "link").symlink_to("a.txt")

    def git(*args):
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", folder, *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "x")
    git("archive", "--format=zip", "--prefix=repository-1/", "-o", tmp_path / "a.zip", "HEAD")
    assert zip_tree_hash(tmp_path / "a.zip") == git("rev-parse", "HEAD^{tree}")


def test_every_change_changes_it(tmp_path):
    files = {"r/a": "1", "r/b/c": "2"}
    changed = [
        {"r/a": "1"},
        {"r/a": "1", "r/b/c": "3"},
        {"r/a": "1", "r/b/d": "2"},
        {"r/a": "1", "r/b/c": "2", "r/b/../d": "x"},
        {"r/a": "1", "r/b/c": "2", "r//etc/x": "x"},
    ]
    hashes = [zip_tree_hash(write_zip(tmp_path / "a.zip", x)) for x in (files, *changed)]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("files", [{"r/a": "1", "r/a/b": "2"}, {"r/a/b": "2", "r/a": "1"}])
def test_a_file_is_no_folder(tmp_path, files):
    with pytest.raises(ValueError, match="inside of a file|occurs twice"):
        zip_tree_hash(write_zip(tmp_path / "a.zip", files))


@pytest.mark.parametrize("other", ["setup.py", "s/b", "/r/b"])
def test_everything_is_in_one_folder(tmp_path, other):
    """pip builds a setup.py of the root, whatever else there is."""
    with pytest.raises(ValueError, match="is not in the only top-level folder"):
        zip_tree_hash(write_zip(tmp_path / "a.zip", {"r/a": "1", other: "2"}))


def test_two_entries_of_one_name(tmp_path):
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(tmp_path / "a.zip", "w") as file,
    ):
        file.writestr("r/a", "1")
        file.writestr("r/a", "2")
    with pytest.raises(ValueError, match="occurs twice"):
        zip_tree_hash(tmp_path / "a.zip")


def test_no_zip(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(zipfile.BadZipFile):
        zip_tree_hash(tmp_path / "a.zip")
