"""A small drawn dataset of faces with five keypoints, and a model for it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode, get_cfg
from PIL import Image, ImageDraw

from tood import add_tood_config

NAMES = ["nose", "left_eye", "right_eye", "left_ear", "right_ear"]
# Which keypoint takes the place of each in a mirror image.
FLIPPED = [0, 2, 1, 4, 3]
SIGMAS = [0.05, 0.05, 0.05, 0.1, 0.1]
SIDE = 96
# Places in a face, as fractions of its box. The left eye of somebody who looks at us is right.
PLACES = [(0.5, 0.6), (0.7, 0.3), (0.3, 0.3), (0.95, 0.4), (0.05, 0.4)]


def face(box: list[int], visibility: Sequence[int] = (2, 2, 2, 1, 0)) -> dict[str, Any]:
    """An annotation without ids. Unlabeled keypoints are at (0, 0), as COCO has them."""
    x, y, width, height = box
    keypoints: list[int] = []
    for (right, down), v in zip(PLACES, visibility, strict=True):
        keypoints += [x + int(right * width), y + int(down * height), v] if v else [0, 0, 0]
    return {
        "bbox": box,
        "area": width * height,
        "iscrowd": 0,
        "category_id": 1,
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in visibility),
    }


def face_content(num_images: int = 3) -> dict[str, Any]:
    """The content of a COCO file: two faces per image."""
    content: dict[str, Any] = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE}
            for i in range(1, num_images + 1)
        ],
        "categories": [{"id": 1, "name": "face", "keypoints": list(NAMES), "skeleton": [[2, 1]]}],
        "annotations": [],
    }
    for image in content["images"]:
        for box in ([6 + image["id"], 8, 40, 48], [50, 30, 42, 60]):
            number = len(content["annotations"]) + 1
            content["annotations"].append({"id": number, "image_id": image["id"], **face(box)})
    return content


def write_faces(folder: Path, content: dict[str, Any] | None = None, name: str = "a.json") -> str:
    """Draw the faces of a content, and write its file."""
    content = face_content() if content is None else content
    for image in content["images"]:
        pixels = np.full((image["height"], image["width"], 3), 90 + 7 * image["id"], np.uint8)
        drawn = Image.fromarray(pixels)
        pen = ImageDraw.Draw(drawn)
        for entry in content["annotations"]:
            if entry["image_id"] == image["id"] and entry["bbox"]:
                x, y, width, height = entry["bbox"]
                pen.ellipse([x, y, x + width - 1, y + height - 1], fill=(220, 180, 140))
                for right, down in PLACES[:3]:
                    center = x + right * width, y + down * height
                    pen.ellipse([*(c - 2 for c in center), *(c + 2 for c in center)], fill="black")
        drawn.save(folder / image["file_name"])
    path = folder / name
    path.write_text(json.dumps(content))
    return str(path)


def keypoint_rcnn_cfg(annotations: str, folder: Path) -> CfgNode:
    """detectron2's Keypoint R-CNN on a narrow R18, on the CPU, for the faces of a folder."""
    cfg = get_cfg()
    add_tood_config(cfg)
    model = cfg.MODEL
    model.META_ARCHITECTURE, model.DEVICE, model.WEIGHTS = "GeneralizedRCNN", "cpu", ""
    model.BACKBONE.NAME, model.BACKBONE.FREEZE_AT = "build_resnet_fpn_backbone", 0
    model.RESNETS.DEPTH, model.RESNETS.RES2_OUT_CHANNELS, model.RESNETS.NORM = 18, 64, "BN"
    model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    model.FPN.OUT_CHANNELS = 16
    model.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    model.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    model.RPN.BATCH_SIZE_PER_IMAGE = 32
    model.RPN.POST_NMS_TOPK_TRAIN = model.RPN.POST_NMS_TOPK_TEST = 50
    model.ROI_HEADS.NAME, model.ROI_HEADS.IN_FEATURES = "StandardROIHeads", ["p2", "p3", "p4", "p5"]
    model.ROI_HEADS.NUM_CLASSES, model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 1, 16
    model.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model.ROI_BOX_HEAD.NAME, model.ROI_BOX_HEAD.POOLER_RESOLUTION = "FastRCNNConvFCHead", 7
    model.ROI_BOX_HEAD.NUM_FC, model.ROI_BOX_HEAD.FC_DIM = 1, 16
    model.KEYPOINT_ON = True
    model.ROI_KEYPOINT_HEAD.CONV_DIMS = (16, 16)
    model.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = len(NAMES)
    cfg.TEST.KEYPOINT_OKS_SIGMAS = list(SIGMAS)
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    cfg.TEST.REPORT = False
    for split in ("TRAIN", "TEST"):
        cfg.DATASETS[f"{split}_ANNOTATIONS"] = annotations
        cfg.DATASETS[f"{split}_IMAGES"] = str(folder)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (SIDE,), SIDE
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.IMS_PER_BATCH = 0, 2
    cfg.OUTPUT_DIR = str(folder / "out")
    return cfg
