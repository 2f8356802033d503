"""What tood check-data finds in keypoints."""

import pytest

from tests.data.keypoint_files import face, face_content, keypoint_rcnn_cfg, write_faces
from tood.cli.check_data import check_sets, prepare_splits
from tood.data.model_input import ModelInput


@pytest.fixture
def cfg(tmp_path):
    return keypoint_rcnn_cfg(write_faces(tmp_path), tmp_path)


def check(cfg):
    problems = prepare_splits(cfg)
    sets, _ = check_sets(cfg, problems, ModelInput.from_config(cfg), decode=False)
    return {f.kind.name: f for f in sets["train"].report.findings}


def test_check_data(cfg, tmp_path):
    """By default nobody has labeled the right ear."""
    findings = check(cfg)
    assert {"keypoints-never-labeled"} == {name for name in findings if "keypoint" in name}
    assert findings["keypoints-never-labeled"].examples == ("right_ear",)
    content = face_content()
    for entry in content["annotations"][2:5]:
        entry.update(face(entry["bbox"], (0,) * 5))
    content["annotations"][0]["keypoints"][:3] = [60, 30, 2]
    write_faces(tmp_path, content)
    findings = check(cfg)
    assert {name: (f.count, f.kind.severity) for name, f in findings.items() if "keyp" in name} == {
        "keypoints-never-labeled": (1, "warning"),
        "objects-without-keypoints": (3, "note"),
        "images-without-keypoints": (1, "note"),
        "keypoints-beyond-box": (1, "note"),
    }
    example = findings["keypoints-beyond-box"].examples[0]
    assert example.startswith("nose at (60.5, 30.5) of face [7, 8, 40, 48] in ")
    assert findings["images-without-keypoints"].examples[0].endswith("2.png")


def test_check_data_says_what_training_would_refuse(cfg, tmp_path):
    content = face_content()
    content["categories"][0]["keypoints"][1] = "eye"
    write_faces(tmp_path, content)
    finding = check(cfg)["not-usable"]
    assert "'right_eye' has no counterpart 'left_eye'" in finding.kind.what
