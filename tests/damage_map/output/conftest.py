from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def chromium():
    """Paths of Chromium and its driver; skips where there are none, unless they are required."""
    import os
    import shutil

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser = next((p for p in map(shutil.which, names) if p), None)
    driver = shutil.which("chromedriver")
    if browser and driver:
        pytest.importorskip("selenium")
        return browser, driver
    missing = (
        "the map's page was not tried in a browser: no Chromium with chromedriver here; on Debian "
        "and Ubuntu: apt-get install chromium chromium-driver"
    )
    if os.environ.get("MSNET_REQUIRE_BROWSER"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture
def page_of(flights, tmp_path):
    """The page of a map of four houses: one of each level, and one that is doubtful."""
    from msnet_d2.damage_map.pipeline import make_map

    def make(**options):
        House = flights.House
        houses = [House(-32, 40, 1, 0.8), House(0, 40, 2, 0.7), House(30, 42, 3, 0.9)]
        files = flights.write([*houses, House(4, 75, 1, 0.35)])
        make_map([files.video], tmp_path / "map", **options, results=[files.results])
        return tmp_path / "map" / "index.html"

    return make


@pytest.fixture(scope="module")
def chrome(chromium, tmp_path_factory):
    """One Chromium for all tests, which resolves no name of any host."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, driver = chromium
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", "--lang=en", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    page = webdriver.Chrome(options=options, service=Service(driver))
    page.set_script_timeout(60)
    yield page
    page.quit()


@pytest.fixture
def visit(chrome):
    """Open a page: ``visit(path, width)`` returns the driver, with logs of this page alone."""

    def visit(path, width=1400, height=900):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        for log in ("browser", "performance"):
            chrome.get_log(log)
        chrome.get(path.as_uri())
        chrome.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 200))")
        return chrome

    yield visit
    if chrome.current_url.startswith("file:"):
        chrome.execute_script("localStorage.clear()")
