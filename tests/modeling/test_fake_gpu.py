"""Models on a GPU that is not there: where the host waits for it, and what mixes devices."""

import itertools
from contextlib import nullcontext
from unittest import mock

import pytest
import torch
from detectron2.modeling import build_model, poolers
from detectron2.structures import Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils.events import EventStorage

from tests.engine.parts import make_small
from tests.fake_gpu import GROUND_TRUTH, IMAGES, WEIGHTS, Wait, fake_gpu
from tests.helpers import CONFIGS
from tests.modeling.two_stage import to_two_stage
from tood.config.loading import load_config
from tood.errors import ConfigError
from tood.modeling import find_dense_core
from tood.modeling.assigners import ASSIGNER_REGISTRY
from tood.modeling.criteria import CRITERION_REGISTRY
from tood.modeling.heads import DENSE_HEAD_REGISTRY
from tood.modeling.phases import PHASES

# What an image's number of detections depends on.
CANDIDATES: dict[Wait, str] = {
    ("nonzero", "modeling/postprocessing.py", "select_candidates"): "candidates above the score",
    ("index", "modeling/postprocessing.py", "finalize"): "boxes with an area",
    ("cpu to cuda", "modeling/postprocessing.py", "finalize"): "torchvision's NMS copies a 1",
    ("torchvision::nms", "modeling/postprocessing.py", "finalize"): "boxes that NMS keeps",
}
TRAINING = {**WEIGHTS, **IMAGES, **GROUND_TRUTH}
DETECTIONS = {
    **CANDIDATES,
    ("_local_scalar_dense", "modeling/meta_arch.py", "_to_instances"): "detectron2: finite boxes",
    ("index", "modeling/meta_arch.py", "_to_instances"): "detectron2: boxes with an area",
}
DETECTION = {**WEIGHTS, **IMAGES, **DETECTIONS}
DTYPES = [None, torch.float16, torch.bfloat16]


def names_of(registry):
    """The parts of this project; other tests register theirs."""
    return [name for name, part in registry if part.__module__.startswith("tood.")]


@pytest.fixture
def batch(make_input):
    """Images of two sizes: more GT boxes than the assigners take at a time, and none."""
    boxes = [[x, x / 2, x + 20.0, x + 30.0] for x in range(70)]
    return [make_input(boxes=boxes, classes=[0] * len(boxes)), make_input(64, 96, (), ())]


def run_steps(model, batch, *, phases=PHASES, dtypes=DTYPES, backward=(torch.float16,)):
    """Training steps; backward passes in some types only, to save time."""
    model.train()
    for phase, dtype in itertools.product(phases, dtypes):
        find_dense_core(model).set_phase(phase)
        amp = torch.autocast("cuda", dtype or torch.float16, enabled=dtype is not None)
        with EventStorage(), amp:
            losses = model(batch)
        assert all(loss.is_cuda and loss.shape == () for loss in losses.values())
        if dtype in backward:
            model.zero_grad()
            sum(losses.values()).backward()
            for name, parameter in model.named_parameters():
                gradient = parameter.grad
                if parameter.requires_grad:
                    assert gradient is not None and gradient.shape == parameter.shape, name


def detect(model, batch):
    model.eval()
    with torch.no_grad():
        outputs = model(batch)
    assert all(len(x["instances"]) and x["instances"].scores.is_cuda for x in outputs)


CONFIG_NAMES = sorted(str(x.relative_to(CONFIGS).with_suffix("")) for x in CONFIGS.rglob("*.yaml"))
FAST = ["quickstart/TOOD-R18-shapes"]


def config_params():
    slow = pytest.mark.slow
    return [pytest.param(x, marks=[] if x in FAST else slow) for x in CONFIG_NAMES]


