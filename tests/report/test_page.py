"""The page: what is in it, that names stay text, and the sets that have little to report."""

import math
import re

import numpy as np
import pytest
from PIL import Image

from tests.data.builders import make_dataset, photo
from tests.report.builders import detect, random_scene
from tood.report.charts import COLORS, drawing, sparkline, thin_out
from tood.report.content import EvaluatedSet, Report, RunFacts
from tood.report.drawings import ERROR_COLORS, RIGHT_COLOR, draw_mistakes, worst_images
from tood.report.html import MAX_NAME, NOTHING, Markup, name, number, table, text
from tood.report.matching import MISSED
from tood.report.metrics import read_metrics
from tood.report.page import IMAGES_PER_SET, render_page, write_report
from tood.report.sections import summary

EVIL = "<script>alert(1)</script>&\"'>\u202e\x00\ud800ä 猫 $x^2$"


def page_of(dataset, rows, **facts) -> str:
    return render_page(Report([EvaluatedSet("", dataset, rows)], RunFacts(**facts), None))


def with_photos(dataset, folder):
    """The same dataset, with image files."""
    for index, file in enumerate(dataset.file_names):
        dataset.file_names[index] = str(folder / file)
        photo(index, (640, 480)).save(folder / file)
    return dataset


@pytest.fixture
def metrics_file(tmp_path):
    def write(lines: str):
        (tmp_path / "metrics.json").write_text(lines)
        return read_metrics(tmp_path / "metrics.json")

    return write


def test_everything_is_on_the_page(tmp_path, metrics_file):
    dataset, rows = random_scene(0, num_images=14)
    with_photos(dataset, tmp_path)
    lines = [
        f'{{"iteration": {i}, "total_loss": {9 / (i + 1)}, "loss_cls": 1.0, "lr": 0.1, '
        f'"phase_aligned": {float(i >= 40)}}}'
        for i in range(19, 100, 20)
    ]
    lines.append('{"iteration": 60, "bbox/AP": 41.5, "bbox/AP50": 60.0}')
    lines.append('{"iteration": 100, "bbox/AP": 40.25, "validation/total_loss": 0.5}')
    report = Report(
        [EvaluatedSet("", dataset, rows)],
        RunFacts(
            "My run",
            metrics_file("\n".join(lines)),
            config="SEED: 1",
            versions={"torch": "2.99.1"},
        ),
        tmp_path / "new" / "report.html",
    )
    write_report(report)
    page = report.path.read_text()
    for part in ("My run", "Best bbox/AP", "41.50", "iteration 60", "last", "SEED: 1", "2.99.1"):
        assert part in page, part
    assert "(task alignment learning); it began between iterations 40 and 59" in page
    headings = ("Summary", "Training", "What goes wrong", "Worst images", "Confusion matrix")
    for heading in (*headings, "Config and versions"):
        assert f">{heading}</h2>" in page
    assert page.count("data:image/jpeg") == IMAGES_PER_SET
    assert page.count('class="chart"') == 7  # losses, AP, rate; recall twice, sizes; reliability
    assert f'title="{report.sets[0].coco.overall["AP"]!r}"' in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'(?:href="#|url\(#)([^")]+)', page):
        assert reference in ids


def test_other_results():
    """AP of test-time augmentation, and of weights without their average."""
    dataset, rows = random_scene(0, num_images=2)
    results = {"bbox/AP": 11.11, "bbox_TTA/AP": 22.26, "raw_bbox/APs": 33.36, "x/loss_cls": 4.44}
    results["a set/bbox/AP"] = 11.11
    page = summary.render(
        Report([EvaluatedSet("a set", dataset, rows)], RunFacts(results=results), None)
    )
    assert "bbox_TTA" in page and "22.3" in page and "raw_bbox" in page and "33.4" in page
    assert "11.11" not in page and "4.44" not in page
    plain = summary.render(Report([EvaluatedSet("", dataset, rows)], RunFacts(), None))
    assert "evaluated too" in page and "evaluated too" not in plain


def test_nothing_is_loaded():
    page = page_of(*random_scene(0))
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "<script" not in page and "default-src 'none'" in page and "@import" not in page


