"""tood check-env."""

import sys

import pytest
import torch

from tood.cli import check_env
from tood.errors import TOODError


def test_versions_and_one_step(tood, capsys):
    assert tood("check-env") == 0
    out = capsys.readouterr().out
    for word in ("Python", "torch", "CUDA", "torchvision", "detectron2", "tood"):
        assert any(line.startswith(word) for line in out.splitlines()), word
    assert "forward and backward on" in out and "aligned loss" in out


def test_loss_that_is_not_finite_is_an_error(tood, errors, monkeypatch):
    class Model(torch.nn.Module):
        def set_phase(self, phase):
            self.phase = phase

        def forward(self, batch):
            return {"loss": torch.tensor(float("nan"), requires_grad=True)}

    monkeypatch.setattr(check_env, "build_model", lambda cfg: Model())
    with pytest.raises(TOODError, match="warmup loss nan"):
        check_env.run_one_step()
    assert tood("check-env") == 2
    assert "not finite" in errors()[0]


@pytest.mark.parametrize("missing, lines", [("pkg_resources", 1), (None, 0)])
def test_official_detectron2_with_a_new_setuptools(monkeypatch, missing, lines):
    def import_module(name):
        if missing is not None:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(check_env.importlib, "import_module", import_module)
    found = check_env._model_zoo_lines()
    assert len(found) == lines and all("setuptools<81" in line for line in found)


def test_model_zoo_of_detectron2_imports_or_the_fix_is_named():
    """What the installed detectron2 says of itself is what happens."""
    try:
        import detectron2.model_zoo  # noqa: F401

        works = True
    except ModuleNotFoundError:
        works = False
    sys.modules.pop("detectron2.model_zoo", None)
    assert (check_env._model_zoo_lines() == []) == works
