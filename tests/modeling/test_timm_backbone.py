"""Networks of timm as backbones: maps of any size, freezing, normalization, training."""

import sys

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from torch import nn

from tests.helpers import timm_cfg, train_step
from tood.engine.optimizer import build_optimizer
from tood.errors import ConfigError
from tood.modeling.timm_backbone import build_timm_backbone, create_network
from tood_runtime.missing_packages import MissingPackageError

timm = pytest.importorskip("timm")

SMALL = "small/TOOD-EfficientNetLite0-320"
# One config for each family.
FAMILIES = {
    "timm/TOOD-ConvNeXt-T-1x": [96, 192, 384, 768],
    "timm/TOOD-Swin-T-1x": [96, 192, 384, 768],
    "timm/TOOD-MobileNetV3-L-1x": [24, 40, 112, 960],
    SMALL: [24, 40, 112, 320],
}


def build(network: str, *opts: object) -> nn.Module:
    """The network alone, as the backbone has it below the FPN."""
    cfg = timm_cfg(SMALL, "MODEL.TIMM.NAME", network, *opts)
    return build_backbone(cfg).bottom_up


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_trains(name, make_input):
    """A step in each phase, from random weights; every parameter gets a gradient and moves."""
    cfg = timm_cfg(name, "SOLVER.WARMUP_ITERS", 0)
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    is_adamw = isinstance(optimizer, torch.optim.AdamW)
    assert is_adamw == ("ConvNeXt" in name or "Swin" in name)
    batch = [make_input(70, 90), make_input(64, 96)]
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for phase in ("warmup", "aligned"):
        optimizer.zero_grad()
        losses = train_step(model, batch, phase)
        assert all(loss.isfinite() for loss in losses.values())
        backbone = model.backbone.bottom_up
        without = [k for k, p in backbone.named_parameters() if p.grad is None]
        assert not without  # DistributedDataParallel would wait for them
        optimizer.step()
    moved = [k for k, v in model.named_parameters() if not torch.equal(v, before[k])]
    assert sum(key.startswith("backbone.bottom_up.") for key in moved) > 50


