"""What tests ask of a map's page in a browser."""

from __future__ import annotations

import json


def requests_of(page):
    """Addresses that the page asked for; what is inside it (data:) is no request, and what the
    browser's own pages load is not ours."""
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = [p["request"]["url"] for p in sent if not p["documentURL"].startswith("chrome:")]
    return [u for u in urls if not u.startswith(("data:", "blob:"))]


def find(page, css):
    return page.find_elements("css selector", css)


def rows(page):
    return [row.get_attribute("data-id") for row in find(page, "#table tbody tr")]


def pixel(page, x, y):
    """Color of the map at a place of its canvas, RGB."""
    return page.execute_script(
        "damageMap.map.drawNow();"
        "const c = document.getElementById('map'), r = c.width / c.clientWidth;"
        "return [...c.getContext('2d').getImageData(...[...arguments].map(v => v * r), 1, 1)"
        ".data]",
        float(x), float(y),
    )[:3]  # fmt: skip


def place_of(page, level):
    """Pixel of the map at which the first building of a level is."""
    return page.execute_script(
        "const { data, map } = damageMap, [level] = arguments;"
        "return map.toPixel(data.buildings.find(b => b.record.level_number === level).center)",
        level,
    )


def enter(page, css, value):
    """Write into a field, as a person who then leaves it."""
    page.execute_script(
        "const field = document.querySelector(arguments[0]); field.value = arguments[1];"
        "for (const kind of ['input', 'change'])"
        "  field.dispatchEvent(new Event(kind, { bubbles: true }))",
        css, value,
    )  # fmt: skip
