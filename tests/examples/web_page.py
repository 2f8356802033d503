"""Uses the page of examples/web as a person does."""

import json
from pathlib import Path

import numpy as np

from tests.examples.chromium import Chromium
from tood_runtime.detections import Detections


def text_of(browser: Chromium, name: str) -> str:
    return browser.evaluate(f"document.getElementById('{name}').textContent")


def wait_until_idle(browser: Chromium) -> None:
    browser.wait_for("document.getElementById('main').getAttribute('aria-busy') === 'false'")


def choose(browser: Chromium, *files: Path) -> None:
    """Choose files, and wait for the detections or an error."""
    clear = "for (const id of ['status', 'error']) document.getElementById(id).textContent = ''"
    browser.evaluate(clear)
    browser.choose_files("#files", files)
    wait_for_answer(browser)


def wait_for_answer(browser: Chromium) -> None:
    browser.wait_for("document.querySelectorAll('#status:not(:empty), #error:not(:empty)').length")
    wait_until_idle(browser)


def set_threshold(browser: Chromium, value: float) -> None:
    browser.evaluate(
        f"(s => {{ s.value = {value}; s.dispatchEvent(new Event('input')); }})"
        "(document.getElementById('threshold'))"
    )


def saved_detections(browser: Chromium) -> dict:
    """What the link "Save as JSON" gives."""
    assert text_of(browser, "error") == ""
    href = "document.getElementById('save').href"
    return json.loads(browser.evaluate(f"fetch({href}).then(r => r.text())"))


def assert_same(saved: dict, expected: Detections, pixels: float) -> None:
    """One to one, in any order of near ties: class, score and box."""
    assert (saved["height"], saved["width"]) == expected.image_size
    found = saved["detections"]
    assert len(found) == len(expected) >= 5
    boxes = np.array([item["box"] for item in found])
    scores = np.array([item["score"] for item in found])
    names = np.array([item["class"] for item in found])
    taken = set()
    for box, score, name in zip(
        expected.xyxy, expected.confidence, expected.class_names, strict=True
    ):
        same = (names == name) & (np.abs(scores - score) < 1e-4)
        same &= np.abs(boxes - box).max(1) < pixels
        same[list(taken)] = False
        assert same.any(), f"{name} {score:.4f} {box} is missing"
        taken.add(int(same.argmax()))
