"""The map's page in a real Chromium, opened from a file without a network."""

from __future__ import annotations

import base64
import json

import cv2
import numpy as np
import pytest
from helpers.pages import find, pixel, place_of, requests_of, rows

from msnet_d2.damage_map.pipeline import make_map

pytest.importorskip("av")
pytest.importorskip("pyogrio")


def test_it_opens_from_a_file_silently_and_asks_nobody(visit, page_of):
    path = page_of()
    page = visit(path)
    assert page.get_log("browser") == []
    assert requests_of(page) == [path.as_uri()]
    assert "3 damaged buildings and 1 too doubtful to assess" in find(page, "#facts")[0].text
    assert len(rows(page)) == 4
    # Something is drawn: more than the ground color and the grid.
    shot = cv2.imdecode(
        np.frombuffer(base64.b64decode(page.get_screenshot_as_base64()), np.uint8), cv2.IMREAD_COLOR
    )
    box = find(page, "#map")[0].rect
    x, y = int(box["x"]), int(box["y"])
    drawn = shot[y : y + int(box["height"]), x : x + int(box["width"])].reshape(-1, 3)
    assert len(np.unique(drawn // 16, axis=0)) > 50


def test_a_click_on_the_map_shows_the_building(visit, page_of):
    page = visit(page_of())
    x, y = place_of(page, 3)
    from selenium.webdriver import ActionChains

    canvas = find(page, "#map")[0]
    middle = canvas.rect["width"] / 2, canvas.rect["height"] / 2
    ActionChains(page).move_to_element_with_offset(
        canvas, x - middle[0], y - middle[1]
    ).click().perform()
    detail = find(page, "#detail")[0].text
    assert "Debris" in detail
    assert "destroyed" in detail
    assert "null" not in detail
    assert find(page, "#detail img")[0].get_attribute("src").startswith("data:image/jpeg")
    # The crop is a picture that the browser can show, and each observation is in the chart.
    assert page.execute_script("return document.querySelector('#detail img').naturalWidth") == 400
    assert len(find(page, "#detail svg circle")) == page.execute_script(
        "return damageMap.data.buildings.find(f => f.record.level === 'Debris').record.observations"
    )
    assert len(find(page, "#table tr.chosen")) == 1


def test_filters_hide_on_the_map_and_in_the_table(visit, page_of):
    page = visit(page_of())
    everything = rows(page)
    x, y = place_of(page, 3)
    shown = pixel(page, x + 6, y)
    find(page, "[data-level='3']")[0].click()
    assert len(rows(page)) == 3
    assert find(page, "#count")[0].text == "3 of 4 buildings shown"
    assert pixel(page, x + 6, y) != shown
    find(page, "[data-level='3']")[0].click()
    assert rows(page) == everything
    assert pixel(page, x + 6, y) == shown

    page.execute_script(
        "const s = document.getElementById('confidence'); s.value = 75;"
        "s.dispatchEvent(new Event('input'))"
    )
    # 0.8 and 0.9 stay, 0.7 and 0.35 go.
    assert len(rows(page)) == 2
    page.execute_script(
        "const s = document.getElementById('confidence'); s.value = 0;"
        "s.dispatchEvent(new Event('input'))"
    )
    find(page, "#review")[0].click()
    assert len(rows(page)) == page.execute_script(
        "return damageMap.data.buildings.filter(f => f.record.needs_review).length"
    )


def test_columns_sort_both_ways(visit, page_of):
    page = visit(page_of())
    button = "th[data-key=confidence] button"

    def column():
        return [int(c.text[:-1]) for c in find(page, "td.c-confidence")]

    find(page, button)[0].click()
    assert column() == [90, 80, 70, 35]
    find(page, button)[0].click()
    assert column() == [35, 70, 80, 90]


def test_layers_change_the_map_and_the_base_map_is_only_asked_for_when_wanted(visit, page_of):
    path = page_of()
    page = visit(path)
    picture = "damageMap.map.drawNow(); return document.getElementById('map').toDataURL()"
    seen = [page.execute_script(picture)]
    for layer in ("heat", "track", "mosaic", "errors"):
        find(page, f"[data-layer={layer}]")[0].click()
        seen.append(page.execute_script(picture))
    assert len(set(seen)) == 5
    assert requests_of(page) == [path.as_uri()]
    find(page, "[data-layer=osm]")[0].click()
    page.execute_async_script("setTimeout(arguments[0], 300)")
    asked = requests_of(page)
    assert asked
    assert all(u.startswith("https://tile.openstreetmap.org/") for u in asked)
    assert "OpenStreetMap cannot be reached" in find(page, "#no-tiles")[0].text
    find(page, "[data-layer=osm]")[0].click()
    assert not find(page, "#no-tiles")[0].is_displayed()


def test_on_a_phone_nothing_runs_off_the_side(visit, page_of):
    page = visit(page_of(), width=390, height=844)
    root = "document.documentElement"
    over = f"return {root}.scrollWidth - {root}.clientWidth"
    assert page.execute_script(over) == 0
    find(page, "#table td button")[0].click()
    assert find(page, "#detail img")
    assert page.execute_script(over) == 0
    assert page.get_log("browser") == []


def test_the_report_has_a_sheet_of_totals_and_one_an_area(visit, page_of):
    page = visit(page_of())
    sheet = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    pdf = base64.b64decode(sheet["data"])
    assert pdf.startswith(b"%PDF")
    # The houses lie within one square of 250 m: one sheet says all.
    titles = page.execute_script(
        "return [...document.querySelectorAll('.sheet h1')].map(h => h.textContent)"
    )
    assert titles == ["Damage report"]
    totals = page.execute_script(
        "return [...document.querySelectorAll('.sheet .totals')[0].rows]"
        ".map(r => r.cells[0].textContent.trim() + ' ' + r.cells[1].textContent)"
    )
    assert totals[1:] == ["Debris 1", "Severe 1", "Slight 1", "not assessed 1", "All 4"]
    # Each building has its photo, number, place and urgency on paper.
    listed = page.execute_script(
        "return [...document.querySelectorAll('.sheet .listing tbody tr')].map(row =>"
        "[row.querySelector('img').naturalWidth, row.cells[1].textContent])"
    )
    assert [width for width, _ in listed] == [400] * 4
    assert sorted(text[:8] for _, text in listed) == [f"B000{i}48." for i in (1, 2, 3, 4)]
    assert len(find(page, ".sheet .map")) == 1


def test_without_places_there_is_a_chart_instead_of_a_map(visit, page_of):
    page = visit(page_of(use_telemetry=False))
    assert page.get_log("browser") == []
    assert not find(page, "#map-box")[0].is_displayed()
    assert "No flight log" in find(page, "#warnings")[0].text
    bars = find(page, "#timeline [data-id]")
    assert len(bars) == len(rows(page)) > 0
    bars[0].click()
    assert find(page, "#detail img")


def test_names_of_files_are_text_and_no_markup(visit, flights, tmp_path):
    files = flights.write([flights.House(0, 40)])
    name = "<img src=x onerror=alert(1)>"
    content = json.loads(files.results.read_text())
    content["video"]["name"] = name
    files.results.write_text(json.dumps(content))
    evil = files.video.rename(files.video.with_name(f"{name}.mp4"))
    files.log.rename(files.log.with_name(f"{name}.srt"))
    make_map([evil], tmp_path / "map", results=[files.results])
    page = visit(tmp_path / "map" / "index.html")
    assert page.get_log("browser") == []
    assert name in find(page, "#facts")[0].text
    assert not find(page, "img[src=x]")
