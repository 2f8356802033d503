"""Lines of metrics on their way to a tracker: order, retries, records, secrets, names."""

import json
import logging
import sys
import time
from types import ModuleType

import pytest

from tood.config.validation import validate_solver
from tood.engine.tracking import require_trackers
from tood.engine.tracking.base import RejectedError, RunDescription, Tracker
from tood.engine.tracking.metrics_file import MetricsReader
from tood.engine.tracking.mlflow_tracker import metric_name
from tood.engine.tracking.record import SentRecord
from tood.engine.tracking.secrets import hide_in_value, hide_secrets
from tood.engine.tracking.sender import Sender
from tood.errors import ConfigError


class FakeTracker(Tracker):
    """Fails as often as it is told to."""

    label = "Fake"

    def __init__(self, failures=(), is_local=True):
        super().__init__(RunDescription(None, "project", "name"))
        self.failures, self.is_local = list(failures), is_local
        self.rows, self.status, self.started = [], None, []

    def _fail(self):
        error = self.failures.pop(0) if self.failures else None
        if error is not None:
            raise error

    def start(self, run_id):
        self._fail()
        self.started.append(run_id)
        return run_id or "new"

    def log(self, iteration, metrics):
        self._fail()
        self.rows.append((iteration, dict(metrics)))

    def finish(self, status):
        self.status = status


@pytest.fixture
def record(tmp_path):
    def build(resumed=True, training="run"):
        return SentRecord(tmp_path / "trackers/fake.json", training, resumed=resumed)

    return build


def send(tracker, record, lines, status="finished"):
    sender = Sender(tracker, record, retry_seconds=0.01)
    sender.start()
    sender.send(lines)
    end = time.monotonic() + 30
    while tracker.failures and time.monotonic() < end:
        time.sleep(0.01)
    sender.close(status)
    assert tracker.status in (status, None)
    return sender


def test_failures_are_announced_once_and_made_up_for(record, caplog):
    down = ConnectionError("cannot reach https://me:pass@host/x?key=1")
    tracker = FakeTracker([down, down, None, down, down])
    send(tracker, record(), [(i, {"loss": float(i)}) for i in (19, 39)])
    assert tracker.rows == [(19, {"loss": 19.0}), (39, {"loss": 39.0})]
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1 and "Fake cannot be reached" in warnings[0]
    assert "https://***@host/x?***" in warnings[0] and "pass" not in caplog.text


def test_what_is_rejected_is_left_out(record, caplog):
    tracker = FakeTracker([None, RejectedError("bad name"), None, RejectedError("bad name")])
    send(tracker, record(), [(i, {"loss": float(i)}) for i in (19, 39, 59, 79)])
    assert [iteration for iteration, _ in tracker.rows] == [39, 79]
    assert caplog.text.count("bad name") == 1


def test_a_service_that_hangs_does_not_hold_up_the_training(record, caplog):
    tracker = FakeTracker(is_local=False)
    tracker.start = lambda run_id: time.sleep(0.5)
    sender = Sender(tracker, record())
    start = time.monotonic()
    sender.start()
    sender.send([(19, {"loss": 1.0})])
    sender.close("finished", seconds=0.05)
    assert time.monotonic() - start < 0.4
    assert "Fake has not answered for 0.05 seconds" in caplog.text


def test_settings_that_cannot_work_are_shown_at_once(record):
    with pytest.raises(ConfigError, match="no login"):
        Sender(FakeTracker([ConfigError("no login")]), record()).start()


def test_a_record_continues_with_what_is_missing(record):
    """An evaluation that the iteration lacked is sent; nothing is sent twice."""
    first = FakeTracker()
    send(first, record(resumed=False), [(19, {"loss": 1.0}), (39, {"loss": 2.0})], "killed")
    assert first.started == [None] and first.status == "killed"
    second = FakeTracker()
    lines = [(19, {"loss": 9.0, "AP": 3.0}), (39, {"loss": 9.0, "AP": 4.0}), (59, {"loss": 5.0})]
    send(second, record(), lines)
    assert second.started == ["new"]
    assert second.rows == [(39, {"AP": 4.0}), (59, {"loss": 5.0})]
    third = FakeTracker()
    send(third, record(), lines)
    assert third.rows == []
    for other in (record(training="other"), record(resumed=False)):
        assert other.run_id is None and other.iteration == -1


