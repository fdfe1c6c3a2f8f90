"""Reviews come back to the building that they were of, whatever its number is now."""

from __future__ import annotations

import csv
import json

import pytest

from msnet_d2.cli import main
from msnet_d2.damage_map.pipeline import make_map
from msnet_d2.damage_map.reviews import FORMAT, read_reviews
from msnet_d2.errors import InputError

pytest.importorskip("av")
pytest.importorskip("pyogrio")

COLUMNS = (
    "id", "latitude", "longitude", "ce90_m", "best_video", "best_time_s", "checked", "checked_by",
    "checked_at", "note",
)  # fmt: skip


def review_of(properties, **said):
    row = {name: properties.get(name) for name in COLUMNS[:6]}
    return {
        **row,
        "checked": True,
        "checked_by": "Ana",
        "checked_at": "2026-03-02T08:00:00Z",
        **said,
    }


def write_json(path, *rows):
    path.write_text(json.dumps({"format": FORMAT, "version": 1, "reviews": rows}))
    return path


def test_a_renewed_map_has_the_review_at_the_same_house_under_another_number(flights, tmp_path):
    House = flights.House
    files = flights.write([House(0, 40, 3)])
    make_map([files.video], tmp_path / "old", results=[files.results])
    (old,) = flights.buildings(tmp_path / "old")
    assert old["properties"]["id"] == "B0001"
    assert old["properties"]["checked"] is False
    reviews = write_json(
        tmp_path / "reviews.json", review_of(old["properties"], note="roof gone, two people")
    )
    # Another flight comes first now, over a house of its own: the numbers move on by one.
    other = flights.write([House(-30, 30, 1)], name="other")
    line = ["map", str(other.video), str(files.video), "--no-progress", "--reviews", str(reviews)]
    results = ["--results", str(other.results), str(files.results), "--out", str(tmp_path / "new")]
    assert main([*line, *results]) == 0
    said = {
        f["properties"]["id"]: f["properties"]["note"] for f in flights.buildings(tmp_path / "new")
    }
    assert said == {"B0001": None, "B0002": "roof gone, two people"}
    with (tmp_path / "new" / "buildings.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {r["id"]: r for r in csv.DictReader(file)}
    assert rows["B0002"]["checked"] == "yes"
    assert rows["B0002"]["checked_by"] == "Ana"


def test_without_a_place_the_moment_of_the_video_tells(flights, tmp_path):
    files = flights.write([flights.House(0, 40, 3)])
    make_map([files.video], tmp_path / "old", results=[files.results], use_telemetry=False)
    (old,) = flights.buildings(tmp_path / "old")
    reviews = read_reviews(
        write_json(
            tmp_path / "r.json", {**review_of(old["properties"], note="empty"), "id": "B0099"}
        )
    )
    make_map(
        [files.video], tmp_path / "new", results=[files.results], use_telemetry=False,
        reviews=reviews,
    )  # fmt: skip
    (new,) = flights.buildings(tmp_path / "new")
    assert new["properties"]["note"] == "empty"


def test_a_review_of_a_house_that_is_gone_is_said_and_exits_with_1(flights, tmp_path, capsys):
    files = flights.write([flights.House(0, 40, 3)])
    # A degree north: 111 km.
    far = {"id": "B0007", "latitude": 49.0, "longitude": 11.0, "checked": True, "note": "collapsed"}
    reviews = write_json(tmp_path / "r.json", far)
    code = main(
        ["map", str(files.video), "--results", str(files.results), "--out", str(tmp_path / "map"),
         "--reviews", str(reviews), "--no-progress"]
    )  # fmt: skip
    assert code == 1
    assert 'the review of B0007 ("collapsed") fits no building' in capsys.readouterr().err


def test_the_table_of_reviews_says_the_same_as_the_json(tmp_path):
    row = {
        "id": "B0001", "latitude": 48.0, "longitude": 11.0, "ce90_m": 3.5, "best_video": "a.mp4",
        "best_time_s": 1.25, "checked": True, "checked_by": "Ana", "checked_at": "2026-03-02",
        "note": "=two\nlines, and \"quotes\"",
    }  # fmt: skip
    cells = {**row, "checked": "yes", "note": "'" + row["note"]}
    with (tmp_path / "r.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow(cells)
    expected = read_reviews(write_json(tmp_path / "r.json", row))
    assert read_reviews(tmp_path / "r.csv") == expected
    assert expected[0].note == row["note"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "columns none"),
        ("[]", "not the reviews"),
        ('{"type": "FeatureCollection"}', "not the reviews"),
        ("a,b\n1,2\n", "columns 'a', 'b'"),
        ('{"format": "msnet reviews", "reviews": [{"note": "x"}]}', "review 1: no building's id"),
        (
            '{"format": "msnet reviews", "reviews": [{"id": "B1", "latitude": 91}]}',
            "latitude is '91'",
        ),
        ('{"format": "msnet reviews", "reviews": [{"id": "B1", "note": []}]}', "note is no text"),
        ('{"format": "msnet reviews", "reviews": [{"id": "B1\\u001b[2J"}]}', "no building's id"),
        ("id,checked,note\n" + "B1,yes,\n" * 10_001, "10,001 reviews; expected 10,000 at most"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, expected):
    path = tmp_path / "reviews"
    path.write_text(content)
    with pytest.raises(InputError, match=expected) as error:
        read_reviews(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line_and_exit_code_2(flights, tmp_path, capsys):
    files = flights.write([flights.House(0, 40, 3)])
    code = main(
        ["map", str(files.video), "--results", str(files.results), "--out", str(tmp_path / "map"),
         "--reviews", str(tmp_path / "missing.json"), "--no-progress"]
    )  # fmt: skip
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(lines) == 1
    assert "missing.json" in lines[0]