@pytest.mark.parametrize("name", config_params())
def test_every_config(name, batch, tmp_path):
    """The forward pass in float32 and under AMP, the backward pass, and detection."""
    cfg = load_config(str(CONFIGS / f"{name}.yaml"), ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    cfg.MODEL.DEVICE = "cuda"
    if name.startswith("ablations/"):  # the backbone is that of TOOD-R50-1x
        cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    if name.startswith("timm/") or name.startswith("small/"):
        pytest.importorskip("timm")
    if cfg.MODEL.META_ARCHITECTURE == "TOOD":
        with fake_gpu({**TRAINING, **DETECTION}):
            model = build_model(cfg)
            run_steps(model, batch)
            detect(model, batch)
    else:
        check_two_stages(cfg)


def two_stage_inputs():
    """Two images with masks and keypoints: what is invented finds objects in each of them."""
    batch = []
    for height, width in ((96, 128), (64, 96)):
        instances = Instances((height, width))
        instances.gt_boxes = Boxes([[10.0, 10.0, 50.0, 60.0], [30.0, 5.0, 60.0, 30.0]])
        instances.gt_classes = torch.tensor([0, 1])
        instances.gt_masks = PolygonMasks([[[10.0, 10, 50, 10, 50, 60]]] * 2)
        instances.gt_keypoints = Keypoints(torch.full((2, 17, 3), 20.0))
        image = torch.randint(0, 256, (3, height, width)).float()
        batch.append({"image": image, "instances": instances})
    return batch


def check_two_stages(cfg):
    """Training; and detection, but for keypoints: detectron2 divides by the sizes of boxes."""
    batch = two_stage_inputs()
    known = dict(CANDIDATES)
    if cfg.MODEL.MASK_ON:
        known["index_put from the cpu", "", ""] = "the backward pass of detectron2's masks"
    # The second stage is detectron2's, and chooses by values.
    ignored = ("detectron2/", "modeling/roi_heads.py")
    with pooler_that_knows_counts(), fake_gpu(known, ignored):
        model = build_model(cfg)
        run_steps(model, batch, dtypes=[torch.float16])
        if not cfg.MODEL.KEYPOINT_ON:
            detect(model, batch)


def pooler_that_knows_counts():
    """detectron2 main takes the number of boxes per image from the GPU, where it has no value."""

    def convert(boxes, counts):
        images = torch.repeat_interleave(torch.arange(len(counts), dtype=boxes.dtype), counts)
        return torch.cat([images.to(boxes.device)[:, None], boxes], dim=1)

    if not hasattr(poolers, "_convert_boxes_to_pooler_format"):
        return nullcontext()
    return mock.patch.object(poolers, "_convert_boxes_to_pooler_format", convert)


@pytest.mark.parametrize(
    "roi_heads",
    ["TOODStandardROIHeads", pytest.param("TOODCascadeROIHeads", marks=pytest.mark.slow)],
)
def test_two_stages(tiny_cfg, roi_heads):
    cfg = to_two_stage(make_small(tiny_cfg), roi_heads)
    cfg.MODEL.DEVICE, cfg.MODEL.MASK_ON = "cuda", True
    check_two_stages(cfg)


PARTS = list(
    itertools.product(*map(names_of, (DENSE_HEAD_REGISTRY, ASSIGNER_REGISTRY, CRITERION_REGISTRY)))
)


def is_fast(head, assigner, criterion):
    """Each assigner with each head, and each criterion, but not everything with everything."""
    return criterion == "FocalCriterion" or (head, assigner) == ("TOODHead", "TaskAlignedAssigner")


@pytest.mark.parametrize(
    "head, assigner, criterion",
    [pytest.param(*x, marks=[] if is_fast(*x) else pytest.mark.slow) for x in PARTS],
)
def test_every_combination(tiny_cfg, batch, head, assigner, criterion):
    """In one phase, because a phase is its assigner and its criterion."""
    tood = make_small(tiny_cfg).MODEL.TOOD
    tood.HEAD.NAME, tiny_cfg.MODEL.DEVICE = head, "cuda"
    tood.PARALLEL_HEAD.CENTERNESS = criterion == "CenternessFocalCriterion"
    for phase in (tood.WARMUP, tood.ALIGNED):
        phase.ASSIGNER, phase.CRITERION = assigner, criterion
    with fake_gpu(TRAINING) if fits(assigner, criterion) else pytest.raises(ConfigError):
        model = build_model(tiny_cfg)
        run_steps(model, batch, phases=["aligned"], dtypes=[torch.float16])


def fits(assigner, criterion):
    return criterion != "TaskAlignedCriterion" or assigner == "TaskAlignedAssigner"


@pytest.mark.parametrize(
    "option, value",
    [
        ("CANDIDATES_INSIDE_GT", True), ("MIN_GT_SIZE", 8.0), ("MIN_POSITIVES", 2),
        ("IOU_TYPE", "ciou"),
    ],
)  # fmt: skip
def test_options_of_the_assigner(tiny_cfg, batch, option, value):
    make_small(tiny_cfg).MODEL.TOOD.ASSIGNERS.TAL[option] = value
    tiny_cfg.MODEL.DEVICE = "cuda"
    with fake_gpu(TRAINING):
        model = build_model(tiny_cfg)
        run_steps(model, batch, phases=["aligned"], dtypes=[None], backward=())


def test_a_batch_that_is_on_the_gpu(tiny_cfg, batch):
    """Nothing at all is read, copied or checked."""
    tiny_cfg.MODEL.DEVICE = "cuda"
    with fake_gpu({**WEIGHTS, ("cpu to cuda", "", ""): "here"}) as gpu:
        model = build_model(make_small(tiny_cfg))
        for x in batch:
            x["image"] = x["image"].to("cuda")
            instances = x["instances"]
            instances.gt_boxes = Boxes(instances.gt_boxes.tensor.to("cuda"))
            instances.gt_classes = instances.gt_classes.to("cuda")
        before = dict(gpu.waits)
        run_steps(model, batch, dtypes=[torch.float16])
        assert gpu.waits == before


@pytest.mark.parametrize("head", names_of(DENSE_HEAD_REGISTRY))
def test_detection(tiny_cfg, batch, head):
    """NMS and the rest once per image, and candidates once per level."""
    tiny_cfg.MODEL.TOOD.HEAD.NAME, tiny_cfg.MODEL.DEVICE = head, "cuda"
    with fake_gpu(DETECTION) as gpu:
        detect(build_model(make_small(tiny_cfg)), batch)
    counts = {wait[0]: count for wait, count in gpu.waits.items() if wait in CANDIDATES}
    assert counts == {
        "nonzero": 5 * 2, "index": 3 * 2, "torchvision::nms": 2, "cpu to cuda": 2,
    }  # fmt: skip


@pytest.mark.parametrize("amp", [True, False])
def test_detection_in_half_precision(tiny_cfg, batch, amp):
    model = build_model(make_small(tiny_cfg))
    if not amp:
        model.half()
        for x in batch:
            x["image"] = x["image"].byte()  # as from a file
    moved = {("cpu to cuda", "", ""): "the model, in this test"}
    with fake_gpu({**moved, **IMAGES, **DETECTIONS}), torch.autocast("cuda", enabled=amp):
        detect(model.to("cuda"), batch)


def test_drawings_of_training(tiny_cfg, make_input):
    """Of the first image, with what is detected in it."""
    copies = {("cuda to cpu", "modeling/visualization.py", "_to_detections"): "what is drawn"}
    tiny_cfg.MODEL.DEVICE, tiny_cfg.VIS_PERIOD = "cuda", 1
    with fake_gpu({**TRAINING, **CANDIDATES, **copies}), EventStorage():
        build_model(make_small(tiny_cfg))([make_input(), make_input()])