@pytest.mark.parametrize("name", FAMILIES)
def test_maps_of_images_of_any_size(name, make_input):
    """P3 to P7 in the usual format, whatever the network's own; equal to timm's own maps."""
    model = build_model(timm_cfg(name)).eval()
    images = model.preprocess_image([make_input(70, 90), make_input(33, 100)]).tensor
    assert images.shape[-2:] == (96, 128)
    with torch.no_grad():
        maps = model.backbone(images)
        own = model.backbone.bottom_up(images)
    for level, value in maps.items():
        stride = 2 ** int(level[1:])
        assert value.shape == (2, 32, -(-96 // stride), -(-128 // stride))
    assert list(own) == ["res3", "res4", "res5"]
    for (level, value), channels in zip(own.items(), FAMILIES[name][1:], strict=True):
        stride = model.backbone.bottom_up.output_shape()[level].stride
        assert value.shape == (2, channels, 96 // stride, 128 // stride)


SWIN = {"strict_img_size": False, "always_partition": True}


@pytest.mark.parametrize(
    "network, options",
    [
        ("mobilenetv3_small_100", {}),
        pytest.param("swin_tiny_patch4_window7_224", SWIN, marks=pytest.mark.slow),
    ],
)
def test_maps_are_timm_s(network, options):
    """In eval mode, with the same weights; Swin's are channels-last in timm."""
    backbone = build(network, "MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]).eval()
    reference = timm.create_model(network, features_only=True, **options).eval()
    reference.load_state_dict(backbone.net.state_dict())
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        ours, theirs = backbone(x), reference(x)[-4:]
    for mine, other in zip(ours.values(), theirs, strict=True):
        other = other.permute(0, 3, 1, 2) if "swin" in network else other
        assert torch.equal(mine, other)


def test_mirror_of_the_published_fpn():
    """The FPN is the one of the published models: P6 and P7 from P5, by two convolutions."""
    names = [k for k, _ in build_backbone(timm_cfg(SMALL)).named_parameters() if "fpn" in k]
    assert {name.split(".")[0] for name in names} == {
        f"fpn_{part}{level}" for part in ("lateral", "output") for level in (3, 4, 5)
    }
    top = build_backbone(timm_cfg(SMALL)).top_block
    assert top.in_feature == "p5" and not top.relu
    from_c5 = build_backbone(timm_cfg(SMALL, "MODEL.TOOD.FPN.P6_SOURCE", "res5")).top_block
    assert from_c5.p6.in_channels == 320


def last_frozen(network: str, freeze_at: int) -> str:
    """The last frozen parameter; all before it are frozen too."""
    named = list(build(network, "MODEL.BACKBONE.FREEZE_AT", freeze_at).named_parameters())
    frozen = [not p.requires_grad for _, p in named]
    assert frozen == sorted(frozen, reverse=True)
    return named[sum(frozen) - 1][0] if any(frozen) else ""


@pytest.mark.parametrize(
    "network, freeze_at, last",
    [
        ("tf_efficientnet_lite0", 0, ""),
        ("tf_efficientnet_lite0", 1, "net.blocks.0.0.bn2.bias"),
        ("tf_efficientnet_lite0", 2, "net.blocks.1.1.bn3.bias"),
        ("tf_efficientnet_lite0", 4, "net.blocks.4.2.bn3.bias"),
        ("convnext_atto", 1, "net.stem_1.bias"),
        ("convnext_atto", 2, "net.stages_0.blocks.1.mlp.fc2.bias"),
        ("mobilenetv3_small_100", 1, "net.bn1.bias"),
    ],
)
def test_freeze_at(network, freeze_at, last):
    assert last_frozen(network, freeze_at) == last


def test_freeze_at_can_freeze_everything():
    network = build("mobilenetv3_small_100", "MODEL.BACKBONE.FREEZE_AT", 6)
    assert not any(p.requires_grad for p in network.parameters())


def statistics(network: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items() if "running" in k}


@pytest.mark.parametrize(
    "norm, freeze_at, updated, trained",
    [
        ("BN", 0, "all", True),
        ("BN", 2, "after blocks.0", True),
        ("FrozenStatsBN", 0, "none", True),
        ("FrozenBN", 0, "none", False),
    ],
)
def test_batch_normalization_in_training(norm, freeze_at, updated, trained):
    """Frozen statistics stay, also after another call of train()."""
    opts = ["MODEL.TIMM.NORM", norm, "MODEL.BACKBONE.FREEZE_AT", freeze_at]
    network = build("mobilenetv3_small_100", *opts).train().train()
    before = statistics(network)
    network(torch.randn(2, 3, 64, 64))
    changed = {k for k, v in statistics(network).items() if not torch.equal(v, before[k])}
    frozen = {"net.bn1.running_mean", "net.blocks.0.0.bn1.running_mean"}
    assert bool(changed) == (updated != "none")
    assert bool(frozen & changed) == (updated == "all")
    assert network.net.blocks[3][0].bn1.weight.requires_grad == trained
    assert network.net.blocks[3][0].conv_pw.weight.requires_grad


def test_drop_path_acts_in_training_only():
    network = build("convnext_atto", "MODEL.TIMM.DROP_PATH", 0.9)
    x = torch.randn(4, 3, 64, 64)
    # New blocks hardly contribute (layer scale), so give them weight.
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.ones_(parameter)
    with torch.no_grad():
        network.train()
        assert not torch.equal(network(x)["res5"], network(x)["res5"])
        network.eval()
        assert torch.equal(network(x)["res5"], network(x)["res5"])


def test_unused_stages_are_not_built():
    """They would get no gradient."""
    cfg = timm_cfg(SMALL, "MODEL.TIMM.NAME", "resnet18", "MODEL.FPN.IN_FEATURES", ["res2", "res3"])
    network = build_timm_backbone(cfg, ShapeSpec(channels=3))
    assert list(network.output_shape()) == ["res2", "res3"]
    assert not any("layer3" in name for name in network.state_dict())
    with pytest.raises(ConfigError, match="but P6 and P7 need res5. Add it."):
        build_backbone(cfg)


@pytest.mark.parametrize(
    "network, message",
    [
        ("resnet9", "Unknown MODEL.TIMM.NAME 'resnet9'. Available: .*resnet"),
        ("", "MODEL.TIMM.NAME"),
        ("vit_tiny_patch16_224", "MODEL.FPN.IN_FEATURES has res3, but MODEL.TIMM.NAME vit_tiny"),
        ("maxvit_tiny_rw_224", "does not compute maps of an image of 64x96 pixels"),
    ],
)
def test_networks_that_cannot_be_used(network, message):
    with pytest.raises(ConfigError, match=message):
        build(network)


def test_drop_path_of_a_network_without_it():
    with pytest.raises(ConfigError, match="MODEL.TIMM.DROP_PATH 0"):
        build("vgg11", "MODEL.TIMM.DROP_PATH", 0.1)


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingPackageError, match=r'pip install "tood-detectron2\[timm\]"'):
        create_network("resnet18")
