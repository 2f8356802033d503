"""``tood check-data``: what is in the datasets of a config, and what is wrong with them."""

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from detectron2.config import CfgNode
from PIL import Image
from tabulate import tabulate

from tood_runtime.cli.parser import EXIT_OK
from tood_runtime.output_files import make_output_folder, validate_output_file, write_json

from ..analysis.dataset_page import CheckedSet, write_page
from ..data.checking import check_dataset, compare_sets, join_sets
from ..data.findings import Finding, one_line
from ..data.model_input import ModelInput
from ..data.near_duplicates import Fingerprints, fingerprint_images
from ..data.registration import load_dataset, read_datasets
from ..data.size_checks import PERCENTILES, SizeSummary
from ..errors import ConfigError
from .common import load_model_config, start_logging, table

# Classes in the table on the terminal; the page and the JSON file have more.
_MAX_CLASSES = 20
_MAX_NAME = 40
# Examples of a finding on the terminal.
_MAX_EXAMPLES = 2
# The exit code if the data fails the check.
EXIT_FINDINGS = 1


def main(args: argparse.Namespace) -> int:
    """Print what was found, and write it where ``--output`` and ``--json`` say.

    Args:
        args: the options of ``tood check-data``.

    Returns:
        1 if there are errors, or warnings with ``--strict``; else 0.
    """
    start_logging()
    validate_output_file("--json", args.json)
    # The backbone is built for its strides only.
    cfg = load_model_config(args, trained=False, opts=["MODEL.DEVICE", args.device or "cpu"])
    problems = prepare_splits(cfg)
    output = None if args.output is None else make_output_folder(args.output)
    model_input = ModelInput.from_config(cfg)
    with warnings.catch_warnings():
        # The report names them.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        sets, shared = check_sets(cfg, problems, model_input, args.decode)
    print_report(sets, shared)
    content = {
        **{name: checked.report.as_dict() for name, checked in sets.items()},
        "compared": [finding.as_dict() for finding in shared],
    }
    if output is not None:
        write_output(output, args, sets, shared, model_input.apply_exif)
        write_json(output / "report.json", content)
        print(f"\nPage: {output / 'index.html'}")
    if args.json is not None:
        write_json(args.json, content)
    return exit_code(sets, shared, args.strict)


def prepare_splits(cfg: CfgNode) -> dict[str, list[str]]:
    """Read the datasets that the config names, and return by split why they cannot be used.

    Where only one of ``TRAIN_ANNOTATIONS`` and ``TEST_ANNOTATIONS`` is set, only that set is
    checked: COCO, the default of the other, is not what is meant.

    Raises:
        ConfigError: there is no dataset, or data keys contradict each other.
        DataError: a dataset cannot be read.
    """
    given = [split for split in ("TRAIN", "TEST") if cfg.DATASETS[f"{split}_ANNOTATIONS"]]
    for split in ("TRAIN", "TEST"):
        if given and split not in given and not cfg.DATASETS[f"{split}_IMAGES"]:
            cfg.DATASETS[split] = ()
    problems = read_datasets(cfg)
    problems = {split: found for split, found in problems.items() if cfg.DATASETS[split]}
    if not problems:
        raise ConfigError(
            "DATASETS.TRAIN and DATASETS.TEST are empty, so there is nothing to check. Set "
            "DATASETS.TRAIN_ANNOTATIONS and TRAIN_IMAGES."
        )
    return problems


def check_sets(
    cfg: CfgNode,
    problems: Mapping[str, Sequence[str]],
    model_input: ModelInput,
    decode: bool = True,
) -> tuple[dict[str, CheckedSet], list[Finding]]:
    """Check the datasets of a config, each split as one set, and compare the splits.

    Args:
        cfg: with datasets that were read.
        problems: by split, "TRAIN" and "TEST", why its datasets cannot be used.
        model_input: how the model sees them.
        decode: whether to decode all images.

    Returns:
        The sets by "train" and "test", and what both share.
    """
    sets: dict[str, CheckedSet] = {}
    prints: dict[str, Fingerprints] = {}
    for split, reasons in problems.items():
        dataset = join_sets([load_dataset(name) for name in cfg.DATASETS[split]])
        name = split.lower()
        if decode:
            prints[name] = fingerprint_images(dataset.file_names, apply_exif=model_input.apply_exif)
        report = check_dataset(dataset, model_input, split == "TRAIN", prints.get(name), reasons)
        sets[name] = CheckedSet(dataset, report)
    if len(sets) < 2:
        return sets, []
    pair = (prints["train"], prints["test"]) if decode else None
    return sets, compare_sets(sets["train"].dataset, sets["test"].dataset, pair)


