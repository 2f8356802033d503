"""timm's networks as backbones, below the FPN of the published models.

timm is an optional package: only building such a backbone imports it.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tood_runtime.missing_packages import import_optional

from ..config.validation.norms import FROZEN_BN, FROZEN_STATS_BN
from ..errors import ConfigError
from .backbone import build_fpn
from .swin_windows import pad_before_rolling

# Height and width of the image that a network is tried on; no square, and not its default size.
_PROBE_SIZE = (64, 96)
# Swin networks are built for one image size unless told otherwise. always_partition shifts windows
# also where a map of that size is one window, as Swin's own detectors do.
_SWIN_OPTIONS = {"strict_img_size": False, "always_partition": True}


class TimmBackbone(Backbone):
    """A network of timm that returns several maps, with detectron2's interface.

    Args:
        net: made by ``timm.create_model(..., features_only=True)``.
        name: of the network in timm.
        out_features: names of the maps to return, such as "res3".
        options: that the network was made with, other than those of its maps.
        in_channels: of the image.
        norm: what its batch normalizations do in training; see ``MODEL.TIMM.NORM``.
        freeze_at: see ``MODEL.BACKBONE.FREEZE_AT``.
        check_pixels: see ``MODEL.TIMM.CHECK_PIXELS``.

    Attributes:
        pixel_mean, pixel_std: of each channel (R, G, B), 0 to 255, that timm names for the weights.
        check_pixels: whether weights of timm need a model with this normalization.

    Raises:
        ConfigError: the network does not give maps of any image size.
    """

    def __init__(
        self,
        net: nn.Module,
        name: str,
        *,
        out_features: Sequence[str],
        options: dict[str, Any],
        in_channels: int = 3,
        norm: str = "BN",
        freeze_at: int = 0,
        check_pixels: bool = True,
    ) -> None:
        super().__init__()
        if norm == "SyncBN":
            net = import_optional("timm.layers", name).convert_sync_batchnorm(net)
        pad_before_rolling(net)
        self.net, self.name, self.options = net, name, options
        self.in_channels, self.check_pixels = in_channels, check_pixels
        cfg = net.pretrained_cfg
        self.pixel_mean = [255.0 * value for value in cfg["mean"]]
        self.pixel_std = [255.0 * value for value in cfg["std"]]
        self._names = _map_names(net.feature_info.reduction())
        self._out_features = list(out_features)
        self._channels = dict(zip(self._names, net.feature_info.channels(), strict=True))
        self._is_nhwc = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
        self._freeze(freeze_at, norm)
        self._probe()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute maps (N, C, H / stride, W / stride) by name from images (N, 3, H, W)."""
        maps = dict(zip(self._names, self.net(x), strict=True))
        return {name: self._to_nchw(maps[name]) for name in self._out_features}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each map."""
        return {
            name: ShapeSpec(channels=self._channels[name], stride=2 ** int(name[3:]))
            for name in self._out_features
        }

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Set the mode, except for batch normalizations whose statistics are frozen."""
        super().train(mode)
        for module in self._frozen_norms:
            module.eval()
        return self

    def weight_names(self) -> dict[str, str]:
        """Names in timm's own state_dict, and where this module has the value.

        The value is "" for what only timm's classifier needs.
        """
        names = {_timm_name(name): f"net.{name}" for name in self.net.state_dict()}
        names.update({name: f"net.{name}" for name in self.net.state_dict()})
        with torch.random.fork_rng(devices=[]):  # its random weights cost no random numbers
            whole = create_network(self.name, in_chans=self.in_channels, **self.options)
        return {**dict.fromkeys(whole.state_dict(), ""), **names}

    def _to_nchw(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2).contiguous() if self._is_nhwc else x

    def _freeze(self, freeze_at: int, norm: str) -> None:
        frozen = list(self._modules_to(freeze_at))
        for module in frozen:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        norms = [module for module in self.net.modules() if isinstance(module, _BatchNorm)]
        if norm == FROZEN_BN:
            for module in norms:
                for parameter in module.parameters():
                    parameter.requires_grad_(False)
        keep_all = norm in (FROZEN_BN, FROZEN_STATS_BN)
        chosen = norms if keep_all else [m for m in frozen if isinstance(m, _BatchNorm)]
        # A tuple, so that they are not registered twice.
        self._frozen_norms = tuple(chosen)

    def _modules_to(self, freeze_at: int) -> Iterator[nn.Module]:
        """The modules that compute the map of stride 2^freeze_at, in their order."""
        if freeze_at <= 0:
            return
        modules = [_timm_name(name) for name in self.net.feature_info.module_name()]
        wanted = f"res{freeze_at}"
        stop = modules[self._names.index(wanted)] if wanted in self._names else ""
        # Networks that start with a stride of 4 have no map before their first stage.
        before = "" if stop else modules[0]
        if not stop and freeze_at > 1:
            yield from self.net.modules()
            return
        inside = False
        for name, module in self.net.named_modules():
            name = _timm_name(f"{name}.")[:-1]
            if before and _is_within(name, before):
                return
            if stop and _is_within(name, stop):
                inside = True
            elif inside:
                return
            yield module

    @torch.no_grad()
    def _probe(self) -> None:
        """Run the network once, because some accept a single image size only."""
        height, width = _PROBE_SIZE
        was_training = self.training
        self.eval()
        try:
            maps = self(torch.zeros(1, self.in_channels, height, width))
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"MODEL.TIMM.NAME {self.name} does not compute maps of an image of {height}x{width}"
                f" pixels ({type(error).__name__}: {error}). Use a network that takes any size, "
                "such as ConvNeXt, Swin, EfficientNet or MobileNet."
            ) from error
        for name, spec in self.output_shape().items():
            expected = (1, spec.channels, height // spec.stride, width // spec.stride)
            if tuple(maps[name].shape) != expected:
                raise ConfigError(
                    f"MODEL.TIMM.NAME {self.name} gives a map of shape {tuple(maps[name].shape)} "
                    f"for an image of {height}x{width} pixels, where {expected} is expected. Use "
                    "another network."
                )
        self.train(was_training)


def create_network(name: str, **options: Any) -> Any:
    """Create a network of timm with random weights.

    Args:
        name: as timm knows it.
        **options: of ``timm.create_model``.

    Raises:
        ConfigError: timm does not know the name, or the network has no such options.
        MissingPackageError: timm is not installed.
    """
    timm = import_optional("timm", "A backbone of MODEL.TIMM", install='"tood-detectron2[timm]"')
    if not timm.is_model(name):
        names = timm.list_models()
        close = difflib.get_close_matches(name.partition(".")[0], names, n=5) or names[:5]
        raise ConfigError(
            f"Unknown MODEL.TIMM.NAME {name!r}. Available: {len(names)} networks, such as "
            f"{', '.join(close)}; timm.list_models() lists them."
        )
    try:
        return timm.create_model(name, pretrained=False, **options)
    except (AttributeError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"timm cannot build MODEL.TIMM.NAME {name} as a backbone ({type(error).__name__}: "
            f"{error}). Use another network, or MODEL.TIMM.DROP_PATH 0."
        ) from error


def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build the network of ``MODEL.TIMM``, without FPN.

    Args:
        cfg: reads ``MODEL.TIMM``, ``MODEL.BACKBONE.FREEZE_AT`` and ``MODEL.FPN.IN_FEATURES``.
        input_shape: of the image.

    Raises:
        ConfigError: the network does not exist, or lacks the maps that the FPN needs.
        MissingPackageError: timm is not installed.
    """
    node, wanted = cfg.MODEL.TIMM, list(cfg.MODEL.FPN.IN_FEATURES)
    options: dict[str, Any] = {"drop_path_rate": node.DROP_PATH} if node.DROP_PATH else {}
    if node.NAME.startswith(("swin_", "swinv2_")) and not node.NAME.startswith("swinv2_cr_"):
        options.update(_SWIN_OPTIONS)
    create = {"features_only": True, "in_chans": input_shape.channels, **options}
    net = create_network(node.NAME, **create)
    names = _map_names(net.feature_info.reduction())
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ConfigError(
            f"MODEL.FPN.IN_FEATURES has {missing[0]}, but MODEL.TIMM.NAME {node.NAME} only has the "
            f"maps {', '.join(names)} (of strides {net.feature_info.reduction()})."
        )
    last = max(names.index(name) for name in wanted)
    if last + 1 < len(names):  # later stages would be computed, and get no gradient
        net = create_network(node.NAME, out_indices=tuple(range(last + 1)), **create)
    return TimmBackbone(
        net,
        node.NAME,
        out_features=wanted,
        options=options,
        in_channels=input_shape.channels,
        norm=node.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        check_pixels=node.CHECK_PIXELS,
    )


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build a network of timm and the FPN of the published models, P3 to P7.

    Args:
        cfg: see :func:`build_timm_backbone` and :func:`~tood.modeling.backbone.build_fpn`.
        input_shape: of the image.

    Raises:
        ConfigError: values that do not fit.
        MissingPackageError: timm is not installed.
    """
    return build_fpn(cfg, build_timm_backbone(cfg, input_shape))


def _map_names(strides: Iterable[int]) -> list[str]:
    """detectron2's names for maps of these strides: "res3" for 8."""
    return [f"res{stride.bit_length() - 1}" for stride in strides]


def _timm_name(name: str) -> str:
    """The name in the whole network: timm flattens its first two levels into ``stages_0``."""
    return re.sub(r"^([A-Za-z]\w*?)_(\d+)\.", r"\1.\2.", name)


def _is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")
