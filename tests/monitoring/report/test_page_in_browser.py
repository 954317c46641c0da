"""The drift report in a real browser: it renders, alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from homeostat.monitoring.report.page import html
from homeostat.monitoring.report.report import drift

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)

    def table(n: int, shift: float) -> pl.DataFrame:
        z = random.normal(size=n)
        score = 1 / (1 + np.exp(-z - shift))
        return pl.DataFrame(
            {
                "amount": random.gamma(2, 30 + 20 * shift, n),
                "left": z,
                "right": np.where(shift > 0, -z, z) + random.normal(0, 0.3, n),
                "country": random.choice(["de", "fr"], n),
                "score": score,
                "fraud": (random.random(n) < score).astype(int),
            }
        )

    before, after = table(2_000, 0), table(1_500, 1)
    found = drift(before, after, by=["country"], prediction="score", label="fraud")
    path = tmp_path_factory.mktemp("page") / "out.html"
    path.write_text(html(found, before, after), encoding="utf-8")
    return path


def test_the_page_renders_without_errors_or_requests(browser: Any, page: Path) -> None:
    browser.get_log("performance")
    browser.get(page.as_uri())
    heads = [h.text for h in browser.find_elements("css selector", "h2")]
    assert heads == [
        "Most moved",
        "How they moved",
        "All columns together",
        "What it cost",
        "Slices",
        "Data quality",
        "Every column",
        "How to read this",
    ]
    charts = browser.find_elements("css selector", "svg")
    assert len(charts) >= 4
    assert all(chart.size["width"] > 100 and chart.size["height"] > 40 for chart in charts)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    assert asked == [page.as_uri()]


@pytest.mark.parametrize("width", [1200, 400])
def test_nothing_is_wider_than_the_window(browser: Any, page: Path, width: int) -> None:
    browser.set_window_size(width, 900)
    browser.get(page.as_uri())
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) <= 0


def test_dark_and_light_follow_the_reader(browser: Any, page: Path) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        feature = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
        browser.get(page.as_uri())
        body = browser.find_element("css selector", "body")
        colours[scheme] = body.value_of_css_property("background-color")
    assert colours["light"] != colours["dark"]
