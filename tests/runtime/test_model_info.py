"""The metadata of exported files, as text and back."""

import pytest

from tood_runtime.model_info import ModelFileError, ModelInfo


def test_text_and_back(make_info):
    info = make_info(
        class_names=["caf\u00e9", 'a "quoted" one'],
        category_ids=[3, "x"],
        batch=2,
        max_detections=-1,
        config="A: 1\nB:\n- é\n",
        versions={"torch": "2.14"},
    )
    texts = info.to_strings()
    assert all(isinstance(value, str) for value in texts.values())
    assert texts["class_names"] == '["café", "a \\"quoted\\" one"]'
    assert texts["height"] == "null" and texts["channel_order"] == "BGR"
    assert ModelInfo.from_strings({**texts, "of_another_program": "x"}, "m.onnx") == info


def test_other_files_and_versions(make_info):
    texts = make_info().to_strings()
    for changes, message in (
        ({"tood_format": "2"}, "m.onnx has metadata of format 2, .*reads format 1. Update"),
        ({"tood_format": None}, "m.onnx has no metadata of this project.*tood export"),
        ({"nms_threshold": None}, "m.onnx lacks the metadata 'nms_threshold'. Export it again"),
    ):
        changed = {k: v for k, v in {**texts, **changes}.items() if v is not None}
        with pytest.raises(ModelFileError, match=message):
            ModelInfo.from_strings(changed, "m.onnx")


@pytest.mark.parametrize(
    "key, text",
    [
        ("min_size", "800px"),
        ("min_size", "800.0"),
        ("min_size", "true"),
        ("batch", "[1]"),
        ("apply_exif_orientation", "1"),
        ("class_names", '"person"'),
        ("class_names", "[1, 2]"),
        ("category_ids", "[1.5]"),
        ("score_threshold", "null"),
        ("versions", '{"torch": 2}'),
        ("versions", "[" * 100_000),
        ("class_names", "[]"),
        ("category_ids", "[1, 2]"),
        ("min_size", "-1"),
        ("max_size", "1000000000"),
        ("size_divisor", "0"),
        ("level_strides", "[8, 0]"),
        ("batch", "0"),
        ("channels", "-3"),
        ("channels", "4"),  # in BGR
        ("nms_threshold", "NaN"),
    ],
)
def test_damaged_values(make_info, key, text):
    texts = {**make_info().to_strings(), key: text}
    with pytest.raises(ModelFileError, match=f"m.onnx has damaged metadata: '{key}' is "):
        ModelInfo.from_strings(texts, "m.onnx")


def test_whole_numbers_are_thresholds_too(make_info):
    texts = {**make_info().to_strings(), "score_threshold": "0", "nms_threshold": "1"}
    assert ModelInfo.from_strings(texts, "m.onnx").score_threshold == 0
