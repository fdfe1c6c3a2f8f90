"""Whole maps of small flights: what is in each file, and that nothing is left of a failed one."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
import zipfile

import numpy as np
import pytest
import shapely

from msnet_d2.cli import main
from msnet_d2.damage_map.buildings.assessment import Rules
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.pipeline import make_map
from msnet_d2.damage_map.videos import find_videos
from msnet_d2.utils.output_folder import MANIFEST

pytest.importorskip("av")
pyogrio = pytest.importorskip("pyogrio")


@pytest.fixture
def street(flights):
    """Three houses in a row, one of each level, 30 m apart, flown over once."""
    House = flights.House
    return flights.write([House(-30, 40, 1), House(0, 40, 2), House(30, 40, 3)])


def command(*parts):
    return main(["map", *(str(p) for p in parts), "--no-progress"])


def test_each_building_is_once_in_each_file_where_it_is(street, flights, tmp_path):
    out = tmp_path / "map"
    summary = make_map([street.video], out, results=[street.results])
    assert summary.buildings == {"Debris": 1, "Severe": 1, "Slight": 1, "not assessed": 0}

    features = flights.buildings(out)
    local = EnuFrame(*flights.home)
    found = {}
    for feature in features:
        properties = feature["properties"]
        x, y = local.to_xy([[properties["latitude"], properties["longitude"]]])[0]
        house = min(street.houses, key=lambda h: np.hypot(h.x - x, h.y - y))
        assert np.hypot(house.x - x, house.y - y) < 2, properties["id"]
        assert shapely.geometry.shape(feature["geometry"]).contains(
            shapely.Point(properties["longitude"], properties["latitude"])
        )
        assert 0 < properties["ce90_m"] < 10
        assert properties["weights_sha256"] == flights.sha
        found[house.level] = properties
    assert [found[i]["level"] for i in (1, 2, 3)] == ["Slight", "Severe", "Debris"]
    assert [found[i]["fema_indicative"] for i in (1, 2, 3)] == [
        "affected or minor",
        "major",
        "destroyed",
    ]
    assert [found[i]["ems98_indicative"] for i in (1, 2, 3)] == ["1-2", "3-4", "5"]
    # All of it is seen at 0.9, and by the same level each time.
    assert found[2]["confidence"] == pytest.approx(0.9)
    assert found[2]["agreement"] == 1.0
    assert found[2]["first_time_s"] < found[2]["last_time_s"]

    with (out / "buildings.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["id"] for r in rows] == [f["properties"]["id"] for f in features]
    assert {r["worst_level"] for r in rows} == {"Slight", "Severe", "Debris"}

    layers = {str(name): str(kind) for name, kind in pyogrio.list_layers(out / "damage.gpkg")}
    assert set(layers) == {"buildings", "damaged_parts"}
    about = pyogrio.read_info(out / "damage.gpkg", layer="buildings")
    assert about["features"] == 3
    assert about["crs"] == "EPSG:4326"
    assert {"needs_review", "ce90_m", "weights_sha256", "best_frame"} <= set(about["fields"])

    with zipfile.ZipFile(out / "damage.kmz") as archive:
        names = archive.namelist()
        root = ET.fromstring(archive.read("doc.kml"))
    assert sorted(n for n in names if n.endswith(".jpg")) == [
        f"pictures/B000{i}.jpg" for i in (1, 2, 3)
    ]
    tag = "{http://www.opengis.net/kml/2.2}"
    assert len([p for p in root.iter(f"{tag}Placemark") if "-" not in p.get("id")]) == 3


def test_equal_runs_give_equal_files(street, tmp_path):
    for name in ("a", "b"):
        make_map([street.video], tmp_path / name, results=[street.results])
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert {"damage.geojson", "damage.kmz", "buildings.csv", "index.html"} <= set(files)
    for name in files:
        if name not in ("damage.gpkg", MANIFEST):  # one holds the time, the other its digest
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_page_holds_all_it_needs(street, tmp_path):
    make_map([street.video], tmp_path / "map", results=[street.results])
    page = (tmp_path / "map" / "index.html").read_text()
    assert "/*DATA*/" not in page
    assert "/*STYLE*/" not in page
    # Tiles are asked for when the reader switches them on; links are followed by a click; the last
    # is a name, not an address.
    addresses = set(re.findall(r"https?://[\w.-]+", page))
    assert addresses <= {
        "https://tile.openstreetmap.org",
        "https://www.openstreetmap.org",
        "https://www.google.com",
        "http://www.w3.org",
    }


def test_a_second_flight_over_the_same_houses_adds_passes_and_no_houses(street, flights, tmp_path):
    # From the east this time, and 1.5 m beside where its log says.
    back = flights.write(street.houses, name="back", heading=270, start=(50.0, 41.5), speed=6)
    summary = make_map(
        [street.video, back.video], tmp_path / "map", results=[street.results, back.results]
    )
    assert summary.total == 3
    features = flights.buildings(tmp_path / "map")
    assert max(f["properties"]["passes"] for f in features) == 2
    assert "back.mp4" in {f["properties"]["last_video"] for f in features}


def test_a_doubtful_building_is_not_assessed_and_not_called_none(flights, tmp_path):
    files = flights.write([flights.House(0, 40, 2, score=0.4)])
    make_map(
        [files.video], tmp_path / "map", results=[files.results], rules=Rules(min_confidence=0.5)
    )
    (feature,) = flights.buildings(tmp_path / "map")
    properties = feature["properties"]
    assert properties["level"] == "not assessed"
    assert properties["indication"] == "Severe"
    assert properties["fema_indicative"] is None
    assert properties["ems98_indicative"] is None
    assert properties["needs_review"] is True
    assert "low confidence (0.40)" in properties["review_reasons"]


def test_without_a_log_there_are_tables_and_a_page_but_no_places(street, flights, tmp_path):
    street.log.unlink()
    summary = make_map([street.video], tmp_path / "map", results=[street.results])
    assert summary.placed == 0
    assert summary.total >= 3
    assert all(f["geometry"] is None for f in flights.buildings(tmp_path / "map"))
    assert all(f["properties"]["needs_review"] for f in flights.buildings(tmp_path / "map"))
    assert "no flight log" in " ".join(summary.notes)
    assert (tmp_path / "map" / "index.html").is_file()


def test_control_points_take_back_what_the_compass_was_off(flights, tmp_path):
    houses = [flights.House(-20, 45), flights.House(22, 60)]
    files = flights.write(houses)
    local = EnuFrame(*flights.home)
    # The log's yaw is 6 degrees off; 45 m ahead that is 4.7 m.
    files.log.write_text(files.log.read_text().replace("gb_yaw: 0.0", "gb_yaw: 6.0"))

    def worst(out):
        away = []
        for feature in flights.buildings(out):
            p = feature["properties"]
            x, y = local.to_xy([[p["latitude"], p["longitude"]]])[0]
            away.append(min(np.hypot(h.x - x, h.y - y) for h in houses))
        return max(away)

    make_map([files.video], tmp_path / "off", results=[files.results])
    assert worst(tmp_path / "off") > 3
    # Near corners of the boxes are the houses' near walls on the ground.
    rows = ["x,y,frame,lat,lon"]
    frames = json.loads(files.results.read_text())["frames"]
    for frame in (0, 2, 4):
        for item in frames[frame]["instances"]:
            x, y, w, h = item["parent_bbox"]
            if x <= 1 or x + w >= 319 or y + h >= 179:
                continue
            house = houses[0] if x < 160 else houses[1]
            near = house.y - house.side / 2
            for px, side in ((x, -1), (x + w, 1)):
                lat, lon = local.to_lat_lon([house.x + side * house.side / 2, near])[0]
                rows.append(f"{px:.2f},{y + h:.2f},{frame},{lat:.8f},{lon:.8f}")
    assert len(rows) > 5
    (tmp_path / "points.csv").write_text("\n".join(rows))
    code = command(
        files.video, "--results", files.results, "--out", tmp_path / "on",
        "--gcp", tmp_path / "points.csv",
    )  # fmt: skip
    assert code == 0
    assert worst(tmp_path / "on") < 2


def broken_video(files, tmp_path):
    files.video.write_bytes(b"no video at all" * 100)
    return "cannot be opened as a video"


def unknown_log(files, tmp_path):
    files.log.write_text("Dear diary,\ntoday I flew.\n")
    return "flight.srt"


def other_flight(files, tmp_path):
    # A CSV of the year before: its clock and the video's do not overlap.
    files.log.unlink()
    rows = [f"2025-03-01T10:00:{i:02d}Z,48.0,11.0,60,0,-60" for i in range(30)]
    text = "time,lat,lon,height,yaw,pitch\n" + "\n".join(rows)
    files.log.with_suffix(".csv").write_text(text)
    return "overlap|another flight"


def out_is_a_file(files, tmp_path):
    (tmp_path / "map").write_text("mine")
    return "--out"


def no_results(files, tmp_path):
    files.results.write_text("{}")
    return "not the results of a video"


@pytest.mark.parametrize(
    "spoil", [broken_video, unknown_log, other_flight, out_is_a_file, no_results]
)
def test_what_cannot_be_used_is_said_in_one_line_and_leaves_nothing(
    spoil, street, tmp_path, capsys
):
    expected = spoil(street, tmp_path)
    extra = []
    if spoil is other_flight:
        extra = ["--telemetry", street.log.with_suffix(".csv"), "--telemetry-offset", "4000"]
    before = sorted(tmp_path.rglob("*"))
    code = command(street.video, "--results", street.results, "--out", tmp_path / "map", *extra)
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(lines) == 1
    assert re.search(expected, lines[0]), lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_of_several_videos_a_bad_one_is_reported_and_the_rest_go_on(
    street, flights, tmp_path, capsys
):
    bad = flights.write(street.houses[:1], name="bad")
    bad.video.write_bytes(b"\0" * 5000)
    code = command(
        street.video, bad.video, "--results", street.results, bad.results,
        "--out", tmp_path / "map",
    )  # fmt: skip
    assert code == 1
    assert "bad.mp4 is left out" in capsys.readouterr().err
    assert len(flights.buildings(tmp_path / "map")) == 3
    assert "bad.mp4 is left out" in (tmp_path / "map" / "index.html").read_text()


def test_a_folder_of_others_is_not_replaced_and_an_earlier_map_is(street, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.tex").write_text("mine")
    line = [street.video, "--results", street.results, "--out"]
    assert command(*line, tmp_path / "thesis") == 2
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["text.tex"]
    assert command(*line, tmp_path / "map") == 0
    (tmp_path / "map" / "index.html").write_text("of the map before")
    assert command(*line, tmp_path / "map") == 0
    assert (tmp_path / "map" / "index.html").read_text() != "of the map before"


@pytest.mark.parametrize("mine", ["notes.txt", "summary.json"])
def test_what_somebody_put_beside_a_map_is_not_lost(street, tmp_path, mine, capsys):
    line = [street.video, "--results", street.results, "--out", tmp_path / "map"]
    assert command(*line) == 0
    (tmp_path / "map" / mine).write_text('{"format": "mine"}')
    before = {p.name: p.read_bytes() for p in (tmp_path / "map").iterdir()}
    assert command(*line) == 2
    assert "holds other files" in capsys.readouterr().err.strip().splitlines()[-1]
    assert {p.name: p.read_bytes() for p in (tmp_path / "map").iterdir()} == before


def test_folders_stand_for_their_videos(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("DJI_10.MP4", "DJI_9.MP4", "DJI_9.SRT", "notes.txt"):
        (videos / name).touch()
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "1.jpg").touch()
    found, left_out = find_videos([videos, frames, tmp_path / "missing.mp4"])
    assert [p.name for p in found] == ["DJI_9.MP4", "DJI_10.MP4", "frames", "missing.mp4"]
    assert left_out == []
