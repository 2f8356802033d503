"""The page in a headless Chromium: no errors, no requests, nothing wider than the screen."""

import shutil

import pytest

from tests.data.builders import photo
from tests.examples.chromium import Chromium
from tests.report.builders import random_scene
from tood.report.content import EvaluatedSet, Report, RunFacts
from tood.report.metrics import read_metrics
from tood.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(CHROMIUM, tmp_path_factory.mktemp("profile")) as b:
        yield b


def scene(folder, num_classes: int) -> EvaluatedSet:
    """Images of all shapes, some of them missing, and long names."""
    dataset, rows = random_scene(0, num_images=8, num_classes=num_classes)
    dataset.class_names[0] = "a_class_whose_name_has_no_place_to_break_it_" * 4
    for index, file in enumerate(dataset.file_names[:6]):
        dataset.file_names[index] = str(folder / file)
        photo(index, (640, 480)).save(folder / file)
    return EvaluatedSet("a/long/path/" * 12, dataset, rows)


@pytest.mark.parametrize(("num_classes", "num_sets"), [(5, 1), (60, 2)])
def test_page(browser, tmp_path, num_classes, num_sets):
    (tmp_path / "metrics.json").write_text(
        "\n".join(
            f'{{"iteration": {i}, "total_loss": {9 / (i + 1)}, "lr": 0.1, "bbox/AP": {i}, '
            f'"phase_aligned": {float(i > 40)}}}'
            for i in range(0, 100, 20)
        )
    )
    run = RunFacts(
        "<b>A run</b>",
        read_metrics(tmp_path / "metrics.json"),
        config="KEY: " + "x" * 300,
        versions={"tood": "0"},
    )
    sets = [scene(tmp_path, num_classes)] * num_sets
    report = Report(sets, run, tmp_path / "report.html")
    write_report(report)
    for domain in ("Log", "Network", "Page", "Runtime"):
        browser.command(f"{domain}.enable")
    for width in (390, 1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.command("Emulation.setDeviceMetricsOverride", **size)
        browser.open("about:blank")
        browser.events.clear()
        browser.open(report.path.as_uri())
        images = browser.evaluate("document.images.length")
        assert images == 6 * num_sets
        decoded = browser.evaluate(
            "Promise.all([...document.images].map(i => i.decode())).then("
            "() => [...document.images].filter(i => i.naturalWidth > 100).length)"
        )
        assert decoded == images
        assert browser.evaluate("document.querySelectorAll('.missing').length") == 2 * num_sets
        assert browser.evaluate("document.querySelector('h1').textContent") == "<b>A run</b>"
        browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert browser.evaluate("innerWidth") == width
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(
            "[...document.querySelectorAll('svg')].filter(s => s.checkVisibility()).every(s => {"
            " const r = s.getBoundingClientRect(); return r.width > 20 && r.height > 10; })"
        )
        assert problems(browser) == []
        assert requests(browser) <= {report.path.as_uri()}


def problems(browser: Chromium) -> list[dict]:
    """Errors and warnings of the page, also of its policy."""
    kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    return [event for event in browser.events if event.get("method") in kinds]


def requests(browser: Chromium) -> set[str]:
    """What the page has asked for."""
    urls = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    return {url for url in urls if not url.startswith("data:")}


def test_problems_are_seen(browser, tmp_path):
    """The checks above can fail."""
    (tmp_path / "page.html").write_text(
        '<meta http-equiv="Content-Security-Policy" content="script-src \'none\'">'
        '<script>1</script><img src="http://127.0.0.1:9/x.png">'
    )
    for domain in ("Log", "Network", "Page", "Runtime"):
        browser.command(f"{domain}.enable")
    browser.events.clear()
    browser.open((tmp_path / "page.html").as_uri())
    browser.evaluate("document.images[0].decode().catch(() => 0)")
    assert len(problems(browser)) == 2
    assert "http://127.0.0.1:9/x.png" in requests(browser)
