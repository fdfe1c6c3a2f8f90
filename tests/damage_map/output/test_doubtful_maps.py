"""Maps that may be wrong say so in every file; one bad log never ends the others."""

from __future__ import annotations

import csv
import json
import os
import re
import zipfile

import pytest

from msnet_d2.cli import main

pytest.importorskip("av")
pytest.importorskip("pyogrio")


@pytest.fixture
def street(flights):
    """Two houses, 30 m apart, flown over once."""
    return flights.write([flights.House(0, 40, 2), flights.House(30, 40, 3)])


def command(*parts):
    return main(["map", *(str(p) for p in parts), "--no-progress"])


def as_csv(street, header="altitude", factor=1.0):
    """The log of a flight as a table whose only height is called ``header``."""
    found = re.findall(
        r"latitude: (\S+)\] \[longitude: (\S+)\] \[rel_alt: (\S+) .*?gb_yaw: (\S+) gb_pitch: (\S+)",
        street.log.read_text(),
    )
    rows = [f"time(s),latitude,longitude,{header},gimbal_yaw,gimbal_pitch,focal_length"]
    rows += [
        f"{i / 4},{lat},{lon},{float(alt) * factor},{yaw},{pitch},24"
        for i, (lat, lon, alt, yaw, pitch) in enumerate(found)
    ]
    street.log.unlink()
    street.log.with_suffix(".csv").write_text("\n".join(rows))


def test_doubts_are_in_every_file_and_the_exit_code_is_1(street, flights, tmp_path, capsys):
    as_csv(street)
    out = tmp_path / "map"
    code = command(street.video, "--results", street.results, "--out", out, "--align", "off")
    assert code == 1
    said = "the only altitude in the log, altitude, is taken as above take-off"
    printed = capsys.readouterr().err
    assert f"DOUBTFUL: flight.mp4: {said}" in printed
    assert "--takeoff-altitude" in printed  # the option, where the library names the parameter
    summary = json.loads((out / "summary.json").read_text())
    assert said in summary["doubts"][0]
    assert said in summary["videos"][0]["doubts"][0]
    collection = json.loads((out / "damage.geojson").read_text())
    assert said in collection["doubts"][0]
    reason = "the place of the whole flight is doubtful"
    for feature in flights.buildings(out):
        assert reason in feature["properties"]["review_reasons"]
    with open(out / "buildings.csv", encoding="utf-8-sig") as file:
        assert all(reason in row["review_reasons"] for row in csv.DictReader(file))
    kml = zipfile.ZipFile(out / "damage.kmz").read("doc.kml").decode()
    assert "DOUBTFUL" in kml
    assert said in kml
    page = (out / "index.html").read_text()
    assert said in page
    # The banner that scripts make of these is tried in a browser, in test_page_for_managers.py.
    assert '"doubts":["' in page


def test_a_log_that_leaves_nothing_open_gives_no_doubts(street, tmp_path):
    out = tmp_path / "map"
    assert command(street.video, "--results", street.results, "--out", out) == 0
    assert json.loads((out / "summary.json").read_text())["doubts"] == []
    assert "doubts" not in json.loads((out / "damage.geojson").read_text())
    assert "flat ground at take-off height was assumed" in (out / "index.html").read_text()


def test_a_map_without_a_single_place_exits_with_1(street, tmp_path, capsys):
    # 1450 m are above the sea, and nothing says what the log would show on the ground.
    as_csv(street, header="altitude_amsl", factor=1450 / 60)
    out = tmp_path / "map"
    code = command(street.video, "--results", street.results, "--out", out, "--align", "off")
    assert code == 1
    printed = capsys.readouterr()
    assert "none of the 2 buildings has a place" in printed.err
    assert "--takeoff-altitude" in printed.out


def year_one(log):
    log.write_text(
        "<gpx><trkpt lat='48' lon='11'><time>0001-01-01T00:00:00+02:00</time></trkpt></gpx>"
    )


def pipe(log):
    os.mkfifo(log)


def binary(log):
    log.write_bytes(b"ULog\x01\x12\x35" + bytes(100))


@pytest.mark.parametrize("spoil", [year_one, pipe, binary])
def test_one_bad_log_does_not_end_the_others(spoil, street, flights, tmp_path, capsys):
    bad = flights.write(street.houses[:1], name="bad")
    bad.log.unlink()
    spoil(bad.log)
    code = command(
        bad.video, street.video, "--results", bad.results, street.results,
        "--telemetry", bad.log, street.log, "--out", tmp_path / "map",
    )  # fmt: skip
    assert code == 1
    assert "bad.mp4 is left out" in capsys.readouterr().err
    assert len(flights.buildings(tmp_path / "map")) == 2
