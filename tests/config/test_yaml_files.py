"""Reading config files: nothing is executed or downloaded, and every problem is one sentence."""

import errno
import itertools
import os

import pytest

from tood.config.yaml_files import read_config_layers
from tood.errors import ConfigError


def problem(path, content: str | bytes) -> str:
    """The message about a file with this content; it must be one line that names the file."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as error:
        read_config_layers(path)
    message = str(error.value)
    assert str(path) in message and "\n" not in message and len(message) < 800
    return message


CODE = [
    "!!python/object/apply:os.system ['touch {marker}']\n",
    "MODEL:\n  WEIGHTS: !!python/object/apply:os.system ['touch {marker}']\n",
    "MODEL: !!python/object/new:os.system ['touch {marker}']\n",
    'INPUT: &a {{MIN_SIZE_TRAIN: !!python/object/apply:eval [\'open("{marker}", "w")\']}}\n',
    "OUTPUT_DIR: !!python/name:os.system\n",
    "OUTPUT_DIR: !!python/tuple [1, 2]\n",
]


@pytest.mark.parametrize("content", CODE)
@pytest.mark.parametrize("in_base", [False, True])
def test_tags_that_run_code_are_refused(tmp_path, content, in_base):
    marker = tmp_path / "executed"
    path = tmp_path / "config.yaml"
    content = content.format(marker=marker)
    if in_base:
        (tmp_path / "child.yaml").write_text("_BASE_: config.yaml\n")
        path.write_text(content)
        with pytest.raises(ConfigError, match="has the tag !!python"):
            read_config_layers(tmp_path / "child.yaml")
    else:
        assert "has the tag !!python" in problem(path, content)
    assert not marker.exists()


@pytest.mark.parametrize(
    "url",
    ["http://localhost/a.yaml", "https://x/a.yaml", "s3://bucket/a.yaml", "detectron2://a.yaml"],
)
def test_remote_bases_are_refused(tmp_path, url, monkeypatch):
    monkeypatch.setattr("iopath.common.file_io.PathManager.open", pytest.fail)
    monkeypatch.setattr("urllib.request.urlopen", pytest.fail)
    assert "is a URL" in problem(tmp_path / "a.yaml", f"_BASE_: {url}\n")
    assert "is a URL" in problem(tmp_path / "b.yaml", f"_BASE_: [TOOD-R50-1x, '{url}']\n")


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "is empty"),
        ("# a comment\n", "is empty"),
        ("- MODEL\n- SOLVER\n", "its top level is a list"),
        ("MODEL\n", "its top level is a str"),
        ("a: b: c\n", "is not valid YAML: mapping values are not allowed here (line 1, column 5)"),
        ("MODEL:\n\tDEVICE: cpu\n", "is not valid YAML"),
        ("MODEL: {DEVICE: cpu}\nMODEL: {WEIGHTS: ''}\n", "the key MODEL occurs twice"),
        ("MODEL:\n  DEVICE: cpu\n  DEVICE: cuda\n", "the key DEVICE occurs twice"),
        ("3: cpu\n", "The key 3 in"),
        ("MODEL: {3: cpu}\n", "The key 3 in MODEL in"),
        ("OUTPUT_DIR: 2021-01-01\n", "OUTPUT_DIR in {path} is a date"),
        ("MODEL: {DEVICE: !!set {a, b}}\n", "MODEL.DEVICE in {path} is a set"),
        ("OUTPUT_DIR: !!int abc\n", "does not fit its tag"),
        ("OUTPUT_DIR: !!timestamp abc\n", "does not fit its tag"),
        ("OUTPUT_DIR: !local abc\n", "is not valid YAML"),
        ("? [a, b]\n: 3\n", "is not valid YAML"),
        ("\0", "is not valid YAML"),
        (b"\x80\x02PK", "is not a text file in UTF-8. Save it as UTF-8 if it is a config file"),
        ("OUTPUT_DIR: caf\xe9\n".encode("latin-1"), "is not a text file in UTF-8"),
        (b"\xff\xfeO", "is not a text file in UTF-8"),
        ("SEED: 1\n---\nSEED: 2\n", "expected a single document in the stream, but found another"),
        ("A: &a {X: 1}\nB: &a {X: 1}\n", "found duplicate anchor 'a', second occurrence (line 2"),
        ("A: *a\n", "found undefined alias 'a' (line 1, column 4)"),
        ("SEED: " + "1" * 5000, "has a number with too many digits."),
        ("A: =\n", "has the tag !!value (line 1, column 4). Only plain YAML values are accepted"),
        ("MODEL: {yes: 1}\n", "The key True in MODEL in {path} must be text. Put it in quotes"),
        ('OUTPUT_DIR: "a\\0b"\n', "OUTPUT_DIR in {path} is 'a\\x00b', which has a character that"),
        ('OUTPUT_DIR: "\\ud800"\n', "OUTPUT_DIR in {path} is '\\ud800', which has a character"),
        ("".join(f"{' ' * i}a:\n" for i in range(400)), "is nested too deeply"),
        ("A: " + "{a: " * 3000, "is nested too deeply"),
        (f"_BASE_: {'x' * 5000}\n", "the _BASE_ of {path}, "),
        ("- " * 5000, "is nested too deeply"),
        ("A: &a [*a]\n", "too many or too deeply nested values"),
        ("_BASE_: 3\n", "_BASE_ in {path} must be a file name"),
        ("_BASE_:\n", "_BASE_ in {path} must be a file name"),
        ("_BASE_: [a.yaml, 3]\n", "_BASE_ in {path} must be a file name"),
        ("_BASE_: nowhere.yaml\n", "does not exist"),
        ("_BASE_: /\n", "is not a file"),
    ],
)
def test_what_is_not_a_config_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    assert message.format(path=path) in problem(path, content)


def test_expanding_aliases_are_bounded(tmp_path):
    lines = [f"A0: &a0 [{'x, ' * 9}x]\n"]
    lines += [f"A{i}: &a{i} [{f'*a{i - 1}, ' * 9}*a{i - 1}]\n" for i in range(1, 12)]
    assert "too many" in problem(tmp_path / "a.yaml", "".join(lines))


def test_expanding_merge_keys_are_bounded(tmp_path, monkeypatch):
    """Older versions of PyYAML copy merged keys again and again."""
    monkeypatch.setattr("tood.config.yaml_files._MAX_VALUES", 5)
    content = "A: &a {B: 1, C: 2, D: 3}\nE: {<<: [*a, *a], F: 1, G: 2, H: 3}"
    assert "merge keys make more than 5 values" in problem(tmp_path / "a.yaml", content)


def test_large_files_are_not_parsed(tmp_path):
    assert "larger than 1 MB" in problem(tmp_path / "a.yaml", "A: " + "x" * 1_000_001)


def test_unreadable_file(tmp_path):
    (tmp_path / "a.yaml").symlink_to(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml cannot be read"):
        read_config_layers(tmp_path / "a.yaml")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "b", "a"), ("a", "b", "c", "b")])
def test_base_cycles_are_refused(tmp_path, names):
    for name, base in itertools.pairwise(names):
        (tmp_path / f"{name}.yaml").write_text(f"_BASE_: ../{tmp_path.name}/{base}.yaml\n")
    with pytest.raises(ConfigError, match="form a cycle: .*yaml -> .*yaml"):
        read_config_layers(tmp_path / "a.yaml")


def test_number_of_bases_is_bounded(tmp_path):
    (tmp_path / "0.yaml").write_text("OUTPUT_DIR: a\n")
    for i in range(1, 8):
        (tmp_path / f"{i}.yaml").write_text(f"_BASE_: [{i - 1}.yaml, {i - 1}.yaml]\n")
    with pytest.raises(ConfigError, match="more than 64 files"):
        read_config_layers(tmp_path / "7.yaml")


def test_bases_come_first(tmp_path, monkeypatch):
    """Paths are relative to the file that names them, "~" is the home folder, names are ours."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sub").mkdir()
    (tmp_path / "home.yaml").write_text("OUTPUT_DIR: home\n")
    (tmp_path / "one.yaml").write_text("_BASE_: ~/home.yaml\nOUTPUT_DIR: one\n")
    (tmp_path / "sub" / "two.yaml").write_text("OUTPUT_DIR: two\n")
    (tmp_path / "top.yaml").write_text("_BASE_: [one.yaml, sub/two.yaml, TOOD-R50-1x]\nSEED: 1\n")
    monkeypatch.chdir("/")
    layers = read_config_layers(tmp_path / "top.yaml")
    assert [path.name for path, _ in layers] == [
        "home.yaml",
        "one.yaml",
        "two.yaml",
        "Base-TOOD.yaml",
        "TOOD-R50-1x.yaml",
        "top.yaml",
    ]
    assert layers[0][1] == {"OUTPUT_DIR": "home"} and layers[-1][1] == {"SEED": 1}


