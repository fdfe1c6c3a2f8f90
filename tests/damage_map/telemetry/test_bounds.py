"""Logs that grow faster than their file, or hold more than any flight: refused before the work."""

from __future__ import annotations

import time

import numpy as np
import pytest

from msnet_d2.damage_map.geometry.gcp import read_gcps
from msnet_d2.damage_map.telemetry import dji_srt, flight_csv, log_text, tracks
from msnet_d2.damage_map.telemetry.cleaning import clean_rows
from msnet_d2.damage_map.telemetry.flight_log import COLUMNS, FlightLog
from msnet_d2.damage_map.telemetry.telemetry import Telemetry
from msnet_d2.errors import InputError

POINT = '<trkpt lat="48.{k}" lon="11.5"><ele>500</ele><time>2024-05-01T10:00:{k:02d}Z</time>'


def gpx(points):
    return f'<?xml version="1.0"?><gpx><trk><trkseg>{points}</trkseg></trk></gpx>'


def refused(text, name, most=1000):
    """The error's text; it comes at once and is short, whatever the file holds."""
    begin = time.process_time()
    with pytest.raises(InputError) as error:
        Telemetry.from_text(text, name)
    assert time.process_time() - begin < 10
    assert len(str(error.value)) < most
    return str(error.value)


def test_points_within_points_are_refused():
    plain = gpx("".join(POINT.format(k=k) + "</trkpt>" for k in range(10, 30)))
    assert len(Telemetry.from_text(plain, "a.gpx")) == 20
    nested = gpx(POINT.format(k=10) * 7500 + "</trkpt>" * 7500)  # 620 kB, quadratic before
    assert "51 levels of elements; 50 are the most" in refused(nested, "a.gpx")


@pytest.mark.parametrize("kind", ["gpx", "kml"])
def test_elements_of_a_track_are_counted_while_they_are_read(monkeypatch, kind):
    monkeypatch.setattr(tracks, "MAX_ELEMENTS", 1000)
    text = f"<{kind}>" + "<a/>" * 999 + f"</{kind}>"
    assert "no track point" in refused(text, f"a.{kind}")  # it was read to its end
    text = f"<{kind}>" + "<a/>" * 1000 + f"</{kind}>"
    assert "1,001 elements; 1,000 are the most" in refused(text, f"a.{kind}")


def test_lists_of_a_geojson_file_are_counted_before_they_are_built():
    text = '{"type": "FeatureCollection", "features": [' + "[]," * 4_000_000 + "1]}"
    assert "more than 4,000,000 lists" in refused(text, "a.geojson")


def test_subtitles_are_counted(monkeypatch):
    monkeypatch.setattr(dji_srt, "MAX_RECORDS", 10)
    cue = "{k}\n00:00:{k:02d},000 --> 00:00:{k:02d},500\n[latitude: 48.1] [longitude: 11.{k}]\n\n"
    text = "".join(cue.format(k=k) for k in range(10, 20))
    assert len(Telemetry.from_text(text, "a.srt")) == 10
    assert "11 subtitles; 10 are the most" in refused(text + cue.format(k=20), "a.srt")
    crowd = "FrameCnt: 1 [latitude: 48.1] [longitude: 11.1]\n" * 11
    assert "11 records" in refused(f"1\n00:00:01,000 --> 00:00:02,000\n{crowd}", "a.srt")


def test_columns_lines_and_cells_of_a_table_are_counted(monkeypatch):
    header = ",".join(["time", "lat", "lon", *(f"column{k}" for k in range(3_000_000))])
    assert "3,000,003 columns; 5,000 are the most" in refused(f"{header}\n1,48,11\n", "a.csv")
    head = "time,lat,lon\n"
    monkeypatch.setattr(flight_csv, "MAX_CELLS", 100)
    assert "cells; 100 are the most" in refused(head + "1,48,11\n" * 50, "a.csv")
    monkeypatch.setattr(flight_csv, "MAX_RECORDS", 10)
    assert "lines; 20 are the most" in refused(head + "1,48,11\n" * 20, "a.csv")


def test_a_log_of_a_gibibyte_is_refused_by_its_size(tmp_path):
    path = tmp_path / "a.srt"
    with open(path, "wb") as file:
        file.truncate(1 << 30)  # takes no room on the disk
    with pytest.raises(InputError, match=r"1,073\.7 MB or more; .* 268\.4 MB"):
        Telemetry.read(path)


def test_outliers_without_end_are_dropped_in_time():
    # Every third position lies a degree off, 100,000 times: each was looked for in all records.
    count = 300_000
    time_s = np.arange(count) / 10
    lat = 48 + time_s * 1e-6 + (np.arange(count) % 3 == 1)
    columns = {name: np.full(count, np.nan) for name in COLUMNS}
    columns |= {"time_s": time_s, "lat": lat, "lon": np.full(count, 11.0)}
    begin = time.process_time()
    cleaned, notes = clean_rows(FlightLog(columns, "csv", "a.csv", time_is_video=False))
    assert time.process_time() - begin < 10
    assert np.isnan(cleaned["lat"]).sum() == count // 3
    assert any("outlying" in note for note in notes)


def test_a_missing_file_of_control_points_is_called_what_it_is(tmp_path):
    with pytest.raises(InputError, match="the file of control points cannot be read .No such file"):
        read_gcps(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="the flight log cannot be read .No such file"):
        log_text.read_text(tmp_path / "missing.srt")


def test_control_points_have_a_size_of_their_own(tmp_path):
    path = tmp_path / "a.csv"
    with open(path, "wb") as file:
        file.truncate((4 << 20) + 1)
    with pytest.raises(InputError, match=r"files of its kind may have 4\.2 MB"):
        read_gcps(path)
