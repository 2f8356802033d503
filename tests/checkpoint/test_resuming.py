"""Resuming: from a whole checkpoint of the same run, completely, or not at all."""

import pytest
import torch

from tests.checkpoint.builders import equal_weights
from tood.checkpoint import CheckpointInfo, TOODCheckpointer
from tood.checkpoint.resuming import (
    read_checkpoint_run_id,
    read_run_id,
    set_aside_last_checkpoint,
)
from tood.checkpoint.safe_load import is_whole
from tood.errors import CheckpointError


@pytest.fixture
def save(model, tmp_path):
    """Saves a checkpoint of a run after an iteration; ``with_info=False`` as version 0.1 did."""

    def build(name, iteration, run_id="", with_info=True):
        info = (lambda: CheckpointInfo("A: 1", run_id=run_id)) if with_info else None
        return TOODCheckpointer(model, str(tmp_path), info=info).save(name, iteration=iteration)

    return build


def damage(path, position=-2000):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert not is_whole(path)


def flip_weights(path):
    damage(path, path.stat().st_size // 2)


@pytest.mark.parametrize("with_info", [True, False])
@pytest.mark.parametrize(
    "fault", [flip_weights, lambda x: x.unlink(), lambda x: x.write_bytes(b"")]
)
def test_damaged_last_checkpoint_falls_back(
    model, save, tmp_path, caplog, fault, with_info, other_model
):
    save("model_0000009", 9, with_info=with_info)
    newest = save("a_newer_one", 19, with_info=with_info)
    save("model_0000014", 14, with_info=with_info)
    fault(save("model_final", 29, with_info=with_info))
    loaded = other_model()
    checkpointer = TOODCheckpointer(loaded, str(tmp_path))
    assert checkpointer.resume_or_load("", resume=True) == {"iteration": 19}
    assert checkpointer.resumed_from == newest
    assert equal_weights(model.state_dict(), loaded.state_dict())
    warnings = [x.getMessage() for x in caplog.records if x.levelname == "WARNING"]
    assert len(warnings) == 1 and "model_final.pth" in warnings[0] and str(newest) in warnings[0]


def test_fall_back_stays_within_the_run(save, model, tmp_path):
    save("old", 99, "first")
    own = save("model_0000004", 4, "second")
    save("later", 15, "second")
    flip_weights(tmp_path / "later.pth")
    flip_weights(save("model_0000009", 9, "second"))
    assert TOODCheckpointer(model, str(tmp_path)).find_last_checkpoint() == own
    own.unlink()
    with pytest.raises(CheckpointError, match=r"model_0000009\.pth is damaged.* no earlier"):
        TOODCheckpointer(model, str(tmp_path)).find_last_checkpoint()


def test_never_a_newer_one(save, model, tmp_path):
    """The last checkpoint was set by hand to an earlier one, which is damaged."""
    save("later", 15, "a")
    flip_weights(save("model_0000009", 9, "a"))
    with pytest.raises(CheckpointError, match="no earlier checkpoint"):
        TOODCheckpointer(model, str(tmp_path)).find_last_checkpoint()


def test_run_id(save, model, tmp_path):
    path = save("model_0000009", 9, "first")
    checkpointer = TOODCheckpointer(model, str(tmp_path))
    assert checkpointer.find_last_checkpoint("first") == path
    with pytest.raises(CheckpointError, match=r"belongs to the run first.*run second"):
        checkpointer.resume_or_load("", resume=True, run_id="second")
    save("model_0000019", 19, with_info=False)
    assert checkpointer.resume_or_load("", resume=True, run_id="second") == {"iteration": 19}


def test_set_aside(save, model, tmp_path):
    checkpointer = TOODCheckpointer(model, str(tmp_path))
    assert set_aside_last_checkpoint(tmp_path) is None
    path = save("model_0000009", 9)
    assert checkpointer.has_checkpoint()
    assert set_aside_last_checkpoint(tmp_path) == path
    assert not checkpointer.has_checkpoint() and checkpointer.find_last_checkpoint() is None
    assert checkpointer.resume_or_load("", resume=True) == {} and checkpointer.resumed_from is None
    assert path.exists() and (tmp_path / "last_checkpoint.previous").read_text() == path.name


@pytest.mark.parametrize("text", ["", "..", "../../model.pth", "\0"])
def test_record_cannot_lead_out_of_the_folder(save, model, tmp_path, text):
    (tmp_path.parent / "model.pth").write_bytes(save("model_0000009", 9).read_bytes())
    (tmp_path / "last_checkpoint").write_text(text)
    checkpointer = TOODCheckpointer(model, str(tmp_path))
    assert checkpointer.find_last_checkpoint() == tmp_path / "model_0000009.pth"


def test_last_checkpoint_names_whole_files_only(save, model, tmp_path, monkeypatch):
    save("model_0000009", 9)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(CheckpointError, match="the disk is full.*Earlier checkpoints are intact"):
        save("model_0000019", 19)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000009.pth"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["last_checkpoint", "model_0000009.pth"]


# ---- another model or optimizer ---------------------------------------------------------------


def snapshot(model, optimizer):
    return {k: v.clone() for k, v in model.state_dict().items()}, repr(optimizer.state_dict())


def step(model, optimizer):
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def sgd(parameters, **options):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, **options)


