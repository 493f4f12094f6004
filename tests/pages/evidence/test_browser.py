"""The page in a real browser: Chromium without a display and without a network, from file://."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pages.evidence.conftest import Pages, draft
from tests.pages.evidence.test_page import filled, hostile, large_page

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
REASON = "needs chromium, chromedriver and selenium"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER and find_spec("selenium")), reason=REASON),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of selenium's sockets
]
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--window-size=1440,900",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9", "--force-device-scale-factor=1",
)  # fmt: skip
Open = Callable[..., Any]  # with the page, as HTML


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(str(DRIVER)))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Open:
    def show(html: str, ready: str = "all") -> Any:
        path = tmp_path / "ein Ordner mit Ümlaut" / "evidence.html"
        path.parent.mkdir(exist_ok=True)
        path.write_text(html, encoding="utf-8")
        browser.get_log("browser"), browser.get_log("performance")  # forget the page before
        browser.get(path.as_uri())
        until(lambda: state(browser, "ready") in (ready, "none"), 90)
        assert state(browser, "ready") == ready, state(browser, "error")
        return browser

    return show


def state(browser: Any, name: str) -> str:
    return str(browser.execute_script(f"return document.body.dataset.{name} || ''"))


def until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def picture(browser: Any, element: str) -> Any:
    """The pixels of an element, (H, W, 3)."""
    import io

    from matplotlib.image import imread

    shot = browser.find_element("id", element).screenshot_as_png
    return imread(io.BytesIO(shot))[..., :3]


def test_the_page_opens_and_asks_for_nothing(opened: Open, page: Pages) -> None:
    browser = opened(page().html())
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    asked = [
        e["message"] for e in browser.get_log("performance") if "requestWillBeSent" in e["message"]
    ]
    elsewhere = [m for m in asked if '"url":"' in m and not any(
        f'"url":"{scheme}' in m for scheme in ("file:", "data:", "blob:"))]  # fmt: skip
    assert asked
    assert elsewhere == []
    assert picture(browser, "planes-box").std() > 0.05
    assert picture(browser, "solid-box").std() > 0.01


def test_a_click_on_a_sentence_shows_its_place_its_numbers_and_its_map(
    opened: Open, page: Pages
) -> None:
    browser = opened(page().html())
    before = picture(browser, "planes-box")
    first = browser.find_elements("css selector", ".sentence")[0]
    first.click()
    until(lambda: state(browser, "map") == "map-0.nii", 10)
    assert state(browser, "map") == "map-0.nii"
    right, front, up = map(float, state(browser, "at").split())
    assert (right, front, up) == pytest.approx((-10.0, 0.0, 148.0), abs=2.1)
    why = browser.find_element("id", "why-0")
    assert why.is_displayed()
    assert "0.93" in why.text
    assert "mask: nodule or mass" in browser.find_element("id", "where").text
    after = picture(browser, "planes-box")
    assert np.abs(after - before).max() > 0.3
    first.click()
    assert not browser.find_element("id", "why-0").is_displayed()


def test_all_of_it_can_be_done_with_the_keyboard(opened: Open, page: Pages) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = opened(page().html())
    press(browser, Keys.ARROW_DOWN)
    assert browser.find_element("id", "why-0").is_displayed()
    press(browser, Keys.ARROW_DOWN)
    assert not browser.find_element("id", "why-0").is_displayed()
    assert "Contradicted." in browser.find_element("id", "why-1").text
    press(browser, Keys.ARROW_UP)
    until(lambda: state(browser, "map") != "", 10)
    press(browser, "e")
    until(lambda: state(browser, "map") == "map-1.nii", 10)
    assert state(browser, "map") == "map-1.nii"
    press(browser, "e")
    until(lambda: state(browser, "map") == "", 10)
    assert state(browser, "map") == ""
    at = [float(n) for n in state(browser, "at").split()]
    press(browser, Keys.ARROW_RIGHT)
    assert float(state(browser, "at").split()[2]) == pytest.approx(at[2] + 4.0, abs=0.1)
    for number, name in enumerate(("Lung", "Mediastinum", "Bone"), start=1):
        press(browser, str(number))
        chosen = browser.find_element("css selector", '.window[aria-pressed="true"]')
        assert chosen.text == name
    press(browser, "m")
    assert browser.find_element("id", "masks").get_attribute("aria-pressed") == "false"
    press(browser, "?")
    assert browser.find_element("id", "help").is_displayed()


def test_a_large_ct_can_be_read_after_three_seconds(opened: Open, page: Pages) -> None:
    """Drawn by the CPU; masks and 3D follow. The best of three, as other tests run beside."""
    html = large_page(page)
    times = [int(opened(html).find_element("tag name", "body").get_dom_attribute("data-ms"))
             for _ in range(3)]  # fmt: skip
    assert min(times) <= 3000, times


def test_windows_change_the_picture(opened: Open, page: Pages) -> None:
    browser = opened(page().html())
    shots = []
    for key in "123":
        press(browser, key)
        shots.append(picture(browser, "planes-box"))
    assert shots[0].mean() > shots[1].mean()  # lung is grey in its own window, black in the next
    assert np.abs(shots[1] - shots[2]).max() > 0.2


def test_the_patients_left_is_on_the_right_of_the_axial_plane(opened: Open, page: Pages) -> None:
    browser = opened(page().html())
    press(browser, "x", "2")
    browser.find_elements("css selector", ".sentence")[0].click()
    until(lambda: state(browser, "map") != "", 10)
    press(browser, "e", "e")
    until(lambda: state(browser, "map") == "", 10)
    shot = picture(browser, "planes-box")
    axial = shot[:, : int(0.64 * shot.shape[1])]
    coloured = axial.max(-1) - axial.min(-1) > 0.3
    box = np.argwhere(axial.max(-1) > 0.15)
    middle = (box[:, 1].min() + box[:, 1].max()) / 2
    # Letters at the edges are coloured too, so the nodule is looked for inside the body.
    inside = coloured[:, int(middle) - 200 : int(middle) + 200]
    assert coloured.any()
    assert np.argwhere(inside)[:, 1].mean() > 200


def test_masks_that_cannot_be_shown_are_said_beside_the_planes(opened: Open, page: Pages) -> None:
    html = page().html()
    place = html.index(">", html.index('id="volume-masks"')) + 1
    browser = opened(f"{html[:place]}{html[place:].replace('H4sI', 'AAAA', 1)}", ready="none")
    assert "Masks or 3D cannot be shown" in browser.find_element("id", "opening").text
    assert picture(browser, "planes").max() > 0


def test_hostile_text_runs_nothing(opened: Open, page: Pages) -> None:
    browser = opened(page(**filled(hostile)).html())
    assert browser.execute_script("return typeof hacked") == "undefined"
    assert len(browser.find_elements("css selector", ".sentence")) == 250
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def test_a_withheld_report_has_no_sentence_and_its_ct(opened: Open, page: Pages) -> None:
    written = draft(report=None, sentences=(), probabilities={}, withheld="the liver has 1 ml")
    browser = opened(page(written, maps={}).html())
    assert "the liver has 1 ml" in browser.find_element("id", "withheld").text
    assert browser.find_elements("css selector", ".sentence") == []
    press(browser, "e", "m", "2")  # keys of what is not there do no harm
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def test_a_browser_without_webgl_keeps_the_draft(browser: Any, opened: Open, page: Pages) -> None:
    gone = {"source": "HTMLCanvasElement.prototype.getContext = () => null"}
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", gone)
    try:
        opened(page().html(), ready="none")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert "The planes cannot be shown" in browser.find_element("id", "opening").text
    browser.find_elements("css selector", ".sentence")[0].click()
    assert "0.93" in browser.find_element("id", "why-0").text
