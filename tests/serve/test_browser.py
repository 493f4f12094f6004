"""The pages in a real browser, which alone knows what a cookie, an origin and a sandbox are."""

from __future__ import annotations

import http.server
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.inference.conftest import body, lps
from tests.serve.conftest import Server
from uvlm.data.ct.io import write_volume

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER and find_spec("selenium")),
        reason="needs chromium, chromedriver and selenium",
    ),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of selenium's sockets
]
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--window-size=1200,900"),
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
)


@pytest.fixture
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in OPTIONS:
        options.add_argument(option)
    driver = webdriver.Chrome(options, Service(str(DRIVER)))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def heading(browser: Any) -> str:
    return str(browser.execute_script("return document.querySelector('h1')?.innerText || ''"))


def test_from_the_link_to_the_evidence_page_and_away(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    ct = tmp_path / "Zzyzx Öster.nii.gz"
    write_volume(ct, lps(body()))
    home = f"http://127.0.0.1:{server.port}/"
    browser.get(f"{home}?key={server.key}")
    assert browser.current_url == home  # the key is gone from the address
    browser.find_element("name", "ct").send_keys(str(ct))
    browser.find_element("css selector", "form.upload button").click()
    until(lambda: heading(browser) == "CT 1: drafted")  # the page looks again by itself
    assert "Zzyzx" not in browser.page_source
    place = browser.current_url
    browser.get(f"{place}/evidence.html")
    until(lambda: browser.execute_script("return document.body.dataset.ready || ''") == "all")
    assert browser.execute_script("return self.origin") == "null"
    asked = "return fetch(arguments[0]).then(() => 'answered', () => 'refused')"
    assert browser.execute_script(asked, place) == "refused"
    browser.get(place)
    browser.find_element("css selector", "form button").click()
    until(lambda: heading(browser) == "Draft a report of a CT")
    assert server.ask(place.removeprefix(home.rstrip("/"))).status == 404


def test_no_other_site_reaches_it(browser: Any, server: Server) -> None:
    home = f"http://127.0.0.1:{server.port}/"
    browser.get(f"{home}?key={server.key}")
    assert heading(browser) == "Draft a report of a CT"
    with other_site(home) as port:
        browser.get(f"http://evil.example:{port}/")
        browser.find_element("tag name", "button").click()
        until(lambda: browser.current_url == f"{home}cts")
        assert "another page" in browser.page_source
        browser.get(f"http://evil.example:{port}/")
        asked = "return fetch(arguments[0], {credentials: 'include'}).then(() => 1, () => 0)"
        assert browser.execute_script(asked, home) == 0
    browser.get(f"http://evil.example:{server.port}/?key={server.key}")  # a rebound name
    assert "address" in browser.page_source
    assert server.ask().body.count(b"CT 1") == 0


class other_site:  # noqa: N801 - used like a function
    """A page of another site, with a form that sends to ours."""

    def __init__(self, home: str) -> None:
        form = f'<form method="post" action="{home}cts" enctype="multipart/form-data">'
        page = f"{form}<button>Win</button></form>".encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *told: object) -> None:
                return

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> int:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return int(self.server.server_address[1])

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
