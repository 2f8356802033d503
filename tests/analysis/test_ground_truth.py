from tests.data.builders import make_dataset
from tood.analysis.ground_truth import read_ground_truth


def test_ground_truth_has_no_crowds_and_xyxy_boxes():
    boxes = [(0, 1, 5, 5, 6, 7), (1, 2, 10, 20, 30, 40), (1, 0, 0, 0, 90, 90)]
    dataset = make_dataset(boxes, num_images=2, is_crowd=[False, False, True])
    gt_boxes, gt_classes = read_ground_truth(dataset, 1)
    assert gt_boxes.tolist() == [[10, 20, 40, 60]] and gt_classes.tolist() == [2]


def test_image_without_boxes():
    gt_boxes, gt_classes = read_ground_truth(make_dataset([]), 0)
    assert gt_boxes.shape == (0, 4) and gt_classes.shape == (0,)
