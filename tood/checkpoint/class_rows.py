"""Classification weights for another list of classes: rows are matched by the names of classes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..model_zoo.models import MODELS
from .loading import LoadedWeights

_MAX_LISTED = 10


@dataclass(frozen=True)
class ClassRows:
    """Class-specific parameters with the rows of the classes that a checkpoint knows.

    Attributes:
        tensors: by the model's key; rows of other classes have the model's values.
        kept: names of the classes whose rows are the checkpoint's.
        fresh: names of the other classes.
    """

    tensors: dict[str, Tensor]
    kept: list[str]
    fresh: list[str]

    def describe(self, path: str) -> str:
        """Say in a sentence what is kept."""
        total = len(self.kept) + len(self.fresh)
        kept = f" ({_listed(self.kept)})" if self.kept else ""
        fresh = (
            f", and {len(self.fresh)} from the initialization ({_listed(self.fresh)})"
            if self.fresh
            else ", each in its new place"
        )
        return (
            f"{path} was trained on other classes. Matched by name, {len(self.kept)} of {total} "
            f"classes start from its classification weights{kept}{fresh}."
        )


def class_rows(
    weights: LoadedWeights,
    expected: Mapping[str, Tensor],
    keys: Iterable[str],
    class_names: Sequence[str],
) -> ClassRows | None:
    """Take the rows of a checkpoint's classification weights to their classes in the model.

    Names must be equal as they are written. A name that occurs twice in either list is not matched.

    Args:
        weights: the weights, with the model's names.
        expected: the model's state_dict.
        keys: parameters of the model whose first dimension is the class.
        class_names: of the model, by class index.

    Returns:
        None if both have the same classes in the same order, or if the names of either are unknown.
    """
    old, new = checkpoint_classes(weights), list(class_names)
    pairs = [(key, expected[key], weights.tensors[key]) for key in keys if key in weights.tensors]
    if not old or not new or old == new or not pairs:
        return None
    if any((len(value), len(loaded)) != (len(new), len(old)) for _, value, loaded in pairs):
        return None
    counts_old, counts_new = Counter(old), Counter(new)
    matched = [name for name in new if counts_old[name] == counts_new[name] == 1]
    targets = [new.index(name) for name in matched]
    sources = [old.index(name) for name in matched]
    tensors = {}
    for key, value, loaded in pairs:
        tensors[key] = value.detach().clone()
        tensors[key][targets] = loaded[sources].to(value)
    known = set(matched)
    return ClassRows(tensors, matched, [name for name in new if name not in known])


def checkpoint_classes(weights: LoadedWeights) -> list[str]:
    """Class names of a checkpoint; COCO's for the published files, also for those without names.

    Returns:
        By class index; empty if unknown.
    """
    if weights.info is not None and weights.info.class_names:
        return list(weights.info.class_names)
    name = weights.path.partition("?")[0].rpartition("/")[2]
    published = (model.weights_url for model in MODELS if model.weights_url is not None)
    if name not in {url.rpartition("/")[2] for url in published}:
        return []
    # Slow to import.
    from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

    return [str(category["name"]) for category in COCO_CATEGORIES if category["isthing"]]


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
