"""The list of published models, and what names, folders and files stand for."""

import re
import zipfile

import pytest
import torch
import yaml

from tests.helpers import CONFIGS, PUBLISHED, published_model
from tests.runtime.conftest import build_info
from tood import model_zoo
from tood.analysis.complexity import count_parts
from tood.checkpoint import CheckpointInfo
from tood.checkpoint.saving import write_checkpoint
from tood.config import load_config
from tood.errors import CheckpointError, ConfigError
from tood.model_zoo import MODELS, resolve
from tood_runtime.model_info import ModelFileError

# AP on val2017 by MMDetection (its configs/tood/README.md) and by the authors, AP on test-dev by
# the authors, and the sha256 prefix of MMDetection's file: typed from the sources a second time.
PUBLISHED_NUMBERS = {
    "TOOD-R50-1x": (42.4, 42.5, 42.7, "20e20746"),
    "TOOD-R50-AnchorBased-1x": (42.4, 42.4, 42.8, "b776c134"),
    "TOOD-R50-2x": (44.5, None, None, "3b23174c"),
    "TOOD-R101-2x": (46.1, 46.2, 46.7, "a18f53c8"),
    "TOOD-R101-DCN-2x": (49.3, 49.2, 49.6, "4a824142"),
    "TOOD-X101-64x4d-2x": (47.6, 47.6, 48.5, "a4f36113"),
    "TOOD-X101-64x4d-DCN-2x": (None, 50.5, 51.1, None),
}
# Which of MMDetection's configs a weights file belongs to.
SLUGS = {
    "TOOD-R50-1x": "tood_r50_fpn_1x",
    "TOOD-R50-AnchorBased-1x": "tood_r50_fpn_anchor_based_1x",
    "TOOD-R50-2x": "tood_r50_fpn_mstrain_2x",
    "TOOD-R101-2x": "tood_r101_fpn_mstrain_2x",
    "TOOD-R101-DCN-2x": "tood_r101_fpn_dconv_c3-c5_mstrain_2x",
    "TOOD-X101-64x4d-2x": "tood_x101_64x4d_fpn_mstrain_2x",
}
BY_NAME = {info.name: info for info in MODELS}


def test_the_seven_models():
    assert list(BY_NAME) == list(PUBLISHED) and len(BY_NAME) == len(MODELS) == 7
    assert {path.stem for path in CONFIGS.glob("TOOD-*.yaml")} == set(BY_NAME)


@pytest.mark.parametrize("name", BY_NAME)
def test_published_numbers(name):
    info = BY_NAME[name]
    ap = (info.ap.mmdetection, info.ap.authors, info.ap.authors_test_dev)
    assert (*ap, info.sha256_prefix) == PUBLISHED_NUMBERS[name]
    mmdetection, authors = ap[:2]
    expected = (authors, "authors") if mmdetection is None else (mmdetection, "MMDetection")
    assert info.published_ap == expected


@pytest.mark.parametrize("name", SLUGS)
def test_weights_urls(name):
    url, slug = BY_NAME[name].weights_url, SLUGS[name]
    root = "https://download.openmmlab.com/mmdetection/v2.0/tood"
    assert re.fullmatch(rf"{root}/{slug}_coco/{slug}_coco_\d{{8}}_\d{{6}}-[0-9a-f]{{8}}\.pth", url)
    assert model_zoo.get_weights_url(name) == url