@pytest.mark.parametrize("num_classes", [1, 3, 365])
def test_names_stay_text(tmp_path, num_classes):
    names = [EVIL, "x" * 500, "", *(f"{EVIL} {i}" for i in range(362))][:num_classes]
    boxes = [(0, i, 10 * (i % 60), 10 * (i // 60), 9, 9) for i in range(num_classes)]
    fields = {"category_ids": list(range(num_classes)), "file_names": [f"{EVIL}/{EVIL}.jpg"]}
    dataset = make_dataset(boxes, class_names=names, **fields)
    rows = detect(*((0, (i + i % 2) % num_classes, 0.5, *box[2:]) for i, box in enumerate(boxes)))
    report = Report(
        [EvaluatedSet(EVIL, dataset, rows)],
        RunFacts(EVIL, None, facts={EVIL: EVIL}, config=EVIL, versions={EVIL: EVIL}),
        tmp_path / "report.html",
    )
    write_report(report)
    page = report.path.read_text(encoding="utf-8")
    assert "alert(1)" in page and "<script" not in page and "猫" in page
    assert not re.search("[\x00\u202e]", page)
    assert page.count("<table") == page.count("</table>")
    assert len(page) < 3_000_000


def test_cells():
    assert text("<b>") == "&lt;b&gt;" and text(Markup("<b>")) == "<b>"
    assert (
        number(math.nan) == NOTHING and number(1 / 3, 2) == f'<span title="{1 / 3!r}">0.33</span>'
    )
    assert number(np.float64(0.5)) == '<span title="0.5">0.5</span>'
    long = name("ä" * 99)
    assert f"{'ä' * (MAX_NAME - 1)}…" in long and "ä" * 99 in long
    assert "<td>&lt;</td>" in table(["a"], [["<"]])


@pytest.mark.parametrize(
    ("boxes", "found", "expected"),
    [
        pytest.param([(0, 0, 0, 0, 9, 9)], [], "The model detected nothing", id="no detections"),
        pytest.param(
            [(0, 0, 0, 0, 9, 9)], [(0, 0, 0.9, 0, 0, 9, 9)], "There are no errors", id="perfect"
        ),
        pytest.param(
            [(0, 0, 0, 0, 9, 9)],
            [(0, 2, 0.9, 300, 0, 9, 9)],
            "no object with an IoU above 0.1",
            id="nothing right",
        ),
    ],
)
def test_sets_with_little_to_report(tmp_path, boxes, found, expected):
    dataset = with_photos(make_dataset(boxes, num_images=2), tmp_path)
    page = page_of(dataset, detect(*found))
    assert expected in page and "nan" not in re.sub(r"data:[^\"]*", "", page).lower()


def test_detections_are_drawn_where_nothing_is_right(tmp_path):
    """Such as boxes in another format: one has to see them."""
    dataset = with_photos(make_dataset([(0, 0, 0, 0, 9, 9)]), tmp_path)
    rows = detect((0, 0, 0.9, 300, 0, 9, 9), (0, 0, 0.1, 300, 50, 9, 9))
    (worst,) = worst_images(EvaluatedSet("", dataset, rows), 5)
    assert worst.wrong.tolist() == [0] and worst.not_found.tolist() == [0]


def test_several_sets():
    sets = [EvaluatedSet(f"set <{i}>", *random_scene(i)) for i in range(2)]
    page = render_page(Report(sets, RunFacts(), None))
    for i in range(2):
        assert f'<h2 class="set" id="set{i}">set &lt;{i}&gt;</h2>' in page
        assert f'id="set{i}-errors"' in page and f"Images of set &lt;{i}&gt;" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_order_of_images():
    """By the scores of wrong detections and the GT boxes that were not found."""
    boxes = [(0, 0, 0, 0, 9, 9), (1, 0, 0, 0, 9, 9), (2, 0, 0, 0, 9, 9), (3, 0, 0, 0, 9, 9)]
    dataset = make_dataset(boxes, num_images=5)
    right = [(i, 0, 0.9, 0, 0, 9, 9) for i in (0, 1, 2)]
    wrong = [(1, 0, 0.9, 300, 0, 9, 9), (2, 0, 0.9, 300, 0, 9, 9), (2, 1, 0.9, 300, 0, 9, 9)]
    evaluated = EvaluatedSet("", dataset, detect(*right, *wrong))
    worst = worst_images(evaluated, 10)
    assert [x.image for x in worst] == [2, 3, 1]
    assert [x.cost for x in worst] == pytest.approx([1.8, 1, 0.9])
    assert worst[1].not_found.tolist() == [3] and len(worst_images(evaluated, 1)) == 1


def test_boxes_are_drawn_where_they_are(tmp_path):
    """An image of twice the size of the drawing: coordinates are halved."""
    Image.new("RGB", (1280, 640), (128, 128, 128)).save(tmp_path / "gray.png")
    boxes = [(0, 0, 100, 300, 200, 200), (0, 1, 900, 100, 200, 200)]
    dataset = make_dataset(boxes, (1280, 640), file_names=[str(tmp_path / "gray.png")])
    rows = detect((0, 0, 0.9, 100, 300, 200, 200), (0, 2, 0.95, 600, 400, 100, 100))
    evaluated = EvaluatedSet("", dataset, rows)
    (mistakes,) = worst_images(evaluated, 1)
    drawn = draw_mistakes(evaluated, mistakes)
    assert drawn.size == (640, 320)

    def pixel(x: int, y: int) -> str:
        return "#{:02x}{:02x}{:02x}".format(*drawn.getpixel((x, y)))

    assert pixel(50, 200) == pixel(149, 200) == RIGHT_COLOR
    assert pixel(45, 200) == pixel(100, 200) == "#808080"
    assert pixel(300, 230) == ERROR_COLORS[int(evaluated.matches.error[0])]
    assert ERROR_COLORS[MISSED] in {pixel(450, y) for y in range(60, 140)}


def test_images_that_cannot_be_read(tmp_path):
    dataset, rows = random_scene(0, num_images=3)
    page = page_of(dataset, rows)
    assert page.count('class="missing"') == 3 and "<img" not in page


def test_turned_and_huge_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (6000, 3000)).save(tmp_path / "0.jpg", exif=exif)
    dataset = make_dataset(
        [(0, 0, 0, 0, 3000, 6000)], (3000, 6000), file_names=[str(tmp_path / "0.jpg")]
    )
    evaluated = EvaluatedSet("", dataset, detect((0, 1, 0.9, 9, 9, 9, 9)))
    assert draw_mistakes(evaluated, worst_images(evaluated, 1)[0]).size == (320, 640)


def test_charts():
    with drawing("a <chart>", "x", "y") as chart:
        chart.line(np.arange(2.0), np.array([np.nan, 1.0]), "", COLORS[0])
    assert 'aria-label="a &lt;chart&gt;"' in chart.svg and "currentColor" in chart.svg
    x, y = thin_out(np.arange(1200.0), np.r_[np.full(600, np.nan), np.ones(600)])
    assert len(x) == 600 and x[0] == 0.5 and np.isnan(y[:300]).all() and (y[300:] == 1).all()
    drawn = sparkline([np.linspace(1, 0, 101), np.full(101, np.nan)], COLORS[:2], "<")
    assert drawn.count("<polyline") == 1 and 'points="0.0,0.0' in drawn
