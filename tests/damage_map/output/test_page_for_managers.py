"""What an emergency manager needs of the page, tried in a real Chromium."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from helpers.pages import enter, find, requests_of, rows

from msnet_d2.damage_map.pipeline import make_map
from msnet_d2.damage_map.reviews import read_reviews

pytest.importorskip("av")
pytest.importorskip("pyogrio")

DATA = re.compile(r'(?<=<script type="application/json" id="data">).*?(?=</script>)', re.DOTALL)


def changed(path, change):
    """The page with other data in it; its scripts stay, and with them its security policy."""
    text = path.read_text(encoding="utf-8")
    data = json.loads(DATA.search(text)[0])
    change(data)
    written = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    path.write_text(DATA.sub(lambda _: written, text), encoding="utf-8")
    return path


def facts(page):
    return {e.get_attribute("data-fact"): e.text for e in find(page, "#facts [data-fact]")}


def test_the_head_says_when_where_and_by_what(visit, page_of):
    page = visit(page_of())
    found = facts(page)
    # The log begins at 10:00:00 and has no zone; the flight is at 48 degrees north, 11 east.
    assert found["date"] == "2026-03-01, 10:00 (the log's clock, zone unknown)"
    assert found["place"].startswith("48.00")
    assert "flight.mp4" in found["flight"]
    assert "abababababab" in found["model"]
    assert "not known to be safe" in find(page, "#facts .caveat")[0].text
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    printed = page.execute_script("return document.querySelector('.sheet .facts').textContent")
    assert all(text in printed for text in found.values())


def test_a_doubtful_map_says_so_on_the_screen_and_on_every_sheet(visit, page_of):
    def doubt(data):
        data["doubts"] = ["flight.mp4: the log seems 4 s late"]
        data["buildings"][0]["record"]["grid_cell"] = "B1"

    page = visit(changed(page_of(), doubt))
    banner = find(page, "#warnings .banner")[0]
    assert banner.is_displayed()
    assert "DOUBTFUL" in banner.text
    assert "4 s late" in banner.text
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    sheets = page.execute_script(
        "return [...document.querySelectorAll('.sheet')].map(s => s.textContent)"
    )
    # The whole, and areas A1 and B1.
    assert len(sheets) == 3
    assert all("DOUBTFUL" in sheet for sheet in sheets)


def test_without_damage_it_does_not_say_that_there_is_none(visit, flights, tmp_path):
    files = flights.write([])
    make_map([files.video], tmp_path / "map", results=[files.results])
    page = visit(tmp_path / "map" / "index.html")
    assert "does not mean that there is none" in facts(page)["result"]


@pytest.mark.parametrize("width", [1400, 1920])
def test_no_column_of_the_table_is_cut(visit, page_of, width):
    def long(data):
        for building in data["buildings"]:
            record = building["record"]
            record["needs_review"] = True
            record["review_reasons"] = (
                "low confidence (0.35); never seen as a whole; seen in 1 frame only"
            )
            record["note"] = "the roof is gone and two people wait on the second floor"

    page = visit(changed(page_of(), long), width=width)
    over = "const b = document.querySelector('.scroll'); return b.scrollWidth - b.clientWidth"
    assert page.execute_script(over) == 0


def test_the_table_comes_in_order_of_urgency_with_the_reason(visit, page_of):
    page = visit(page_of())
    assert [c.text for c in find(page, "td.c-urgency")] == ["1", "2", "3", "4"]
    why = [c.text for c in find(page, "td.c-reason")]
    # Debris, Severe, Slight, and last what is perhaps Slight.
    assert [text.split(",")[0] for text in why] == ["Debris", "Severe", "Slight", "perhaps Slight"]


def test_buildings_are_found_by_number_and_by_what_is_written_of_them(visit, page_of):
    def address(data):
        data["buildings"][1]["record"]["address"] = "12 Elm Street"

    page = visit(changed(page_of(), address))
    for text, count in (("B0002", 1), ("2", 1), ("debris", 1), ("elm street", 1), ("oak", 0)):
        enter(page, "#search", text)
        assert find(page, "#search-answer")[0].text.startswith(f"{count} building"), text
        assert len(rows(page)) == count
    enter(page, "#search", "")
    assert len(rows(page)) == 4


def test_coordinates_are_found_in_the_usual_forms(visit, page_of):
    page = visit(page_of())
    record = page.execute_script("return damageMap.data.buildings[1].record")
    lat, lon = record["latitude"], record["longitude"]

    def minutes(value, side):
        return f"{int(value)}°{int(value % 1 * 60):02d}'{value * 60 % 1 * 60:.3f}\"{side}"

    forms = (
        f"{lat}, {lon}", f"{lat} {lon}", f"{lat}N {lon}E", f"{lon}° E, {lat}° N",
        f"geo:{lat},{lon}", f"{lat:.6f}; {lon:.6f}".replace(".", ","), f"N{lat} E{lon}",
        f"{minutes(lat, 'N')} {minutes(lon, 'E')}",
    )  # fmt: skip
    for text in forms:
        enter(page, "#search", text)
        assert find(page, "#search-answer")[0].text == f"{record['id']} stands there.", text
        assert record["id"] in find(page, "#detail h2")[0].text
        # A tenth of a degree north is 11 km.
        enter(page, "#search", f"{lat + 0.1:.6f}, {lon}")
        assert "the nearest" in find(page, "#search-answer")[0].text


def test_coordinates_can_be_copied_and_opened_anywhere(visit, page_of):
    page = visit(page_of())
    find(page, "#table td button")[0].click()
    record = page.execute_script(
        "return damageMap.data.buildings.find(b => b.record.urgency === 1).record"
    )
    text = f"{record['latitude']:.6f}, {record['longitude']:.6f}"
    assert find(page, "#detail code")[0].text == text
    links = [a.get_attribute("href") for a in find(page, "#detail .links a")]
    assert [re.match(r"\w+:(//[\w.]+)?", link)[0] for link in links] == [
        "https://www.openstreetmap.org", "https://www.google.com", "geo:",
    ]  # fmt: skip
    assert all(str(record["latitude"]) in a for a in links[:1])
    page.execute_script("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    find(page, "#detail dd button")[0].click()
    page.execute_async_script("setTimeout(arguments[0], 50)")
    assert page.execute_script("return window.copied") == text


def test_links_lead_to_the_files_beside_the_page(visit, page_of):
    path = page_of()
    page = visit(path)
    names = [a.text for a in find(page, "#files a")]
    assert names == ["buildings.csv", "damage.geojson", "damage.gpkg", "damage.kmz"]
    assert all((path.parent / name).is_file() for name in names)


def saved_text(page, button):
    """What a button would save."""
    page.execute_script(
        "URL.createObjectURL = (blob) => { window.saved = blob.text(); return '#'; }"
    )
    find(page, button)[0].click()
    return page.execute_async_script("window.saved.then(arguments[0])")


def test_reviews_survive_the_page_and_travel_to_the_next_map(visit, page_of, flights, tmp_path):
    path = page_of()
    page = visit(path)
    find(page, "#table td button")[0].click()
    chosen = find(page, "#detail h2")[0].text
    enter(page, "#checked-by", "Ana")
    enter(page, "#note", '=roof gone, "two" people\nupstairs')
    find(page, "#checked")[0].click()
    page = visit(path)
    assert find(page, "#reviewed")[0].text == "1 with a review"
    find(page, "#unchecked")[0].click()
    assert len(rows(page)) == 3
    find(page, "#unchecked")[0].click()

    (tmp_path / "r.json").write_text(saved_text(page, "#export-json"), encoding="utf-8")
    (tmp_path / "r.csv").write_text(saved_text(page, "#export-csv"), encoding="utf-8", newline="")
    (review,) = read_reviews(tmp_path / "r.json")
    assert read_reviews(tmp_path / "r.csv") == (review,)
    assert (review.id, review.checked, review.checked_by) == (chosen, True, "Ana")
    assert review.note == '=roof gone, "two" people\nupstairs'
    table = next(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text("utf-8-sig"))))
    assert table["note"].startswith("'=")

    page.execute_script("localStorage.clear()")
    page = visit(page_of(reviews=[review]))
    assert find(page, "#reviewed")[0].text == "1 with a review"
    find(page, "#table td button")[0].click()
    assert find(page, "#note")[0].get_attribute("value") == review.note
    assert "✓" in find(page, "tr.chosen td.c-checked")[0].text


def test_a_spoilt_store_of_the_browser_does_not_keep_the_page_from_opening(visit, page_of):
    path = page_of()
    page = visit(path)
    for kept in ("{", "7", '{"B0001": 7, "B0002": null}'):
        page.execute_script(
            "localStorage.setItem(`msnet reviews ${damageMap.data.map_id}`, arguments[0])", kept
        )
        page = visit(path)
        assert len(rows(page)) == 4
        assert page.get_log("browser") == []


def test_it_speaks_other_languages_and_remembers(visit, page_of):
    path = page_of()
    page = visit(path)
    for name, title in (
        ("de", "Schadenskarte"),
        ("es", "Mapa de daños"),
        ("fr", "Carte des dégâts"),
    ):
        enter(page, "#language", name)
        assert find(page, "h1")[0].text == title
        assert page.execute_script("return document.documentElement.lang") == name
        assert "low confidence" not in find(page, "#table")[0].text
        assert page.execute_script("return document.body.innerText.includes('undefined')") is False
    page = visit(path)
    assert find(page, "h1")[0].text == "Carte des dégâts"
    assert page.get_log("browser") == []


def test_five_thousand_buildings_are_drawn_within_three_seconds(visit, page_of):
    def multiply(data):
        base = data["buildings"]
        data["buildings"] = []
        for k in range(5000):
            building = json.loads(json.dumps(base[k % len(base)]))
            east, north = k % 71 * 45.0, k // 71 * 45.0
            for place in [building["center"], *(p for r in building["rings"] for p in r)]:
                place[0] += east
                place[1] += north
            building["record"] |= {"id": f"B{k + 1:04d}", "urgency": k + 1}
            building["photo"] = f"photos/B{k + 1:04d}.jpg"
            data["buildings"].append(building)

    path = changed(page_of(), multiply)
    # Without the photos, which are beside it.
    assert path.stat().st_size < 12e6
    page = visit(path)
    drawn = page.execute_script(
        "damageMap.map.drawNow(); return performance.getEntriesByName('first draw')[0].startTime"
    )
    assert drawn < 3000
    assert len(rows(page)) == 200
    assert find(page, "#more")[0].text == "Show more (4,800 left)"
    find(page, "#more")[0].click()
    assert len(rows(page)) == 1200


def test_photos_beside_the_page_are_shown_and_a_missing_one_is_said(
    visit, page_of, tmp_path, monkeypatch
):
    monkeypatch.setattr("msnet_d2.damage_map.output.page.MANY_BUILDINGS", 3)
    path = page_of()
    photos = sorted(p.name for p in (path.parent / "photos").iterdir())
    assert photos == [f"B000{i}.jpg" for i in (1, 2, 3, 4)]
    page = visit(path)
    find(page, "#table td button")[0].click()
    page.execute_async_script("setTimeout(arguments[0], 200)")
    assert page.execute_script("return document.querySelector('#detail img').naturalWidth") == 400
    assert requests_of(page)[-1].startswith(path.parent.as_uri() + "/photos/B000")
    assert page.get_log("browser") == []
    for name in photos:
        (path.parent / "photos" / name).unlink()
    page = visit(path)
    find(page, "#table td button")[0].click()
    page.execute_async_script("setTimeout(arguments[0], 200)")
    assert "The picture is missing" in find(page, "#detail")[0].text


def test_across_the_antimeridian_the_map_is_in_one_piece(visit, page_of):
    page = visit(page_of())
    # 0.001 degrees west and east of the antimeridian, seen from the west of it.
    apart = page.execute_script(
        "const { data } = damageMap; const half = Math.PI * 6378137;"
        "data.origin[0] = half - 10; document.querySelector('#search').value = '48, -179.999';"
        "document.querySelector('#search').dispatchEvent(new Event('input'));"
        "return damageMap.map.pin[0]"
    )
    # 10 m to the antimeridian and 111 m beyond: 0.001 / 360 of 40,075,017 m.
    assert apart == pytest.approx(10 + 111.3, abs=0.1)