@pytest.mark.parametrize("name", BY_NAME)
def test_descriptions_match_the_configs(name):
    info, cfg = BY_NAME[name], model_zoo.get_config(name)
    assert (CONFIGS / f"{name}.yaml").samefile(model_zoo.get_config_file(name))
    assert info.config == f"configs/{name}.yaml"
    depth = cfg.MODEL.RESNETS.DEPTH
    assert f"-{depth}" in info.backbone
    assert ("64x4d" in info.backbone) == (cfg.MODEL.RESNETS.NUM_GROUPS == 64)
    assert ("DCNv2" in info.backbone) == (cfg.MODEL.TOOD.HEAD.NUM_DCN > 0)
    assert ("anchor-based" in info.backbone) == (cfg.MODEL.TOOD.ANCHOR_TYPE == "anchor_based")
    assert info.schedule.startswith(f"{cfg.SOLVER.MAX_ITER // 7500} epochs")
    assert ("multi-scale" in info.schedule) == (cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range")
    # The config's first line says the same.
    comment = (CONFIGS / f"{name}.yaml").read_text().splitlines()[0]
    assert f"{info.published_ap[0]}" in comment


@pytest.mark.slow
@pytest.mark.parametrize("name", {info.size: info.name for info in MODELS}.values())
def test_flops(name):
    """By part, as ``tood info`` counts them; test_published_configs.py counts the parameters."""
    parts = count_parts(published_model(name).eval(), (1280, 800))
    flops = tuple(sum(parts[part].values()) for part in ("backbone", "FPN", "head"))
    assert flops == BY_NAME[name].size.flops
    assert sum(flops) == sum(parts["model"].values())


def test_get_config():
    assert model_zoo.get_config("TOOD-R50-2x") == load_config(CONFIGS / "TOOD-R50-2x.yaml")
    with pytest.raises(ConfigError, match=r"Unknown model 'TOOD-R50'\. Did you mean TOOD-R50-2x\?"):
        model_zoo.get_config("TOOD-R50")
    with pytest.raises(ConfigError, match=r"Unknown model 'YOLO'\. Available: TOOD-"):
        model_zoo.get_config_file("YOLO")
    with pytest.raises(ConfigError, match="Unknown model"):  # a path is not a name
        model_zoo.get_config_file(str(CONFIGS / "TOOD-R50-1x.yaml"))


def test_weights_that_cannot_be_downloaded():
    with pytest.raises(ConfigError, match=r"by hand: https://drive\.google\.com"):
        model_zoo.get_weights_url("TOOD-X101-64x4d-DCN-2x")
    with pytest.raises(ConfigError, match="No weights are published for ATSS-THead. Available: TO"):
        model_zoo.get_weights_url("ablations/ATSS-THead")
    with pytest.raises(ConfigError, match="Did you mean"):
        model_zoo.get_weights_url("TOOD-R50-3x")


# ---- resolve -----------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """The output folder of a training run."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("SEED: 1\n")
    return folder


@pytest.mark.parametrize("name", SLUGS)
def test_resolve_a_name(name):
    model = resolve(name)
    assert model.config_file == CONFIGS / f"{name}.yaml"
    assert model.weights == model.require_weights() == BY_NAME[name].weights_url


@pytest.mark.parametrize(
    "name, message",
    [
        ("TOOD-X101-64x4d-DCN-2x", "must be downloaded by hand"),
        ("ablations/ATSS-Parallel", "No weights are published"),
        ("quickstart/TOOD-R18-shapes", "No weights are published"),
    ],
)
def test_resolve_a_name_without_weights(name, message):
    model = resolve(name)
    assert model.config_file == CONFIGS / f"{name}.yaml" and model.weights is None
    with pytest.raises(CheckpointError, match=message):
        model.require_weights()


def test_resolve_a_config_file(run):
    """Its weights are what its MODEL.WEIGHTS says."""
    for path in (run / "config.yaml", str(run / "config.yaml")):
        model = resolve(path)
        assert str(model.config_file) == str(path)
        assert model.weights is None and model.require_weights() is None


def test_resolve_a_run(run):
    model = resolve(run)
    assert model.config_file == run / "config.yaml" and model.weights is None
    with pytest.raises(CheckpointError, match=r"run holds no checkpoint .*name .*config\.yaml"):
        model.require_weights()
    (run / "model_final.pth").touch()
    assert resolve(str(run)).weights == str(run / "model_final.pth")
    # A longer run was resumed and stopped: the newer checkpoint counts.
    (run / "model_0000999.pth").touch()
    (run / "last_checkpoint").write_text("model_0000999.pth\n")
    assert resolve(run).require_weights() == str(run / "model_0000999.pth")
    (run / "model_0000999.pth").unlink()
    assert resolve(run).weights == str(run / "model_final.pth")


def test_last_checkpoint_cannot_lead_out_of_the_folder(run, tmp_path):
    (tmp_path / "other.pth").touch()
    for text in (str(tmp_path / "other.pth"), "../other.pth", "..", ".", "", "\x00"):
        (run / "last_checkpoint").write_text(text)
        assert resolve(run).weights is None
    (run / "last_checkpoint").write_bytes(b"\xff\xfe")
    assert resolve(run).weights is None


def test_checkpoint_without_its_config(tmp_path):
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "model_final.pth")
    message = r"does not hold its config\. .*--config-file.*model_final\.pth as the .*--weights"
    with pytest.raises(ConfigError, match=message):
        resolve(tmp_path / "model_final.pth")
    (tmp_path / "model_final.pth").rename(tmp_path / "weights")  # told by its content
    with pytest.raises(ConfigError, match="does not hold its config"):
        resolve(tmp_path / "weights")


def checkpoint_with(tmp_path, config: str, **info) -> str:
    path = str(tmp_path / "model.pth")
    write_checkpoint({"model": {}, "tood": CheckpointInfo(config, **info).to_dict()}, path)
    return path


