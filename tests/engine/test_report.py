"""The report at the end of a training: about its last evaluation, and never a reason to fail."""

import json
import logging
import re
import shutil
from types import SimpleNamespace

import pytest

from tests.engine.helpers import read_metrics
from tood.engine import Trainer
from tood.engine import report as engine_report
from tood.engine.report import write_run_report
from tood.report import run as report_run


@pytest.fixture
def cfg(quick_cfg, tmp_path):
    quick_cfg.TEST.REPORT = True
    quick_cfg.SOLVER.MAX_ITER = 4
    quick_cfg.TEST.EVAL_PERIOD = 2
    quick_cfg.MODEL.TOOD.WARMUP.EPOCHS = 0.5
    quick_cfg.MODEL.TOOD.HEAD.PRIOR_PROB = 0.3  # there are detections
    return quick_cfg


def train(cfg) -> Trainer:
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def test_report_of_a_training(cfg, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trainer = train(cfg)
    page = (tmp_path / "report.html").read_text()
    results = trainer._last_eval_results
    assert f'title="{results["bbox"]["AP"]!r}"' in page or "nan" in repr(results["bbox"]["AP"])
    assert read_metrics(tmp_path)[-1]["iteration"] == 4
    assert "Losses by iteration" in page and "IMS_PER_BATCH: 2" in page
    (message,) = [x for x in caplog.messages if x.startswith("The report")]
    assert re.fullmatch(rf"The report is in {tmp_path}/report.html \(\d+\.\d s\)\.", message)

    # The file of results is that of an earlier evaluation.
    (tmp_path / "report.html").unlink()
    path = tmp_path / "inference/coco_instances_results.json"
    results = {"bbox": {"AP": 12.5}}
    assert write_run_report(cfg, results, str(tmp_path)) is None
    assert "this evaluation's is 12.5000: the file is of another one." in caplog.text
    path.unlink()
    assert write_run_report(cfg, results, str(tmp_path)) is None
    assert "There is no report: The detections" in caplog.text
    assert not (tmp_path / "report.html").exists()


def test_failures_are_one_line(cfg, caplog, monkeypatch):
    def fail(*_):
        raise MemoryError("first\nsecond")

    monkeypatch.setattr(report_run, "build_run_report", fail)
    assert write_run_report(cfg, {"bbox": {"AP": 1.0}}) is None
    (record,) = caplog.records
    assert record.getMessage() == "There is no report: first second"
    assert record.levelname == "WARNING" and not record.exc_info


def test_when_there_is_none(cfg, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(report_run, "build_run_report", lambda *_: calls.append(1))
    results = {"bbox": {"AP": 1.0}}
    assert write_run_report(cfg, {}) is None and write_run_report(cfg, None) is None
    with monkeypatch.context() as patch:
        patch.setattr(engine_report.comm, "is_main_process", lambda: False)
        assert write_run_report(cfg, results) is None
    cfg.TEST.REPORT = False
    assert write_run_report(cfg, results) is None and not calls
    cfg.TEST.REPORT = True
    write_run_report(cfg, results)
    assert calls


def test_no_report_of_a_failed_training(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "run_step", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(cfg)
    assert not (tmp_path / "report.html").exists()


def test_report_of_a_training_that_stopped_early(cfg, tmp_path, monkeypatch):
    """Its file of results is that of the last evaluation."""
    written = []

    def build(cfg, folder, results, _):
        written.append(results)
        return SimpleNamespace(path=folder)

    monkeypatch.setattr(report_run, "build_run_report", build)
    monkeypatch.setattr("tood.report.page.write_report", lambda _: None)
    monkeypatch.setattr(Trainer, "test", lambda *_: {"bbox": {"AP": 1.0}})
    cfg.SOLVER.MAX_ITER, cfg.TEST.PATIENCE = 20, 1
    train(cfg)
    assert written == [{"bbox": {"AP": 1.0}}]


def test_several_test_sets(cfg, tmp_path):
    from tood.data.registration import register_coco

    names = []
    for index in range(2):
        path = tmp_path / f"val{index}.json"
        shutil.copy(cfg.DATASETS.TEST_ANNOTATIONS, path)
        names.append(register_coco(str(path), cfg.DATASETS.TEST_IMAGES))
    cfg.DATASETS.TEST_ANNOTATIONS = cfg.DATASETS.TEST_IMAGES = ""
    cfg.DATASETS.TEST = tuple(names)
    content = json.loads(path.read_text())["annotations"]
    results = {}
    for name, part in zip(names, (content, content[1:]), strict=True):
        folder = tmp_path / "inference" / name
        folder.mkdir(parents=True)
        entries = [{**entry, "score": 0.9} for entry in part]
        (folder / "coco_instances_results.json").write_text(json.dumps(entries))
    report = report_run.build_run_report(cfg)
    assert [evaluated.name for evaluated in report.sets] == names
    aps = [evaluated.coco.overall["AP"] for evaluated in report.sets]
    assert aps[0] == pytest.approx(100) and aps[1] < 100
    results = {name: {"bbox": {"AP": ap}} for name, ap in zip(names, aps, strict=True)}
    run = report_run.build_run_report(cfg, None, results).run
    assert run.metrics is None and run.results[f"{names[1]}/bbox/AP"] == aps[1]
    (tmp_path / "metrics.json").write_text('{"iteration": 9, "bbox_TTA/AP": 2.5}')
    run = report_run.build_run_report(cfg, tmp_path).run
    assert run.results == {"bbox_TTA/AP": 2.5}
    results[names[1]]["bbox"]["AP"] += 1
    with pytest.raises(ValueError, match="is of another one"):
        report_run.build_run_report(cfg, None, results)
