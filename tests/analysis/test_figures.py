"""Figures of alignment: files, titles, and what the panels show."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from tests.analysis.cases import PARALLEL_HEAD
from tood.analysis import panels
from tood.analysis.figures import draw_alignment, model_titles
from tood.analysis.model_view import ModelViewer
from tood.errors import ConfigError
from tood.inference.detector import Detector

IMAGE = np.random.RandomState(0).randint(0, 256, (75, 110, 3)).astype(np.uint8)


@pytest.fixture
def make_detector(make_cfg):
    def make(*opts):
        cfg = make_cfg(*opts)
        return Detector(build_model(cfg).eval(), cfg)

    return make


@pytest.fixture
def view(make_detector):
    """A T-head's view of an image whose sides are no multiples of a stride."""
    with ModelViewer("a title", make_detector()) as viewer:
        return viewer.view(IMAGE, score_threshold=0.005)


def test_files_of_two_models(shapes, make_cfg, make_detector, tmp_path):
    """A figure with both models per GT box, and one of the inside of the only T-head."""
    detectors = {"T-head": make_detector(), "parallel head": make_detector(*PARALLEL_HEAD)}
    name = make_cfg().DATASETS.TEST[0]
    files = draw_alignment(detectors, name, tmp_path / "out", num_images=2, num_instances=1)
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    images = json.loads((shapes / "val.json").read_text())["images"][:2]
    stems = [image["file_name"].split("/")[-1].split(".")[0] for image in images]
    assert [file.name for file in files] == [
        name for stem in stems for name in (f"{stem}-gt1.png", f"{stem}-head-1.png")
    ]
    for detector in detectors.values():
        assert not any(module._forward_hooks for module in detector.model.modules())


def test_images_of_the_same_name_do_not_overwrite_each_other(shapes, make_detector, tmp_path):
    """And a GT box's figures go from the largest box to the smallest; crowds have none."""
    file = next((shapes / "images").glob("*.png"))
    boxes = [(10, 10, 20, 20, 0), (5, 5, 60, 60, 0), (0, 0, 96, 96, 1)]
    record = {"annotations": [
        {"bbox": box, "bbox_mode": 0, "category_id": 1, "iscrowd": crowd} for *box, crowd in boxes
    ]}  # fmt: skip
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        (folder / "1.png").write_bytes(file.read_bytes())
    records = [{**record, "file_name": str(folder / "1.png")} for folder in folders]
    DatasetCatalog.register("two folders", lambda: records)
    try:
        files = draw_alignment({"model": make_detector()}, "two folders", tmp_path / "out")
    finally:
        DatasetCatalog.remove("two folders")
        MetadataCatalog.remove("two folders")
    assert [file.name for file in files] == [
        "1-gt1.png", "1-gt2.png", "1-head.png", "1-2-gt1.png", "1-2-gt2.png", "1-2-head.png",
    ]  # fmt: skip


def test_classes_of_another_dataset(make_cfg, make_detector, tmp_path):
    detectors = {"3 classes": make_detector()}
    detectors["3 classes"].class_names = ["a", "b", "c"]
    with pytest.raises(ConfigError, match=r"3 classes detects 3 classes, but .* has 5"):
        draw_alignment(detectors, make_cfg().DATASETS.TEST[0], tmp_path)


def test_titles_are_names_that_the_user_knows(tmp_path, monkeypatch):
    (tmp_path / "my-run.v2").mkdir()
    monkeypatch.chdir(tmp_path / "my-run.v2")
    assert model_titles([("TOOD-R50-1x", None)]) == ["TOOD-R50-1x"]
    assert model_titles([("configs/TOOD-R50-1x.yaml", None)]) == ["TOOD-R50-1x"]
    for name in (str(tmp_path / "my-run.v2"), str(tmp_path / "my-run.v2/config.yaml")):
        assert model_titles([(name, None)]) == ["my-run.v2"]
    assert model_titles([("config.yaml", "model.pth")]) == ["my-run.v2"]
    assert model_titles([(".", None)]) == ["my-run.v2"]


def test_equal_titles_are_told_apart():
    config = "configs/TOOD-R50-1x.yaml"
    models = [(config, "run/model_0001.pth"), (config, "run/model_0002.pth"), ("TOOD-R101-2x", "x")]
    first, second = "TOOD-R50-1x, model_0001", "TOOD-R50-1x, model_0002"
    assert model_titles(models) == [first, second, "TOOD-R101-2x"]
    assert model_titles([("a/run", None), ("b/run", None)]) == ["run (1)", "run (2)"]


def test_heat_map_covers_the_image(view):
    """The maps used to end half a cell before the right and bottom border."""
    left, right, bottom, top = view.extent
    assert (left, top) == (0, 0) and right >= IMAGE.shape[1] and bottom >= IMAGE.shape[0]
    rows, columns = view.level_shapes[0]
    assert view.heat_map(torch.ones(sum(view.num_cells))).shape == (rows, columns)
    # The cells have the size of a stride at the scale of the image: 75 pixels became 128.
    assert bottom / rows == pytest.approx(8 * 75 / 128)


