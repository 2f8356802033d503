from tood.analysis.ground_truth import read_ground_truth


def test_ground_truth_has_no_crowds_and_xyxy_boxes():
    annotations = [
        {"bbox": [10, 20, 30, 40], "bbox_mode": 1, "category_id": 3, "iscrowd": 0},
        {"bbox": [0, 0, 90, 90], "bbox_mode": 1, "category_id": 3, "iscrowd": 1},
    ]
    gt_boxes, gt_classes = read_ground_truth({"annotations": annotations})
    assert gt_boxes.tolist() == [[10, 20, 40, 60]] and gt_classes.tolist() == [3]


def test_record_without_annotations():
    gt_boxes, gt_classes = read_ground_truth({"annotations": []})
    assert gt_boxes.shape == (0, 4) and gt_classes.shape == (0,)
    assert read_ground_truth({})[0].shape == (0, 4)