def exit_code(sets: dict[str, CheckedSet], shared: Sequence[Finding], strict: bool) -> int:
    """1 if anything fails the check, else 0."""
    findings = [f for checked in sets.values() for f in checked.report.findings] + list(shared)
    failing = ("error", "warning") if strict else ("error",)
    return EXIT_FINDINGS if any(f.kind.severity in failing for f in findings) else EXIT_OK


def print_report(sets: dict[str, CheckedSet], shared: Sequence[Finding]) -> None:
    """Print counts, classes, sizes and findings as tables."""
    reports = {name: checked.report for name, checked in sets.items()}
    rows: list[list[object]] = [
        [name, r.num_images, r.num_boxes, r.num_crowds, r.num_empty_images, len(r.class_counts)]
        for name, r in reports.items()
    ]
    header = ["set", "images", "boxes", "crowds", "images without boxes", "classes"]
    print(f"\n{table(rows, header, [''] * len(header))}")
    print(f"\n{_class_table({name: r.class_counts for name, r in reports.items()})}")
    summaries = [(name, s) for name, r in reports.items() for s in r.sizes]
    print("\nObjects at the input size of the model, percentiles of sqrt(area) in pixels\n")
    print(_size_table(summaries))
    if summaries[0][1].without_point is not None:
        print("\nObjects by the level whose anchors have their size, and those without any point\n")
        print(_level_table(summaries))
    for name, report in reports.items():
        _print_findings(f"{name}: {report.source}", report.findings)
    if len(sets) > 1:
        _print_findings("training and test set compared", shared)


def _class_table(counts: dict[str, dict[str, int]]) -> str:
    names = list(dict.fromkeys(name for part in counts.values() for name in part))
    names.sort(key=lambda name: -sum(part.get(name, 0) for part in counts.values()))
    rows = [
        [_short(name), *(part.get(name, 0) for part in counts.values())]
        for name in names[:_MAX_CLASSES]
    ]
    if rest := names[_MAX_CLASSES:]:
        sums = [sum(part.get(name, 0) for name in rest) for part in counts.values()]
        rows.append([f"({len(rest)} more)", *sums])
    header = ["class", *counts]
    # A class may be called 007 or 1e5.
    return tabulate(rows, header, tablefmt="github", disable_numparse=[0])


def _size_table(summaries: Sequence[tuple[str, SizeSummary]]) -> str:
    header = ["set", "input", "small", "medium", "large", *(f"{p}%" for p in PERCENTILES)]
    rows = [
        [name, s.name, s.small, s.medium, s.large, *(s.percentiles or [None] * len(PERCENTILES))]
        for name, s in summaries
    ]
    return table(rows, header, [""] * 5 + [".1f"] * len(PERCENTILES))


def _level_table(summaries: Sequence[tuple[str, SizeSummary]]) -> str:
    strides = [f"stride {stride}" for stride in summaries[0][1].per_level]
    header = ["set", "input", *strides, "no point", "nor if flipped"]
    rows = [
        [name, s.name, *s.per_level.values(), s.without_point, s.without_point_flipped]
        for name, s in summaries
    ]
    return table(rows, header, [""] * len(header))


def _print_findings(title: str, findings: Sequence[Finding]) -> None:
    print(f"\nFindings, {one_line(title)}")
    for finding in findings:
        print(f"  {finding.kind.severity:<8} {finding.kind.what}: {finding.count}")
        for example in finding.examples[:_MAX_EXAMPLES]:
            print(f"{'':<11}{example}")
        if finding.kind.fix:
            print(f"{'':<11}{finding.kind.fix}")
    if not findings:
        print("  none")


def _short(name: str) -> str:
    text = one_line(name).replace("|", "\\|")  # which would end a cell of the table
    return text if len(text) <= _MAX_NAME else f"{text[: _MAX_NAME - 3]}..."


def write_output(
    folder: Path,
    args: argparse.Namespace,
    sets: dict[str, CheckedSet],
    shared: Sequence[Finding],
    apply_exif: bool,
) -> None:
    """Write the page into a folder.

    Raises:
        ConfigError: it cannot be written.
    """
    path = folder / "index.html"
    title = f"Data of {one_line(args.config_file)}"
    try:
        write_page(path, title, sets, shared, args.num_images, apply_exif)
    except OSError as error:
        raise ConfigError(
            f"Cannot write {path}: {error.strerror}. Choose another folder."
        ) from error
