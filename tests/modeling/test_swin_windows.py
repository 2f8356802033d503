"""Windows of Swin for maps of any size, against timm's on a map that is padded by hand."""

import pytest
import torch
import torch.nn.functional as F

from tood.modeling.swin_windows import pad_before_rolling

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def blocks():
    """Two blocks, without and with a shift, twice: ours and timm's."""
    from timm.models.swin_transformer import SwinTransformer

    options = {"img_size": 28, "patch_size": 2, "embed_dim": 12, "depths": (2,), "num_heads": (3,)}
    options |= {"num_classes": 0, "strict_img_size": False, "always_partition": True}
    torch.manual_seed(0)
    theirs = SwinTransformer(**options).eval()
    ours = SwinTransformer(**options).eval()
    ours.load_state_dict(theirs.state_dict())
    assert pad_before_rolling(ours) == 2
    return list(zip(ours.layers[0].blocks, theirs.layers[0].blocks, strict=True))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("size", [(14, 21), (7, 7), (10, 9), (3, 16)])
@torch.no_grad()
def test_attention(blocks, index, size):
    ours, theirs = blocks[index]
    assert any(ours.shift_size) == (index == 1)
    x = torch.randn(2, *size, 12)
    height, width = size
    padded = F.pad(x, (0, 0, 0, -width % 7, 0, -height % 7))
    expected = theirs._attn(padded)[:, :height, :width]
    torch.testing.assert_close(ours._attn(x), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_timm_masks_another_place(blocks):
    """The reason for this module; where this fails, timm has changed and it may go."""
    ours, theirs = blocks[1]
    x = torch.randn(1, 10, 9, 12)
    assert (ours._attn(x) - theirs._attn(x)).abs().max() > 1e-3
