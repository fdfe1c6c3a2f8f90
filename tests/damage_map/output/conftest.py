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
