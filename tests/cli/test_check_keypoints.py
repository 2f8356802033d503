"""tood check-data on a file with keypoints."""

import pytest

from tests.data.keypoint_files import face_content, keypoint_rcnn_cfg, write_faces


@pytest.fixture
def check(tood, tmp_path):
    """Checks a content as a training set, with a config file of a Keypoint R-CNN."""

    def run(content) -> int:
        cfg = keypoint_rcnn_cfg(write_faces(tmp_path, content), tmp_path)
        cfg.DATASETS.TEST_ANNOTATIONS = cfg.DATASETS.TEST_IMAGES = ""
        (tmp_path / "config.yaml").write_text(cfg.dump())
        return tood("check-data", tmp_path / "config.yaml", "--device", "cpu")

    return run


def test_report(check, capsys):
    content = face_content()
    content["annotations"][3]["keypoints"][4] = -5
    assert check(content) == 0
    out = capsys.readouterr().out
    findings = out[out.index("Findings") :]
    assert "labeled keypoints outside of their image treated as unlabeled: 1" in findings
    assert "annotation 4 of 2.png: keypoint 2 at (79.5, -4.5) of 96x96 pixels" in findings
    assert "keypoints that no object has labeled: 1" in findings and "right_ear" in findings


def test_what_cannot_be_read(check, capsys):
    content = face_content()
    content["annotations"][4]["keypoints"].pop()
    assert check(content) == 2
    error = capsys.readouterr().err
    assert "a.json: annotation 5 of 3.png: its keypoints have 14 values, which is not a" in error
