"""Which detections of the model depend on a comparison of two almost equal numbers.

Thresholds, top-k and NMS compare numbers. If two are closer than the rounding of model and file,
the file may decide otherwise, and is right nevertheless. So post-processing is repeated with three
values: a candidate certainly becomes a detection, certainly does not, or depends on a near tie.

Shapes: **Ri** points of level i, **K** classes, **C** candidates.
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .matching import Detected, Floats, Limits, differences

Mask = npt.NDArray[np.bool_]

# Numbers that are closer than this are a near tie in any case; more, where model and file differ by
# more.
MIN_SCORE_TIE, MIN_IOU_TIE, MIN_BOX_TIE = 1e-6, 1e-4, 1e-4


class TieRange(NamedTuple):
    """How close two numbers are in a near tie.

    Attributes:
        score: of two scores.
        box: of coordinates, in pixels of the network's input.
    """

    score: float = MIN_SCORE_TIE
    box: float = MIN_BOX_TIE

    @classmethod
    def from_differences(cls, box: float, score: float) -> "TieRange":
        """From the largest differences of the detections that match: both numbers may differ."""
        return cls(max(2 * score, MIN_SCORE_TIE), max(2 * box, MIN_BOX_TIE))


class PostprocessingSettings(NamedTuple):
    """The model's; see ``tood.modeling.postprocessing``."""

    score_threshold: float
    topk: int
    nms_threshold: float
    max_detections: int


class LevelPredictions(NamedTuple):
    """What the model predicts for one image on one level.

    Attributes:
        scores: (Ri, K) probabilities.
        boxes: (Ri, 4) in pixels of the network's input.
        centerness: (Ri, 1) probabilities, or None.
    """

    scores: Floats
    boxes: Floats
    centerness: Floats | None = None


class Outcome(NamedTuple):
    """What becomes of candidates.

    Attributes:
        candidates: those that may become detections, clipped; and others.
        certain: (C,) they become detections.
        possible: (C,) they may become detections.
    """

    candidates: Detected
    certain: Mask
    possible: Mask

    @property
    def near_tie(self) -> Mask:
        """(C,) whether they become detections depends on a near tie."""
        return self.possible & ~self.certain