def test_heat_map_places_every_level(view):
    """The value of a coarse cell fills its cells of the finest level."""
    values = [torch.zeros(count) for count in view.num_cells]
    values[1].view(view.level_shapes[1])[2, 3] = 0.4
    values[0].view(view.level_shapes[0])[4, 6] = 0.7
    expected = np.zeros(view.level_shapes[0], np.float32)
    expected[4:6, 6:8] = 0.4
    expected[4, 6] = 0.7
    np.testing.assert_array_equal(view.heat_map(torch.cat(values)), expected)


def test_heat_map_takes_the_best_anchor_of_a_cell(view):
    values = torch.rand(sum(view.num_cells), 3)
    np.testing.assert_array_equal(view.heat_map(values.flatten()), view.heat_map(values.amax(1)))


def maps_and_bars(figure):
    """The maps and their color bars, with the layout done."""
    FigureCanvasAgg(figure).draw()
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    shown = [image for axes in panels for image in axes.images if image.get_array().ndim == 2]
    return shown, [image.colorbar.ax for image in shown if image.colorbar is not None]


def test_equal_values_have_equal_colors_in_all_panels(view):
    instance = panels.draw_instance([view, view], IMAGE, torch.tensor([10.0, 10, 60, 50]), 1)
    head = panels.draw_head(view, IMAGE)
    shown = maps_and_bars(instance)[0] + maps_and_bars(head)[0]
    assert len(shown) == 2 * 2 + 3  # scores and IoUs of both; attention to both tasks, and M
    assert len({tuple(image.to_rgba(np.array([[0.5]])).flat) for image in shown}) == 1
    # 0.499 and 0.501 are both written 0.50.
    assert len({text.get_color() for axes in head.axes[:2] for text in axes.texts}) == 1


@pytest.mark.parametrize("size", [None, (4, 8), (8, 4)])
def test_color_bars_are_as_tall_as_the_maps(view, monkeypatch, size):
    """Also in panels with another aspect ratio than the image's."""
    if size is not None:
        monkeypatch.setattr(panels, "_panel_size", lambda _: size)
    figure = panels.draw_instance([view], IMAGE, torch.tensor([10.0, 10, 60, 50]), 1)
    shown, bars = maps_and_bars(figure)
    assert len(bars) == len(shown) == 2
    for image, bar in zip(shown, bars, strict=True):
        panel = image.axes.get_window_extent()
        assert panel.width / panel.height == pytest.approx(110 / 75, rel=0.01)
        extent = bar.get_window_extent()
        assert (extent.y0, extent.y1) == pytest.approx((panel.y0, panel.y1), abs=1)
        assert extent.x0 >= panel.x1


def test_titles_of_the_panels(view):
    """The class is named; dollar signs in names are not formulas."""
    view.class_names[1] = "$x$"
    figure = panels.draw_instance([view], IMAGE, torch.tensor([10.0, 10, 60, 50]), 1)
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    assert titles[0].get_text() == "a title: detections"
    assert titles[1].get_text().startswith("score for $x$ (max 0.")
    assert not any(title.get_parse_math() for title in titles)


def test_points_and_boxes_are_in_pixels_of_the_image(view):
    """75x110 became 128x188, and the input 128x192."""
    assert view.level_shapes[0] == (16, 24)
    step = view.points[1] - view.points[0]
    assert step.tolist() == pytest.approx([8 * 110 / 188, 0])
    assert view.cell_sizes[0] == pytest.approx((8 * 110 / 188, 8 * 75 / 128))
    centers = view.predictions.boxes.unflatten(1, (2, 2)).mean(1)
    assert ((centers - view.points)[: 16 * 24].abs() < 16).all()


def test_image_that_is_not_resized(make_detector):
    """detectron2's resize has no new size when INPUT.MIN_SIZE_TEST is 0."""
    with ModelViewer("a title", make_detector("INPUT.MIN_SIZE_TEST", "0")) as viewer:
        view = viewer.view(IMAGE, score_threshold=0.005)
    assert view.level_shapes[0] == (12, 16)  # 75x110 padded to 96x128
    assert view.cell_sizes[0] == (8, 8)
    assert (view.points[1] - view.points[0]).tolist() == [8, 0]


def test_head_inside_a_larger_model(make_detector):
    """Its maps are recorded, although the larger model has no ``head``."""
    detector = make_detector()

    class Larger(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, inputs):
            return self.inner(inputs)

    detector.model = Larger(detector.model)
    with ModelViewer("a title", detector) as viewer:
        assert set(viewer.view(IMAGE, 0.005).head_maps) == {
            "classification", "localization", "M", "O",
        }  # fmt: skip
