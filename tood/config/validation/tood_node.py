"""Rules of the keys below ``MODEL.TOOD``."""

from .rules import Kind, Rule, integer, is_number, list_of, number, text

# Larger values are typos that would hang or run out of memory.
MAX_CHANNELS = 16_384
_MAX_CONVS = 100
_MAX_CLASSES = 100_000


def _rules(node: str, *rules: tuple[str, Kind] | tuple[str, Kind, str]) -> tuple[Rule, ...]:
    prefix = f"MODEL.TOOD.{node}." if node else "MODEL.TOOD."
    return tuple(Rule(prefix + key, *rest) for key, *rest in rules)


def _pairs() -> Kind:
    def accepts(value: object) -> bool:
        """Whether a value is such a pair."""
        return (
            isinstance(value, list | tuple)
            and len(value) == 2
            and all(is_number(limit) for limit in value)
            and 0 <= value[0] <= value[1]
        )

    return Kind(accepts, "a pair of numbers, the smaller first")


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


_MODEL_RULES = _rules(
    "",
    ("NUM_CLASSES", integer(1, _MAX_CLASSES)),
    ("IN_FEATURES", list_of(text(), "names of feature maps", min_length=1)),
    ("CUSTOM_IMPORTS", list_of(text(), "Python files or modules")),
    ("CLASS_NAMES", list_of(Kind(lambda name: isinstance(name, str), "text"), "names")),
    ("CATEGORY_IDS", list_of(Kind(_is_id, "an integer or text"), "integers or text")),
    ("SCORE_THRESH_TEST", number(below=1), "At 1 nothing would be detected."),
    ("TOPK_CANDIDATES_TEST", integer(1)),
    ("NMS_THRESH_TEST", number(0, 1), "1 disables NMS."),
)

# Read by our own heads; others may use the keys differently.
HEAD_RULES = _rules(
    "HEAD",
    ("NUM_CONVS", integer(1, _MAX_CONVS)),
    ("CHANNELS", integer(1, MAX_CHANNELS)),
    ("NUM_DCN", integer(0, _MAX_CONVS)),
    ("PRIOR_PROB", number(above=0, below=1)),
)

_PHASE_RULES = _rules(
    "",
    (
        "WARMUP.EPOCHS",
        number(0),
        "0 trains without a warm-up phase; a number above the length of training without the "
        "aligned one.",
    ),
    ("LOSS_WEIGHTS.LOSS_CLS", number(0)),
    ("LOSS_WEIGHTS.LOSS_BOX_REG", number(0)),
    ("LOSS_WEIGHTS.LOSS_CENTERNESS", number(0)),
)

_ASSIGNER_RULES = _rules(
    "ASSIGNERS",
    ("ATSS.TOPK", integer(1)),
    ("TAL.TOPK", integer(1)),
    ("TAL.ALPHA", number(0)),
    ("TAL.BETA", number(0)),
    ("TAL.MIN_GT_SIZE", number(0)),
    ("TAL.MIN_POSITIVES", integer(0)),
    ("FCOS.CENTER_SAMPLING_RADIUS", number(0), "0 uses the whole GT box."),
    ("FCOS.SIZES_OF_INTEREST", list_of(number(above=0, finite=False), "numbers above 0")),
    ("FOVEABOX.SIGMA", number(above=0)),
    ("FOVEABOX.SCALE_RANGES", list_of(_pairs(), "pairs of numbers, the smaller first")),
    ("MAX_IOU.NEG_IOU_THRESH", number(high=1, above=0)),
    ("MAX_IOU.POS_IOU_THRESH", number(high=1, above=0)),
)

_CRITERION_RULES = _rules(
    "CRITERIA",
    ("FOCAL_LOSS.ALPHA", number(0, 1)),
    ("FOCAL_LOSS.GAMMA", number(0)),
    ("TASK_ALIGNED_LOSS.GAMMA", number(0)),
    ("QUALITY_FOCAL_LOSS.BETA", number(0)),
    ("FOVEABOX_LOSS.ALPHA", number(0, 1)),
    ("FOVEABOX_LOSS.GAMMA", number(0)),
    ("FOVEABOX_LOSS.BETA", number(0)),
)

TOOD_RULES = (*_MODEL_RULES, *_PHASE_RULES, *_ASSIGNER_RULES, *_CRITERION_RULES)