def possible_outcomes(
    levels: list[LevelPredictions],
    image_size: tuple[int, int],
    settings: PostprocessingSettings,
    tie: TieRange,
) -> Outcome:
    """Repeat the post-processing of one image in three values.

    Args:
        levels: predictions of the model.
        image_size: (height, width) without padding.
        settings: of the model.
        tie: what counts as a near tie.
    """
    parts, masks = zip(*(_candidates(level, settings, tie) for level in levels), strict=True)
    candidates = Detected(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    certain = np.concatenate(masks)
    order = np.argsort(-candidates.scores, kind="stable")
    candidates, certain = candidates.take(order), certain[order]
    boxes, sides = _clip(candidates.boxes, image_size)
    certain &= sides > tie.box
    candidates = candidates._replace(boxes=boxes)
    reach = max(float(boxes.max(initial=0)), 0.0) + 1
    possible = sides > -tie.box
    for index in np.unique(candidates.classes):
        rows = np.flatnonzero((candidates.classes == index) & possible)
        # The model's NMS adds this to the coordinates of the class, in float32, which rounds them.
        rounding = float(np.spacing(np.float32((index + 1) * reach)))
        box_tie = tie.box + rounding
        of_class = candidates.take(rows)
        certain[rows], possible[rows] = _nms(
            of_class, certain[rows], settings.nms_threshold, tie.score, box_tie
        )
    certain &= possible
    if settings.max_detections >= 0:
        certain, possible = _best(
            candidates.scores, certain, possible, settings.max_detections, tie.score
        )
    return Outcome(candidates, certain, possible)


def _candidates(
    level: LevelPredictions, settings: PostprocessingSettings, tie: TieRange
) -> tuple[Detected, Mask]:
    """The pairs of point and class that may be candidates, and which of them are certainly."""
    points, classes = np.nonzero(level.scores > settings.score_threshold - tie.score)
    scores = level.scores[points, classes].astype(float)
    certain = scores > settings.score_threshold + tie.score
    if level.centerness is not None:
        scores = scores * level.centerness[points, 0]
    everyone = np.ones_like(certain)
    certain, possible = _best(scores, certain, everyone, settings.topk, tie.score)
    found = Detected(level.boxes[points].astype(float), scores, classes)
    return found.take(possible), certain[possible]


def _best(
    scores: Floats, certain: Mask, possible: Mask, count: int, tie: float
) -> tuple[Mask, Mask]:
    """Who is certainly, and who is possibly, among the ``count`` best of those that remain."""
    # How many may be ahead, without oneself; and how many certainly are.
    may_be_ahead = _count_above(scores[possible], scores - tie, inclusive=True) - possible
    are_ahead = _count_above(scores[certain], scores + tie, inclusive=False)
    return certain & (may_be_ahead < count), possible & (are_ahead < count)


def _count_above(values: Floats, limits: Floats, inclusive: bool) -> npt.NDArray[np.intp]:
    side: Literal["left", "right"] = "left" if inclusive else "right"
    return len(values) - np.searchsorted(np.sort(values), limits, side=side)


def _clip(boxes: Floats, image_size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Clipped boxes (C, 4), and their shorter sides (C,); negative for those outside the image."""
    limits = np.array([image_size[1], image_size[0]], float)
    low, high = np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], limits)
    clipped = np.concatenate([low.clip(max=limits), high.clip(min=0)], axis=1)
    return clipped, (high - low).min(1, initial=np.inf)


def _nms(
    found: Detected, certain: Mask, threshold: float, score_tie: float, box_tie: float
) -> tuple[Mask, Mask]:
    """NMS in three values, of candidates of one class, best first.

    Args:
        found: the candidates.
        certain: (C,) whether they take part certainly; all of them may.
        threshold: of the IoU.
        score_tie: see :class:`TieRange`.
        box_tie: likewise.

    Returns:
        Who is certainly kept, and who is possibly kept.
    """
    certain, possible = certain.copy(), np.ones(len(certain), bool)
    for i, score in enumerate(found.scores):
        # Those that follow at almost the same score may come first.
        end = int(np.searchsorted(-found.scores, -(score - score_tie), side="right"))
        rivals = np.flatnonzero(possible[:end] & (np.arange(end) != i))
        low, high = _iou_range(found.boxes[i], found.boxes[rivals], box_tie)
        if (high > threshold).any():
            surely_ahead = certain[rivals] & (found.scores[rivals] > score + score_tie)
            possible[i] = not (surely_ahead & (low > threshold)).any()
            certain[i] = False
    return certain, possible


def _iou_range(box: Floats, others: Floats, tie: float) -> tuple[Floats, Floats]:
    """Smallest and largest IoU of a box (4,) with others (B, 4) whose sides move by ``tie``."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    overlap = (high - low).clip(min=0)
    sides, other_sides = box[2:] - box[:2], others[:, 2:] - others[:, :2]
    intersection = overlap.prod(1)
    union = sides.prod() + other_sides.prod(1) - intersection
    union = np.maximum(union, 1e-12)
    iou = intersection / union
    # First order: an area changes by twice the tie times the sum of its sides.
    change = 2 * tie * (overlap.sum(1) * (1 + iou) + (sides.sum() + other_sides.sum(1)) * iou)
    margin = np.maximum(change / union, MIN_IOU_TIE)
    return iou - margin, iou + margin


def explain(
    expected: Detected,
    found: Detected,
    pairs: list[tuple[int, int]],
    outcome: Outcome,
    limits: Limits,
) -> tuple[list[int], list[int]]:
    """Which detections without a counterpart are near ties.

    Args:
        expected: the model's.
        found: the file's.
        pairs: those that match, as indices of both.
        outcome: of the model's predictions.
        limits: how far a detection may be from its candidate.

    Returns:
        Indices of ``expected``, and of ``found``. A candidate explains one detection of the file at
        most, and none if its own detection matches.
    """
    candidates = outcome.candidates
    if not len(candidates.scores):
        return [], []
    # The model's own detections are candidates but for rounding.
    boxes, scores = differences(expected, candidates)
    own = (boxes + scores).argmin(1)
    matched = [i for i, _ in pairs]
    free = outcome.near_tie.copy()
    lost = sorted({i for i, row in enumerate(own) if free[row]} - set(matched))
    free[[own[i] for i in matched]] = False
    boxes, scores = differences(found, candidates)
    cost = np.maximum(boxes / limits.box, scores / limits.score)
    extra = []
    for j in sorted(set(range(len(found.scores))) - {j for _, j in pairs}):
        row = np.where(free, cost[j], np.inf)
        if row.min(initial=np.inf) <= 1:
            free[row.argmin()] = False
            extra.append(j)
    return lost, extra