def test_another_run_of_the_tracker_gets_everything(record):
    send(FakeTracker(), record(resumed=False), [(19, {"loss": 1.0})])
    tracker = FakeTracker()
    tracker.start = lambda run_id: "another"
    send(tracker, record(), [(19, {"loss": 1.0}), (39, {"loss": 2.0})])
    assert [iteration for iteration, _ in tracker.rows] == [19, 39]


def test_a_run_that_lost_its_last_metrics_gets_them_again(record):
    """The service was killed with the training, and says what it has."""
    lines = [(i, {"loss": 1.0}) for i in (19, 39, 59)]
    send(FakeTracker(), record(resumed=False), lines)
    tracker = FakeTracker()
    tracker.known_iteration = 39
    send(tracker, record(), lines)
    assert [iteration for iteration, _ in tracker.rows] == [59]
    tracker = FakeTracker()
    tracker.known_iteration = 59
    send(tracker, record(), lines)
    assert tracker.rows == []


def test_what_a_buffered_service_has_counts_when_its_run_has_ended(record):
    tracker = FakeTracker()
    tracker.is_buffered = True
    sender = Sender(tracker, record(resumed=False))
    sender.start()
    sender.send([(19, {"loss": 1.0})])
    time.sleep(0.1)
    assert tracker.rows and record().iteration == -1  # if it is killed now, it is sent again
    sender.close("finished")
    assert record().iteration == 19


def test_a_damaged_record_is_announced(record, tmp_path, caplog):
    (tmp_path / "trackers").mkdir()
    (tmp_path / "trackers/fake.json").write_text("{")
    assert record().run_id is None and "is damaged" in caplog.text


def test_lines_are_read_while_the_file_grows(tmp_path):
    path = tmp_path / "metrics.json"
    reader = MetricsReader(path)
    assert reader.read() == []
    row = json.dumps({"iteration": 59, "loss": 1.0, "name": "x"})
    # An evaluation between two lines comes after the second one; a line is cut off.
    path.write_text(f'{row}\n{{"bbox/AP": NaN, "iteration": 49}}\nnonsense\n{{"iteration": 79, "lo')
    (first, values), second = reader.read()
    assert first == 49 and list(values) == ["bbox/AP"] and second == (59, {"loss": 1.0})
    with path.open("a") as file:
        file.write('ss": 2}\n')
    assert reader.read() == [(79, {"loss": 2.0})] and reader.read() == []


def test_secrets_are_hidden():
    environ = {
        "WANDB_API_KEY": "abcdef123456",
        "HOME": "/home/x",
        "MY_TOKEN": "ab",
        "KEYS": "/a/b/c",
    }
    text = "key abcdef123456 for s3://u:p@bucket/a.pth?sig=XYZ in /home/x/a/b/c, table"
    expected = "key *** for s3://***@bucket/a.pth?*** in /home/x/a/b/c, table"
    assert hide_secrets(text, environ) == expected
    assert hide_in_value(("https://a.b/c?d=e", 1, True)) == ["https://a.b/c?***", 1, True]


def test_names_in_mlflow():
    for name in ("bbox/AP-tv/monitor", "loss_cls", "a b-c.d:e"):
        assert metric_name(name) == name
    assert metric_name("bbox/AP-café (x)") == "bbox/AP-caf_xe9_ _x28_x_x29_"
    for name in ("bbox/AP-a//b", "bbox/AP-a/../b", "/a", "bbox/AP-x/"):
        assert "/" not in metric_name(name)
    assert len(metric_name("x" * 999)) == 250


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named_with_its_extra(tiny_cfg, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    tiny_cfg.TRACKING.TRACKERS = [name]
    with pytest.raises(ConfigError, match=rf'pip install "tood-detectron2\[{name}\]"'):
        require_trackers(tiny_cfg)


def test_a_folder_of_wandbs_name_is_no_package(tiny_cfg, monkeypatch):
    """W&B creates such a folder, which Python imports as an empty package."""
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    tiny_cfg.TRACKING.TRACKERS = ["wandb"]
    with pytest.raises(ConfigError, match="needs the package wandb"):
        require_trackers(tiny_cfg)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("TRACKERS", ["comet"], "TRACKERS is .*Available: wandb, mlflow"),
        ("TAGS", [1], "TAGS is .* must be a list of texts"),
        ("PROJECT", "", "PROJECT is '', but must be text"),
    ],
)
def test_settings_that_cannot_work(tiny_cfg, key, value, message):
    tiny_cfg.TRACKING[key] = value
    with pytest.raises(ConfigError, match=message):
        validate_solver(tiny_cfg)
