"""Draw task alignment: the paper's Figure 1 for each GT box, and what T-head has learned.

:func:`draw_alignment` is the public entry (``tood visualize``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from detectron2.data import MetadataCatalog
from matplotlib.figure import Figure
from torch import Tensor

from tood_runtime.image_io import read_image

from ..data.dataset import DetectionDataset
from ..data.registration import load_dataset
from ..errors import ConfigError
from ..modeling.box_ops import box_area
from .ground_truth import read_ground_truth
from .model_view import DetectorProtocol, ModelViewer
from .panels import draw_head, draw_instance


def draw_alignment(
    detectors: Mapping[str, DetectorProtocol],
    dataset_name: str,
    output_dir: str | Path,
    *,
    num_images: int = 4,
    num_instances: int = 3,
    score_threshold: float = 0.3,
) -> list[Path]:
    """Draw how well the two tasks of one or more detectors agree on images of a dataset.

    For each GT box, ``IMAGE-gtN.png`` has one row per detector: its detections; the score of the
    GT box's class at every point; the IoU of every point's box with the GT box; and the best
    point of each task with its box. For each T-head, ``IMAGE-head.png`` (``-head-1.png`` and so on
    if there are several detectors) shows the attention to the interactive layers by level and task,
    the spatial probability map M, and the offsets O as arrows.

    Args:
        detectors: :class:`tood.inference.Detector` by the title that names it in the figures; see
            :func:`model_titles`.
        dataset_name: a dataset in detectron2's catalog, for example ``cfg.DATASETS.TEST[0]`` after
            :func:`tood.data.setup_datasets`.
        output_dir: folder for the figures, created if missing.
        num_images: number of images, from the first one on.
        num_instances: maximum number of GT boxes per image, largest first. Crowds are skipped.
        score_threshold: minimum score of the detections that are drawn.

    Returns:
        The files written.

    Raises:
        ConfigError: a model cannot be recorded, or its classes are not those of the dataset.
    """
    dataset = load_dataset(dataset_name)
    class_names = MetadataCatalog.get(dataset_name).get("thing_classes")
    for title, detector in detectors.items():
        if class_names and len(detector.class_names) != len(class_names):
            raise ConfigError(
                f"{title} detects {len(detector.class_names)} classes, but {dataset_name} has "
                f"{len(class_names)}. Use a model trained on the classes of this dataset."
            )
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    stems: Counter[str] = Counter()
    apply_orientation = all(d.cfg.INPUT.APPLY_EXIF_ORIENTATION for d in detectors.values())
    with ExitStack() as stack:
        viewers = [
            stack.enter_context(ModelViewer(title, detector))
            for title, detector in detectors.items()
        ]
        for index, file_name in enumerate(dataset.file_names[:num_images]):
            image = read_image(file_name, apply_orientation)
            views = [viewer.view(image, score_threshold) for viewer in viewers]
            stem = Path(file_name).stem
            stems[stem] += 1
            if stems[stem] > 1:  # images of one name in different folders
                stem = f"{stem}-{stems[stem]}"
            instances = _largest_instances(dataset, index, num_instances)
            for n, (box, category) in enumerate(instances, 1):
                figure = draw_instance(views, image, box, category)
                written.append(_save(figure, output_dir / f"{stem}-gt{n}.png"))
            for n, view in enumerate(views, 1):
                if view.head_maps:
                    suffix = "" if len(views) == 1 else f"-{n}"
                    figure = draw_head(view, image)
                    written.append(_save(figure, output_dir / f"{stem}-head{suffix}.png"))
    return written


def model_titles(models: Sequence[tuple[str, str | None]]) -> list[str]:
    """Unique titles for models, as a user knows them.

    Args:
        models: for each a model-zoo name, run folder or config file, and its weights if they were
            named too.

    Returns:
        The zoo name, the name of the run's folder (also for the config.yaml inside it), or the name
        of the config file. Equal titles are told apart by their weights, or else by a number.
    """
    names = [_title(name) for name, _ in models]
    titles = [
        f"{name}, {Path(weights).stem}" if weights and names.count(name) > 1 else name
        for name, (_, weights) in zip(names, models, strict=True)
    ]
    return [
        title if titles.count(title) == 1 else f"{title} ({titles[:i].count(title) + 1})"
        for i, title in enumerate(titles)
    ]


def _title(name: str) -> str:
    path = Path(name)
    if path.name == "config.yaml":  # every run's config has this name
        return path.resolve().parent.name
    return path.stem if path.suffix in (".yaml", ".yml") else path.resolve().name


def _largest_instances(
    dataset: DetectionDataset, index: int, count: int
) -> list[tuple[Tensor, int]]:
    """Boxes (4,) and class indices of the largest GT boxes of an image."""
    boxes, classes = read_ground_truth(dataset, index)
    largest = box_area(boxes).argsort(descending=True, stable=True)[:count]
    return list(zip(boxes[largest], classes[largest].tolist(), strict=True))


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=90)
    return path
