"""The cases of ``python -m tools.benchmark``, by the group that ``--cases`` chooses."""

from collections.abc import Callable, Iterator

from tools.benchmark.cases.assign import assigner_cases
from tools.benchmark.cases.dcn import dcn_cases
from tools.benchmark.cases.head import head_cases
from tools.benchmark.cases.model import (
    compile_cases,
    inference_cases,
    retinanet_cases,
    training_cases,
)
from tools.benchmark.cases.postprocess import postprocessing_cases
from tools.benchmark.cases.two_stage import two_stage_cases
from tools.benchmark.harness import Case, Settings

GROUPS: dict[str, Callable[[Settings], Iterator[Case]]] = {
    "assign": assigner_cases,
    "head": head_cases,
    "postprocess": postprocessing_cases,
    "dcn": dcn_cases,
    "model": inference_cases,
    "train": training_cases,
    "retinanet": retinanet_cases,
    "two-stage": two_stage_cases,
    "compile": compile_cases,
}
