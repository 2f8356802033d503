import pytest

from tood.export.quantize import is_quantized

FEATURES = [
    "/backbone/bottom_up/stem/conv1/Conv",
    "/backbone/bottom_up/res4/res4.22/conv2/Conv",
    "/backbone/fpn_output3/Conv/WithoutBiases",
    "/backbone/top_block/p7/Conv",
]
LAYERS = [
    "/head/inter_convs.5_4/Conv",
    "/head/cls_convs/cls_convs.0/Conv",
    "/head/reg_convs.1/Conv",
]
PREDICTORS = [
    "/head/tood_cls_4/Conv",
    "/head/tood_reg/Conv/WithoutBiases",
    "/head/cls_score/Conv",
    "/head/bbox_pred_1/Conv",
    "/head/centerness/Conv",
    "/head/cls_prob_module.2_3/Conv",
    "/head/cls_prob_module/cls_prob_module.2/Conv",
    "/head/reg_offset_module.2/Conv",
    "/head/layer_attention/layer_attention.0_9/Conv",
]
OFFSETS = [
    "/backbone/bottom_up/res3/res3.0/conv2_offset/Conv",
    "/head/inter_convs.0/conv_offset_2/Conv",
]
UNKNOWN = ["/head/MatMul_4", "/MatMul", "/head/my_layer/Conv", "Conv_17"]


@pytest.mark.parametrize("name", FEATURES + LAYERS)
def test_backbone_and_layers_are_in_int8(name):
    assert is_quantized(name)


@pytest.mark.parametrize("name", PREDICTORS + OFFSETS + UNKNOWN)
def test_everything_else_stays_in_float(name):
    assert not is_quantized(name)


def test_other_choices_of_parts():
    assert all(is_quantized(name, "backbone") for name in FEATURES)
    assert not any(is_quantized(name, "backbone") for name in LAYERS + PREDICTORS + OFFSETS)
    assert is_quantized("/head/MatMul_4", "head") and not is_quantized("/MatMul", "head")
    assert not any(is_quantized(name, "head") for name in PREDICTORS + OFFSETS)
    assert all(is_quantized(name, "all") for name in PREDICTORS + OFFSETS + UNKNOWN)
