"""``Detector.from_pretrained`` with a model's name: cache, hash, and no network."""

import hashlib
import logging
from dataclasses import replace

import pytest
import torch

from tood.checkpoint import downloading
from tood.checkpoint.downloading import place_in_cache
from tood.checkpoint.key_mapping import from_tood_keys
from tood.errors import CheckpointError
from tood.inference import Detector
from tood.model_zoo import MODELS, resolving

NAME = "TOOD-R50-1x"


@pytest.fixture
def published(cfg, tmp_path, monkeypatch):
    """A small model in the place of a published one; returns its file's content and place."""
    tensors = from_tood_keys(torch.load(cfg.MODEL.WEIGHTS), "mmdet")
    torch.save({"meta": {"epoch": 12}, "state_dict": tensors}, tmp_path / "mmdet.pth")
    content = (tmp_path / "mmdet.pth").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]
    url = f"https://download.openmmlab.com/mmdetection/v2.0/tood/tood_{digest}-{digest}.pth"
    (tmp_path / "config.yaml").write_text(cfg.dump())
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(resolving, "MODELS", (replace(MODELS[0], weights_url=url),))
    monkeypatch.setattr(resolving, "named_config", lambda _: tmp_path / "config.yaml")

    def no_network(url, target):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(downloading, "_receive", no_network)
    return content, tmp_path / "cache" / place_in_cache(url)


def test_filled_cache_needs_no_network(published, detector, image, assert_same, caplog):
    caplog.set_level(logging.INFO)
    content, place = published
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    assert_same(Detector.from_pretrained(NAME)(image), detector(image))
    assert f"is in the cache: {place}" in caplog.text


def test_downloaded_weights(published, detector, image, assert_same, monkeypatch):
    content, place = published

    def receive(url, target):
        target.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    monkeypatch.setattr(downloading, "_receive", receive)
    assert_same(Detector.from_pretrained(NAME)(image), detector(image))
    assert place.read_bytes() == content


def test_no_network(published, tmp_path, detector, image, assert_same):
    """The error names the place in the cache; a local file needs none."""
    with pytest.raises(CheckpointError, match="Network is unreachable.*save it as") as error:
        Detector.from_pretrained(NAME)
    assert str(error.value).endswith(str(published[1]))
    found = Detector.from_pretrained(NAME, weights=tmp_path / "mmdet.pth")(image)
    assert_same(found, detector(image))


def test_wrong_file_in_the_cache(published):
    content, place = published
    place.parent.mkdir(parents=True)
    place.write_bytes(content[:-1] + b"?")
    with pytest.raises(CheckpointError, match="Network is unreachable"):
        Detector.from_pretrained(NAME)
    assert not place.exists()
