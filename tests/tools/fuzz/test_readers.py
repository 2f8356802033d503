"""A short run of the attacks on the readers, and all findings of long ones once more.

The longer one is ``python -m tools.fuzz.readers``.
"""

from random import Random

import pytest

from tests.helpers import ROOT
from tood.export.torch_export import has_torch_export
from tools.fuzz.readers.files import load_case
from tools.fuzz.readers.mutations.structures import yaml_value
from tools.fuzz.readers.program import READERS, attack, make_case, problem_key, replay
from tools.fuzz.readers.samples import BUILDERS
from tools.fuzz.readers.watcher import Limits, Watcher

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
CORPUS = sorted((ROOT / "tests" / "fuzz_corpus").glob("*.json"))
LIMITS = Limits(cpu_s=10, wall_s=300, idle_s=60, memory_mb=1000)
CASES = 30


@pytest.fixture(scope="module")
def watcher(tmp_path_factory):
    pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    pytest.importorskip("safetensors")
    if not has_torch_export():
        pytest.skip("the samples of exported files need a newer PyTorch")
    with Watcher(tmp_path_factory.mktemp("watched"), READERS, LIMITS) as watcher:
        yield watcher


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_short_run_finds_nothing(watcher, tmp_path, kind):
    lines = []
    tally = attack(watcher, kind, range(CASES), 0, tmp_path, LIMITS, lines.append)
    assert not tally.findings, lines
    assert sum(tally.counts.values()) == CASES
    # The mutations are neither harmless nor so harsh that only the first check is reached.
    assert tally.counts["refused"] >= CASES / 5, tally.counts


def test_the_corpus_is_read_without_findings(watcher):
    results = replay(watcher, ((path.stem, load_case(path)) for path in CORPUS), LIMITS)
    assert len(results) >= 10
    found = {name: result.problem for name, result in results.items() if result.is_finding}
    assert not found


def test_cases_are_the_same_in_each_run():
    for kind in ("coco", "image", "config"):
        first = [make_case(kind, 3, index) for index in range(20)]
        assert first == [make_case(kind, 3, index) for index in range(20)]
        assert len({str(done) for _, done in first}) > 10
        assert first != [make_case(kind, 4, index) for index in range(20)]


def test_findings_are_told_apart_by_their_place(watcher):
    case, _ = make_case("coco", 0, 0)
    assert problem_key(watcher.run(case)) == "refused "


def test_yaml_whose_aliases_repeat_each_other_is_mutated_in_bounded_memory():
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    text = "\n".join(["a0: &a0 [x]", *levels])
    for seed in range(9):
        changed = yaml_value(text.encode(), Random(seed))
        assert changed is not None and len(changed) < 2_000_000