def test_other_number_of_classes_is_not_resumed(model, tiny_cfg, other_model, tmp_path):
    optimizer = sgd(model.parameters())
    step(model, optimizer)
    TOODCheckpointer(model, str(tmp_path), optimizer=optimizer).save("model_0000009", iteration=9)
    tiny_cfg.MODEL.TOOD.NUM_CLASSES = 3
    loaded = other_model()
    optimizer = sgd(loaded.parameters())
    before = snapshot(loaded, optimizer)
    checkpointer = TOODCheckpointer(loaded, str(tmp_path), optimizer=optimizer)
    message = (
        r"(?s)tood_cls.*To fine-tune from it, set MODEL\.WEIGHTS to .*model_0000009\.pth.*OUTPUT"
    )
    with pytest.raises(CheckpointError, match=message):
        checkpointer.resume_or_load("", resume=True)
    after = snapshot(loaded, optimizer)
    assert equal_weights(before[0], after[0]) and before[1] == after[1]


class Trainer:
    """Holds its optimizer as detectron2's trainers do."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def state_dict(self):
        return {"iteration": 9, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state["optimizer"])


@pytest.mark.parametrize(
    "build, problem",
    [
        (lambda parameters: sgd(parameters[1:]), r"group 0 has \d+ parameters, not"),
        (lambda x: sgd([{"params": x[:3]}, {"params": x[3:]}]), "1 parameter groups, not 2"),
        (lambda x: sgd(x[::-1]), "momentum_buffer of parameter 0 has the shape"),
        (lambda x: torch.optim.AdamW(x), "another kind of optimizer"),
    ],
)
@pytest.mark.parametrize("holder", [lambda x: x, Trainer])
def test_state_of_another_optimizer_changes_nothing(
    model, other_model, tmp_path, build, problem, holder
):
    optimizer = sgd(model.parameters())
    step(model, optimizer)
    TOODCheckpointer(model, str(tmp_path), trainer=holder(optimizer)).save("m", iteration=9)
    loaded = other_model()
    optimizer = build(list(loaded.parameters()))
    before = snapshot(loaded, optimizer)
    checkpointer = TOODCheckpointer(loaded, str(tmp_path), trainer=holder(optimizer))
    with pytest.raises(CheckpointError, match=rf"optimizer .* does not fit: .*{problem}"):
        checkpointer.resume_or_load("", resume=True)
    after = snapshot(loaded, optimizer)
    assert equal_weights(before[0], after[0]) and before[1] == after[1]


@pytest.mark.parametrize("state", [3, [1], {"state": {}}, {"state": 1, "param_groups": [3]}])
def test_damaged_state_is_refused(model, tmp_path, state):
    TOODCheckpointer(model, str(tmp_path)).save("m", iteration=9, optimizer=state)
    optimizer = sgd(model.parameters())
    with pytest.raises(CheckpointError):
        TOODCheckpointer(model, str(tmp_path), optimizer=optimizer).resume_or_load("", resume=True)


def test_last_checkpoint_that_is_gone(save, model, tmp_path, caplog):
    """The run's own checkpoints are still there; those of an earlier run are none of it."""
    save("model_0000099", 99, "first")
    own = save("model_0000004", 4, "second")
    (tmp_path / "last_checkpoint").unlink()
    find = TOODCheckpointer(model, str(tmp_path)).find_last_checkpoint
    assert find("second") == own and "last_checkpoint is missing" in caplog.text
    assert find("third") is None and find() is None


def test_new_run_that_was_killed_while_it_took_the_folder(save, model, tmp_path):
    """The record of the old run is set aside, and run.json still has its id."""
    save("model_0000004", 4, "old")
    checkpointer = TOODCheckpointer(model, str(tmp_path))
    set_aside_last_checkpoint(tmp_path)
    assert checkpointer.find_last_checkpoint("old") is None
    save("model_0000009", 9, "new")
    (tmp_path / "last_checkpoint").unlink()
    assert checkpointer.find_last_checkpoint("new") == tmp_path / "model_0000009.pth"


@pytest.mark.parametrize("text", ["", "\n", ".", "x" * 5000, "a\0b"])
def test_last_checkpoint_that_names_no_file(save, model, tmp_path, caplog, text):
    whole = save("model_0000004", 4)
    (tmp_path / "last_checkpoint").write_text(text)
    assert TOODCheckpointer(model, str(tmp_path)).find_last_checkpoint() == whole
    assert "last_checkpoint names no file. Resuming from" in caplog.text


def test_unreadable_last_checkpoint_is_not_a_missing_one(model, tmp_path):
    """A training from iteration 0 would overwrite the run's checkpoints."""
    (tmp_path / "last_checkpoint").mkdir()
    with pytest.raises(CheckpointError, match=r"last_checkpoint cannot be read \(Is a directory"):
        TOODCheckpointer(model, str(tmp_path)).resume_or_load("", resume=True)


def test_run_id_of_copied_checkpoints(save, tmp_path):
    """Only the checkpoint and its record were copied to another machine."""
    assert read_run_id(tmp_path) is None and read_checkpoint_run_id(tmp_path) is None
    save("model_0000004", 4, "copied")
    assert read_run_id(tmp_path) is None and read_checkpoint_run_id(tmp_path) == "copied"
