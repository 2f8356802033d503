"""Uses the page of examples/web as a person does."""

import json
from pathlib import Path

from tests.examples.chromium import Chromium


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
