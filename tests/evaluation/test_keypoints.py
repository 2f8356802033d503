"""OKS and AP of keypoints: by hand, as pycocotools and as detectron2's evaluator."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.data.keypoint_files import SIGMAS, face, face_content, write_faces
from tests.evaluation.perfect import detect_truth
from tood.data.catalog import ReadOptions, load_dataset, set_read_options
from tood.data.formats import DataSource
from tood.data.registration import register_dataset
from tood.errors import ConfigError
from tood.evaluation import FastCOCOEvaluator


@pytest.fixture
def register(tmp_path):
    """Registers a content as a dataset with keypoints."""
    names = []

    def build(content, num_keypoints=5):
        path = write_faces(tmp_path, content)
        set_read_options(ReadOptions(num_keypoints=num_keypoints))
        source = DataSource(path, str(tmp_path), num_keypoints=num_keypoints)
        names.append(register_dataset(source))
        return names[-1]

    yield build
    set_read_options(ReadOptions())
    for name in set(names):
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


def predictions(name, change=lambda points, index: None):
    """The ground truth as predictions (x, y, score), changed in place image by image."""
    dataset = load_dataset(name)
    found = detect_truth(dataset)
    for index, (_, outputs) in enumerate(found):
        rows = np.flatnonzero((dataset.image_index == index) & ~dataset.is_crowd)
        points = torch.from_numpy(dataset.keypoints[rows].copy())
        points[..., 2] = 1.0
        change(points, index)
        outputs["instances"].pred_keypoints = points
    return found


def evaluate(evaluator, found):
    evaluator.reset()
    for inputs, outputs in found:
        evaluator.process([inputs], [outputs])
    return evaluator.evaluate()


def evaluate_ours(name, found, **options):
    return evaluate(FastCOCOEvaluator(name, kpt_oks_sigmas=SIGMAS, **options), found)


def test_a_perfect_model(register):
    name = register(face_content())
    results = evaluate_ours(name, predictions(name))
    assert list(results) == ["bbox", "keypoints"]
    assert list(results["keypoints"]) == ["AP", "AP50", "AP75", "APm", "APl"]
    for key in ("AP", "AP50", "AP75", "APm"):
        assert results["keypoints"][key] == pytest.approx(100)
    assert math.isnan(results["keypoints"]["APl"])  # no face has an area above 96^2


def test_a_shift_of_a_known_oks(register):
    """One face of area 1600 with 4 labeled keypoints, of which the nose alone is d pixels off.

    OKS = (3 + exp(-d^2 / (2 * 1600 * (2 * 0.05)^2))) / 4. With d^2 = 32 ln(2) * k it is
    (3 + 2^-k) / 4: 0.875 for k = 1, so it counts for the 8 of 10 thresholds up to 0.85; 0.78125
    for k = 3 and 6 thresholds. The unlabeled keypoint may be anywhere.
    """
    content = face_content(1)
    del content["annotations"][1]
    entry = content["annotations"][0]
    entry.update(face([10, 20, 40, 40]))
    name = register(content)

    def shift(k):
        def change(points, _):
            points[0, 0, 0] += math.sqrt(32 * math.log(2) * k)
            points[0, 4, :2] = torch.tensor([-500.0, 900.0])

        return change

    for k, count in ((1, 8), (3, 6), (0, 10)):
        results = evaluate_ours(name, predictions(name, shift(k)))["keypoints"]
        assert results["AP"] == pytest.approx(10 * count), k
        assert results["AP50"] == pytest.approx(100)


def noise(seed):
    random = np.random.RandomState(seed)

    def change(points, _):
        points[..., :2] += torch.from_numpy(random.randn(*points.shape[:2], 2) * 1.5).float()

    return change


def uneven_content():
    """With unlabeled keypoints, an object without any, a crowd, and one without the field."""
    random = np.random.RandomState(0)
    content = face_content(6)
    for entry in content["annotations"]:
        entry.update(face(entry["bbox"], random.randint(0, 3, 5).tolist()))
        entry["area"] = float(entry["area"] * random.uniform(0.4, 0.9))
    content["annotations"][3].update(face(content["annotations"][3]["bbox"], (0,) * 5))
    content["annotations"][5]["iscrowd"] = 1
    return content


@pytest.mark.parametrize("seed", range(3))
def test_same_as_detectron2_and_pycocotools(register, tmp_path, seed):
    content = uneven_content()
    name = register(content)
    found = predictions(name, noise(seed))
    given = copy.deepcopy(found)
    ours = evaluate_ours(name, found, output_dir=str(tmp_path / "ours"))
    assert 1 < ours["keypoints"]["AP"] < 99
    # Others see the outputs as the model returned them.
    for (_, outputs), (_, before) in zip(found, given, strict=True):
        kept, expected = (x["instances"].pred_keypoints for x in (outputs, before))
        assert torch.equal(kept, expected)
    theirs = COCOEvaluator(
        name, output_dir=str(tmp_path / "theirs"), use_fast_impl=False, kpt_oks_sigmas=SIGMAS
    )
    expected = evaluate(theirs, found)
    assert ours["keypoints"] == pytest.approx(expected["keypoints"], abs=1e-6, nan_ok=True)
    # pycocotools alone, with the two files: the results have the convention of the annotations.
    truth = COCO(str(tmp_path / "a.json"))
    results = truth.loadRes(str(tmp_path / "ours" / "coco_instances_results.json"))
    coco_eval = COCOeval(truth, results, "keypoints")
    coco_eval.params.kpt_oks_sigmas = np.array(SIGMAS)
    coco_eval.evaluate()
    coco_eval.accumulate()
    coco_eval.summarize()
    for index, key in enumerate(("AP", "AP50", "AP75", "APm")):
        assert ours["keypoints"][key] == pytest.approx(100 * coco_eval.stats[index], abs=1e-6)


def test_results_have_the_convention_of_the_file(register, tmp_path):
    """A perfect model writes the coordinates of the annotations."""
    content = face_content()
    name = register(content)
    evaluate_ours(name, predictions(name), output_dir=str(tmp_path))
    entries = json.loads((tmp_path / "coco_instances_results.json").read_text())
    for found, entry in zip(entries, content["annotations"], strict=True):
        points = np.array(found["keypoints"]).reshape(-1, 3)[:4]
        expected = np.array(entry["keypoints"]).reshape(-1, 3)[:4]
        np.testing.assert_array_equal(points[:, :2], expected[:, :2])
        assert (points[:, 2] == 1).all()  # the scores


def test_the_sigmas_of_coco_for_17(register):
    content = face_content(1)
    content["categories"][0]["keypoints"] = [*"abcdefghijklmnopq"]
    for entry in content["annotations"]:
        entry["keypoints"] = [20, 30, 2] * 17
        entry["num_keypoints"] = 17
    name = register(content, 17)
    assert evaluate(FastCOCOEvaluator(name), predictions(name))["keypoints"]["AP"] == 100


# ---- limits on detections --------------------------------------------------------------------


def crowded_content(count):
    content = face_content(1)
    template = content["annotations"][0]
    content["annotations"] = [
        {**copy.deepcopy(template), "id": i + 1, **face([i, i, 40, 40])} for i in range(count)
    ]
    return content


def test_as_many_persons_as_coco_counts(register, caplog):
    """25 faces, of which COCO counts 20: recall ends at 0.8. More count if more are asked for."""
    name = register(crowded_content(25))
    found = predictions(name)
    results = evaluate_ours(name, found)
    assert results["keypoints"]["AP"] == pytest.approx(100 * 81 / 101)
    assert "1 images of" in caplog.text and "more than 20 objects with keypoints" in caplog.text
    caplog.clear()
    for limit in (101, -1):
        results = evaluate_ours(name, found, max_dets_per_image=limit)
        assert results["keypoints"]["AP"] == pytest.approx(100)
    assert not caplog.text


# ---- what does not fit -----------------------------------------------------------------------


def test_sigmas_of_another_number(register):
    name = register(face_content())
    for sigmas, message in (
        ((), "is empty, which means COCO's 17, but there are 5 keypoints"),
        (SIGMAS[:4], "has 4 values, but there are 5"),
        ([0.1, 0.1, 0.1, 0.1, -1], "must be numbers above 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            FastCOCOEvaluator(name, kpt_oks_sigmas=sigmas)
    evaluator = FastCOCOEvaluator(name, tasks=("bbox",))
    assert list(evaluate(evaluator, predictions(name))) == ["bbox"]


def test_predictions_of_another_number(register):
    name = register(face_content())
    found = predictions(name)
    for _, outputs in found:
        instances = outputs["instances"]
        instances.pred_keypoints = instances.pred_keypoints[:, :4]
    with pytest.raises(ConfigError, match="predicts 4 keypoints, but the dataset has 5"):
        evaluate_ours(name, found)
    boxes_only = detect_truth(load_dataset(name))
    with pytest.raises(ConfigError, match="The model predicts no keypoints"):
        evaluate_ours(name, boxes_only, tasks=("keypoints",))
    assert list(evaluate_ours(name, boxes_only)) == ["bbox"]


def test_keypoints_that_were_not_read(register):
    name = register(face_content())
    found = predictions(name)
    name = register(face_content(), 0)
    evaluator = FastCOCOEvaluator(name)
    with pytest.raises(ConfigError, match=r"keypoints of .* were not read\. Set MODEL.KEYPOINT_ON"):
        evaluate(evaluator, found)


def test_no_detections(register):
    name = register(face_content())
    empty = Instances((96, 96))
    empty.pred_boxes, empty.scores = Boxes(torch.zeros(0, 4)), torch.zeros(0)
    empty.pred_classes, empty.pred_keypoints = torch.zeros(0, dtype=int), torch.zeros(0, 5, 3)
    found = [({"image_id": i}, {"instances": empty}) for i in (1, 2, 3)]
    results = evaluate_ours(name, found, tasks=("keypoints",))
    assert math.isnan(results["keypoints"]["AP"])