def test_anchors_merge_keys_and_byte_order_mark(tmp_path):
    content = "\ufeffA: &a {X: 1, Y: 2}\nB: {<<: *a, Y: 3}\nC: {<<: *a}\n"
    (tmp_path / "a.yaml").write_text(content, encoding="utf-8")
    ((_, content),) = read_config_layers(tmp_path / "a.yaml")
    assert content == {"A": {"X": 1, "Y": 2}, "B": {"X": 1, "Y": 3}, "C": {"X": 1, "Y": 2}}


def test_utf16_of_windows_editors(tmp_path):
    for encoding in ("utf-16", "utf-8-sig"):
        (tmp_path / "a.yaml").write_text("OUTPUT_DIR: caf\u00e9\n", encoding=encoding)
        ((_, content),) = read_config_layers(tmp_path / "a.yaml")
        assert content == {"OUTPUT_DIR": "caf\u00e9"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_permission_denied(tmp_path):
    (tmp_path / "a.yaml").write_text("SEED: 1\n")
    (tmp_path / "a.yaml").chmod(0)
    with pytest.raises(ConfigError, match=r"a\.yaml cannot be read: Permission denied"):
        read_config_layers(tmp_path / "a.yaml")


def test_read_errors_name_the_file(tmp_path, monkeypatch):
    """As above, where the tests run as root."""

    def deny(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", deny)
    (tmp_path / "a.yaml").write_text("SEED: 1\n")
    with pytest.raises(ConfigError, match=r"a\.yaml cannot be read: Permission denied"):
        read_config_layers(tmp_path / "a.yaml")
