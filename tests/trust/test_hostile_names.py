"""Names and texts of others: never commands to a terminal, a spreadsheet or a browser, and never
the end of a run."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import subprocess
import sys

import pytest

from msnet_d2.damage_map.output.table import _cell
from msnet_d2.errors import OutputError
from msnet_d2.utils.file_io import write_text
from msnet_d2.utils.text import listing, printable

pytest_plugins = ["damage_map.conftest"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢\tname\n", "plain é 漢\tname\n"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\rb\x7f\x9b", "a\\rb\\x7f\\x9b"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("caf\udce9.mp4", "caf\\udce9.mp4"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text, shown):
    assert printable(text) == shown


def test_lists_of_names_are_short():
    assert listing(["a"] * 3) == "a, a, a"
    assert listing(["a"] * 4) == "a, a, a, …"
    assert len(listing(["x" * 100_000] * 100_000)) < 250


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("plain-name = 3", "plain-name = 3"),
        ("=1+1", "'=1+1"),
        (" \t=1+1", " \t'=1+1"),
        ("＝1+1", "'＝1+1"),
        ("＠SUM", "'＠SUM"),
        ("a;=cmd|' /C calc'!A0", "a;'=cmd|' /C calc'!A0"),
        ("a,-1", "a,'-1"),
        ('";@x', "\";'@x"),
        ("a\n+1", "a\n'+1"),
    ],
)
def test_no_cell_of_a_table_becomes_a_formula(text, cell):
    assert _cell(text) == cell


def test_a_lone_surrogate_in_json_is_read_as_what_it_was(tmp_path):
    text = json.dumps({"name": "caf\udce9"}, ensure_ascii=False)
    write_text(tmp_path / "a.json", text)
    assert json.loads((tmp_path / "a.json").read_text()) == {"name": "caf\udce9"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_errors_reach_terminals_of_any_encoding_without_their_commands(tmp_path, encoding):
    name = os.fsencode("\x1b]0;漢\x07") + b"\xe9.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "msnet_d2.cli", "train", "--config-file", name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr + done.stdout
    assert b"\\x1b]0;" in done.stderr.splitlines()[-1]


@pytest.fixture
def two_flights(flights):
    """A sound flight, and one with a log that cannot be read as a log."""
    pytest.importorskip("pyogrio")
    houses = [flights.House(0, 40, 2)]
    return flights.write(houses, name="good"), flights.write(houses, name="bad")


def gpx(year):
    points = "".join(
        f'<trkpt lat="48.0" lon="11.0"><ele>60</ele><time>{year}-12-31T23:59:5{k}Z</time></trkpt>'
        for k in range(10)
    )
    return (
        f'<gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{points}</trkseg></trk></gpx>'
    )


def run_map(tmp_path, *words):
    from msnet_d2.cli import main

    return main(["map", *map(str, words), "--out", str(tmp_path / "map")])


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_a_log_of_an_impossible_year_is_left_out_and_the_rest_done(
    two_flights, tmp_path, year, capsys
):
    good, bad = two_flights
    bad.log.unlink()
    bad.log.with_suffix(".gpx").write_text(gpx(year))
    code = run_map(tmp_path, good.video, bad.video, "--results", good.results, bad.results)
    assert code == 1
    assert "bad.mp4 is left out: " in capsys.readouterr().err
    assert json.loads((tmp_path / "map" / "summary.json").read_text())["placed"] == 1


def test_a_defect_of_ours_over_one_video_does_not_end_the_others(
    two_flights, tmp_path, capsys, monkeypatch
):
    from msnet_d2.damage_map import pipeline

    def fail(path, *rest, **options):
        if "bad" in str(path):
            raise ZeroDivisionError
        return read(path, *rest, **options)

    read = pipeline.open_video
    monkeypatch.setattr(pipeline, "open_video", fail)
    good, bad = two_flights
    code = run_map(tmp_path, good.video, bad.video, "--results", good.results, bad.results)
    assert code == 1
    assert "bad.mp4 is left out: a defect of msnet_d2" in capsys.readouterr().err


def test_names_that_are_not_utf8_are_carried_through_to_every_file(flights, tmp_path, capsys):
    pytest.importorskip("pyogrio")
    made = flights.write([flights.House(0, 40, 2)])
    video = made.video.parent / os.fsdecode(b"=\x1bcaf\xe9.mp4")
    made.video.rename(video)
    made.log.rename(video.with_suffix(".srt"))
    assert run_map(tmp_path, video, "--results", made.results) in (0, 1)
    out = capsys.readouterr()
    assert "\x1b" not in out.out + out.err
    for path in (tmp_path / "map").iterdir():
        content = path.read_bytes()
        assert b"\x1b" not in content or path.suffix in (".kmz", ".gpkg"), path.name
    with open(tmp_path / "map" / "buildings.csv", encoding="utf-8-sig") as file:
        (row,) = csv.DictReader(file)
    assert "'=\\x1bcaf\\udce9.mp4" in row.values()


def test_a_geopackage_that_cannot_be_written_is_said_in_one_line(tmp_path):
    pytest.importorskip("pyogrio")
    from msnet_d2.damage_map.output.gpkg import write_gpkg

    with pytest.raises(OutputError, match="cannot write .*no_folder"):
        write_gpkg(tmp_path / "no_folder" / "a.gpkg", [], [])


def test_the_page_runs_its_own_scripts_alone(flights, tmp_path):
    pytest.importorskip("pyogrio")
    made = flights.write([flights.House(0, 40, 2)])
    run_map(tmp_path, made.video, "--results", made.results)
    page = (tmp_path / "map" / "index.html").read_text()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        contents = re.findall(rf'<{kind}(?: type="module")?>(.*?)</{kind}>', page, re.S)
        digests = [hashlib.sha256(text.encode()).digest() for text in contents]
        expected = [f"'sha256-{base64.b64encode(d).decode()}'" for d in digests]
        assert expected
        assert f"{kind}-src {' '.join(expected)}" in policy
