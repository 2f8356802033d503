"""tood convert."""

import torch

from tood.checkpoint.key_mapping import EXPORT_LAYOUTS
from tood.cli.convert import find_source
from tood.data.synthetic import CLASSES
from tood.model_zoo import resolve
from tood_runtime.cli.arguments import LAYOUTS


def test_there_and_back_gives_the_same_bits(tood, weights, tmp_path, capsys):
    there, back = tmp_path / "new" / "mmdet.pth", tmp_path / "back.pth"
    assert tood("convert", weights, there, "--to", "mmdet") == 0
    out = capsys.readouterr().out
    assert f"{weights}: " in out and f"{there}: " in out and "tensors" in out
    assert "bbox_head.tood_cls.weight" in torch.load(there)["state_dict"]
    assert tood("convert", there, back) == 0
    before, after = torch.load(weights), torch.load(back)["model"]
    counters = {key for key in before if key.endswith("num_batches_tracked")}
    assert set(after) - counters == set(before) - counters
    assert all(torch.equal(before[key], after[key]) for key in after)


def test_run_folder_brings_its_config(tood, run_folder, tmp_path):
    config = run_folder / "config.yaml"
    text = config.read_text()
    assert "CLASS_NAMES: []" in text
    config.write_text(text.replace("CLASS_NAMES: []", f"CLASS_NAMES: {list(CLASSES)}"))
    assert tood("convert", run_folder, tmp_path / "mmdet.pth", "--to", "mmdet") == 0
    meta = torch.load(tmp_path / "mmdet.pth", weights_only=True)["meta"]
    assert meta["CLASSES"] == CLASSES and meta["dataset_meta"] == {"classes": CLASSES}


def test_names_that_stand_for_weights(run_folder):
    model = resolve("TOOD-R50-1x")
    assert find_source("TOOD-R50-1x") == (model.weights, model)
    folder = str(run_folder)
    assert find_source(folder) == (str(run_folder / "model_final.pth"), resolve(folder))
    assert find_source("https://x/y.pth") == ("https://x/y.pth", None)


def test_layouts_are_those_of_the_library():
    assert set(LAYOUTS) == {"tood", *EXPORT_LAYOUTS}


def test_errors(tood, errors, config, options, weights, tmp_path):
    (tmp_path / "exists.pth").write_text("")
    (tmp_path / "empty.pth").write_text("")
    other = tmp_path / "other.yaml"
    other.write_text(f"_BASE_: {config}\nMODEL: {{TOOD: {{HEAD: {{NUM_CONVS: 3}}}}}}\n")
    for line, message in (
        ([weights, tmp_path / "exists.pth"], "exists.pth already exists"),
        (["/nowhere.pth", tmp_path / "a.pth"], "/nowhere.pth"),
        ([tmp_path / "empty.pth", tmp_path / "a.pth"], "empty.pth"),
        ([weights, tmp_path / "a.pth", "--config-file", other], "does not match"),
    ):
        assert tood("convert", *line) == 2
        assert message in errors()[-1]
    assert not (tmp_path / "a.pth").exists()