def test_checkpoint_holds_its_config(tmp_path):
    trained = load_config("TOOD-R50-2x", ["MODEL.TOOD.NUM_CLASSES", "2", "MODEL.DEVICE", "cpu"])
    path = checkpoint_with(
        tmp_path, trained.dump(), class_names=["cat", "dog"], category_ids=[7, 3]
    )
    model = resolve(path)
    assert (model.config_file, model.weights, model.source) == (None, path, path)
    cfg = model.load_config(["INPUT.MIN_SIZE_TEST", "480"])
    assert cfg.MODEL.TOOD.CLASS_NAMES == ["cat", "dog"]
    assert cfg.MODEL.TOOD.CATEGORY_IDS == [7, 3]
    assert cfg.MODEL.WEIGHTS == path and cfg.INPUT.MIN_SIZE_TEST == 480
    trained.MODEL.WEIGHTS, trained.INPUT.MIN_SIZE_TEST = path, 480
    trained.MODEL.TOOD.CLASS_NAMES, trained.MODEL.TOOD.CATEGORY_IDS = ["cat", "dog"], [7, 3]
    assert yaml.safe_load(cfg.dump()) == yaml.safe_load(trained.dump())
    assert list(tmp_path.iterdir()) == [tmp_path / "model.pth"]


def test_config_of_a_checkpoint_runs_no_code(tmp_path):
    code = tmp_path / "code.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    imports = f"MODEL: {{TOOD: {{CUSTOM_IMPORTS: [{str(code)!r}]}}}}\n"
    tag = "SEED: !!python/object/apply:os.system ['touch ran']\n"
    for config, message in (
        (imports, r"CUSTOM_IMPORTS in the config in .*model\.pth.*--config-file.*--weights"),
        (tag, "has the tag !!python/object/apply:os.system"),
        ("_BASE_: TOOD-R50-1x\n", "names a _BASE_"),
        ("- 1\n", "its top level is a list"),
        ("MODEL: {TOOD: {NUM_CLASES: 3}}\n", r"Unknown config key MODEL\.TOOD\.NUM_CLASES"),
    ):
        model = resolve(checkpoint_with(tmp_path, config))
        with pytest.raises(ConfigError, match=message):
            model.load_config()
    assert not (tmp_path / "ran").exists()
    # Who names the file himself has read it.
    resolve(checkpoint_with(tmp_path, imports)).load_config(
        ["MODEL.TOOD.CUSTOM_IMPORTS", f"['{code}']"]
    )
    assert (tmp_path / "ran").exists()


def test_keys_of_other_versions_of_detectron2_are_ignored(tmp_path, caplog):
    path = checkpoint_with(tmp_path, "FUTURE_KEY: 3\nSOLVER: {FUTURE: {A: 1}, MAX_ITER: 7}\n")
    assert resolve(path).load_config().SOLVER.MAX_ITER == 7
    assert "FUTURE_KEY, SOLVER.FUTURE" in caplog.text


def test_name_comes_before_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TOOD-R50-1x").mkdir()
    (tmp_path / "TOOD-R50-1x" / "config.yaml").write_text("SEED: 1\n")
    assert resolve("TOOD-R50-1x").config_file == CONFIGS / "TOOD-R50-1x.yaml"
    assert str(resolve("./TOOD-R50-1x").config_file) == "TOOD-R50-1x/config.yaml"


def test_resolve_nothing(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no config\.yaml.* Available: TOOD"):
        resolve(tmp_path)
    with pytest.raises(ConfigError, match="Did you mean TOOD-R50-1x?"):
        resolve("TOOD-R50-1xx")
    (tmp_path / "model_final.pth").touch()
    with pytest.raises(CheckpointError, match=r"model_final\.pth cannot be read.* it is empty"):
        resolve(tmp_path / "model_final.pth")
    with pytest.raises(CheckpointError, match=r"nowhere\.pth does not exist"):
        resolve(tmp_path / "nowhere.pth")
    for url in ("https://x.org/config.yaml", "https://x.org/model.pth"):
        with pytest.raises(ConfigError, match="is a URL"):
            resolve(url)


def test_exported_file(tmp_path, tiny_cfg):
    """It holds its config; the values that are fixed in it count, and nothing is imported."""
    tiny_cfg.MODEL.TOOD.CUSTOM_IMPORTS = ["does_not_exist.py"]
    tiny_cfg.MODEL.DEVICE = "cuda"
    info = build_info(
        config=tiny_cfg.dump(), class_names=list("abcde"), category_ids=[1, 2, 7, 8, 9],
        score_threshold=0.25, min_size=96,
    )  # fmt: skip
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for key, text in info.to_strings().items():
            archive.writestr(f"model/extra/{key}", text)
    model = resolve(path)
    assert model.exported == info and model.config_file is None
    assert model.source == model.require_weights() == str(path)
    cfg = model.load_config()
    assert cfg.MODEL.WEIGHTS == str(path) and cfg.MODEL.DEVICE == "cpu"
    assert cfg.MODEL.TOOD.SCORE_THRESH_TEST == 0.25 and cfg.MODEL.TOOD.CUSTOM_IMPORTS == []
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (96, 160)
    assert cfg.MODEL.TOOD.HEAD.CHANNELS == 64
    assert model.load_config(["INPUT.MIN_SIZE_TEST", "48"]).INPUT.MIN_SIZE_TEST == 48
    for name, message in (("no.onnx", "no model file"), ("no.XML", "no model file")):
        with pytest.raises(ModelFileError, match=message):
            resolve(tmp_path / name)
