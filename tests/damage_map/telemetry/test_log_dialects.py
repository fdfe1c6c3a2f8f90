"""One flight in the words of many programs: made-up values, the right meaning each time.

The flight: from 47.5 N, 8.25 W northwards at 10 m/s (0.00009 degrees a second), 50 m above
take-off, 450 m above the sea; a record every half second.
"""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msnet_d2.damage_map import Telemetry
from msnet_d2.damage_map.telemetry.log_text import decode, parse_clock
from msnet_d2.damage_map.telemetry.values import (
    LENGTHS,
    parse_elapsed,
    parse_measure,
    parse_number,
    parse_place,
)
from msnet_d2.errors import InputError

TIMES = np.arange(20) / 2
LAT, LON, ALT = 47.5 + 9e-5 * TIMES, np.full(20, -8.25), 50 + TIMES / 10


def table(header: str, row, name: str = "a.csv") -> Telemetry:
    """The flight under ``header``; ``row`` makes the cells of a time, place and height."""
    rows = [row(*values) for values in zip(TIMES, LAT, LON, ALT)]
    return Telemetry.from_text("\n".join([header, *rows]), name)


def dms(value: float, letters: str) -> str:
    seconds = round(abs(value) * 3600, 3)
    degrees, rest = divmod(seconds, 3600)
    return (
        f'{degrees:.0f} deg {rest // 60:.0f}\' {rest % 60:.3f}"" {letters[0 if value > 0 else 1]}'
    )


def clock(t: float) -> str:
    return f"10:12:{30 + t:06.3f}"


ROWS = {
    "decimal degrees, metres": (
        "time(s),latitude,longitude,height(m)",
        lambda t, lat, lon, alt: f"{t},{lat:.7f},{lon:.7f},{alt:.3f}",
    ),
    "letters before": (
        "time(s),latitude,longitude,height(m)",
        lambda t, lat, lon, alt: f"{t},N{lat:.7f},W{-lon:.7f},{alt:.3f}",
    ),
    "degrees, minutes, seconds and units in cells": (
        "SampleTime,GPSLatitude,GPSLongitude,RelativeAltitude",
        lambda t, lat, lon, alt: f'{t:.2f} s,"{dms(lat, "NS")}","{dms(lon, "EW")}",{alt:.3f} m',
    ),
    "feet in a suffix": (
        "time_s,lat,lon,altitude_ft,altitude_msl_ft",
        lambda t, lat, lon, alt: (
            f"{t},{lat:.7f},{lon:.7f},{alt / 0.3048:.3f},{(alt + 400) / 0.3048}"
        ),
    ),
    "feet above ground in words": (
        "time(s),latitude,longitude,altitude(Feet AGL)",
        lambda t, lat, lon, alt: f"{t},{lat:.7f},{lon:.7f},{alt / 0.3048:.3f}",
    ),
    "survey feet": (
        "time(s),latitude,longitude,height(US ft)",
        lambda t, lat, lon, alt: f"{t},{lat:.7f},{lon:.7f},{alt / 0.3048006:.3f}",
    ),
    "thousands in milliseconds": (
        "time(millisecond),latitude,longitude,height(m)",
        lambda t, lat, lon, alt: f'"{250_000 + round(t * 1000):,}",{lat:.7f},{lon:.7f},{alt:.3f}',
    ),
    "microseconds without a unit, receiver's integers, millimetres": (
        "timestamp,lat,lon,alt,relative_alt",
        lambda t, lat, lon, alt: (
            f"{round(t * 1e6)},{round(lat * 1e7)},{round(lon * 1e7)},"
            f"{round(alt * 1000 + 400e3)},{round(alt * 1000)}"
        ),
    ),
    "microseconds since 1970": (
        "timestamp,lat,lon,rel_alt",
        lambda t, lat, lon, alt: f"{1715681553000000 + round(t * 1e6)},{lat:.7f},{lon:.7f},{alt}",
    ),
    "ISO with a zone": (
        "time,latitude,longitude,height",
        lambda t, lat, lon, alt: f"2024-05-14T{clock(t)}+05:30,{lat:.7f},{lon:.7f},{alt:.3f}",
    ),
    "elapsed hours, minutes, seconds": (
        "Time,Latitude,Longitude,Height(m)",
        lambda t, lat, lon, alt: f"00:00:{t:06.3f},{lat:.7f},{lon:.7f},{alt:.3f}",
    ),
    "a date, a time of day, two numbers in one column (OpenTX)": (
        "Date,Time,GPS,Alt(m),Hdg(deg)",
        lambda t, lat, lon, alt: f"2024-05-14,{clock(t)},{lat:.6f} {lon:.6f},{alt:.1f},0",
    ),
    "day first, whole seconds": (
        "time(millisecond),datetime(utc),latitude,longitude,height_above_takeoff(m)",
        lambda t, lat, lon, alt: (
            f"{t * 1000:.0f},14/05/2024 10:12:{30 + int(t)},{lat:.7f},{lon:.7f},{alt}"
        ),
    ),
    "two altitudes without a datum (Flytrex)": (
        "latitude,longitude,altitude(feet),ascent(feet),max_altitude(feet),time(millisecond)",
        lambda t, lat, lon, alt: (
            f"{lat:.7f},{lon:.7f},{(alt + 400) / 0.3048:.3f},{alt / 0.3048:.3f},9999,{t * 1000:.0f}"
        ),
    ),
    "altitude and height (open-dronelog)": (
        "time_s,lat,lng,altitude_m,height_m,vps_height_m",
        lambda t, lat, lon, alt: f"{t},{lat:.7f},{lon:.7f},{alt + 400:.3f},{alt:.3f},3.0",
    ),
    "QGroundControl": (
        "Timestamp,roll,pitch,heading,altitudeRelative,altitudeAMSL,gps.lat,gps.lon",
        lambda t, lat, lon, alt: (
            f"2024-05-14 {clock(t)},0,0,10,{alt:.3f},{alt + 400:.3f},{lat:.7f},{lon:.7f}"
        ),
    ),
    "semicolons and decimal commas": (
        "time(s);latitude;longitude;height(m)",
        lambda t, lat, lon, alt: f"{t};{lat:.7f};{lon:.7f};{alt:.3f}".replace(".", ","),
    ),
    "radians in the header": (
        "time(s),latitude(rad),longitude(rad),height(m)",
        lambda t, lat, lon, alt: f"{t},{math.radians(lat):.10f},{math.radians(lon):.10f},{alt:.3f}",
    ),
    "radians unsaid": (
        "time(s),latitude,longitude,height(m)",
        lambda t, lat, lon, alt: f"{t},{math.radians(lat):.10f},{math.radians(lon):.10f},{alt:.3f}",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_each_table_says_the_same(name):
    header, row = ROWS[name]
    telemetry = table(header, row)
    columns = telemetry.columns
    assert columns["time_s"] == pytest.approx(TIMES, abs=2e-3)
    # Half a metre: six decimals are 0.11 m, thousandths of a second of arc 0.03 m.
    assert columns["lat"] == pytest.approx(LAT, abs=4e-6)
    assert columns["lon"] == pytest.approx(LON, abs=4e-6)
    assert columns["alt"] == pytest.approx(ALT, abs=0.06)


def test_an_altitude_that_nobody_flies_is_above_the_sea():
    telemetry = table(
        "timestamp,lat,lon,alt",
        lambda t, lat, lon, alt: f"{round(t * 1e6)},{lat:.7f},{lon:.7f},{alt + 1400:.3f}",
    )
    assert np.isnan(telemetry.columns["alt"]).all()
    assert telemetry.columns["abs_alt"] == pytest.approx(ALT + 1400)
    assert any("no drone flies 1450 m high" in note for note in telemetry.notes)
    assert any("`takeoff_altitude`" in note for note in telemetry.notes)


def test_an_altitude_alone_is_a_guess_unless_it_begins_on_the_ground():
    header = "time(s),latitude,longitude,altitude(m)"

    def row(t, lat, lon, alt):
        return f"{t},{lat:.7f},{lon:.7f},{alt:.3f}"

    assert "altitude" in table(header, row).guesses
    rising = table(header, lambda t, lat, lon, alt: row(t, lat, lon, 5 * t))
    assert "altitude" not in rising.guesses


@pytest.mark.parametrize(
    ("cell", "match"),
    [
        ("47.5 furlongs", "holds values that are not understood, such as '47.5 furlongs'"),
        ("five", "holds values that are not understood, such as 'five'"),
    ],
)
def test_a_column_that_is_not_understood_is_refused_by_name(cell, match):
    with pytest.raises(InputError, match=match):
        table(
            "time(s),latitude,longitude,height(m)",
            lambda t, lat, lon, alt: f"{t},{lat},{lon},{cell}",
        )


def test_an_unknown_unit_is_refused_by_name():
    with pytest.raises(InputError, match=r"unit of column 'height\(furlong\)' is not known"):
        table(
            "time(s),latitude,longitude,height(furlong)",
            lambda t, lat, lon, alt: f"{t},{lat},{lon},1",
        )


def test_columns_that_are_not_recognized_are_listed_within_bounds():
    header = ",".join(f"mystery{i}" for i in range(500))
    with pytest.raises(InputError, match="mystery0.*and 470 more") as error:
        Telemetry.from_text(header + "\n" + ",".join("1" * 500), "a.csv")
    assert len(str(error.value)) < 1000


def test_a_gimbal_yaw_from_the_nose_is_turned_to_north():
    telemetry = table(
        "time(s),latitude,longitude,height(m),heading(deg),gimbal_pitch(deg),gimbal_yaw(deg)",
        lambda t, lat, lon, alt: f"{t},{lat},{lon},{alt},{80 + t},-45,0.5",
    )
    assert telemetry.columns["yaw"] == pytest.approx(80.5 + TIMES)
    assert "yaw" in telemetry.guesses


def test_gimbal_angles_that_are_all_zero_are_none():
    telemetry = table(
        "time(s),latitude,longitude,height(m),gimbal_pitch(deg),gimbal_yaw(deg),gimbal_roll(deg)",
        lambda t, lat, lon, alt: f"{t},{lat},{lon},{alt},0,0,0",
    )
    assert not telemetry.at(1.0).has_angles
    assert any("all zero" in note for note in telemetry.notes)


def test_null_island_and_impossible_speeds_are_said():
    text = "time(s),latitude,longitude,height(m)"
    near = table(text, lambda t, lat, lon, alt: f"{t},{lat - 47.5 + 0.0001},0.0002,{alt}")
    assert "open sea" in near.guesses["position"]
    # 0.009 degrees a second are 1000 m/s.
    fast = table(text, lambda t, lat, lon, alt: f"{t / 100},{lat},{lon},{alt}")
    assert "1001 m/s" in fast.guesses["speed"]


AUTEL = """{n}
00:00:{a:02d},000 --> 00:00:{b:02d},000
HOME(W: 8.250000, N: 47.500000) 2024-05-14 10:12:{c:02d}
GPS(W: {lon:.6f}, N: {lat:.6f}, 50.09m)
ISO:100 SHUTTER:30 EV:0.0 F-NUM:2.8
F.PRY (-1.0°, 1.0°, 50.9°), G.PRY (-49.4°, 0.0°, 50.9°)
"""
PHANTOM3 = """{n}
00:00:{a:02d},000 --> 00:00:{b:02d},000
HOME(-8.2500,47.5000) 2024.5.14 10:12:{c:02d}
GPS({west:.4f},{lat:.4f},16) Hb:50.1 Hs:1.9
ISO:100 TV:60 EV: 0 IR:F2.8
"""
WORDS = """{n}
00:00:{a:02d},000 --> 00:00:{b:02d},000
[focal_len: 24.00] [latitude: {lat:.6f}] [longitude: {west:.6f}] [rel_alt: 50.0 abs_alt: 450.0] \
[Drone: Yaw:90.9, Pitch:-3.1, Roll:1.5] [Gimbal: Yaw:50.9, Pitch:-49.4, Roll:0.5]
"""
ZOOMED = """{n}
00:00:{a:02d},000 --> 00:00:{b:02d},000
F/2.8, SS 1000.82, ISO 100, EV 0, DZOOM 2.000, GPS ({west:.4f}, {lat:.4f}, 23), D 9.91m, H 50.0m
"""


def subtitles(template: str) -> Telemetry:
    cues = [
        template.format(n=i + 1, a=i, b=i + 1, c=33 + i, lat=47.5 + i * 9e-5, lon=8.25, west=-8.25)
        for i in range(8)
    ]
    return Telemetry.from_text("\n".join(cues), "a.srt")


def test_autel_writes_hemispheres_as_letters():
    telemetry = subtitles(AUTEL)
    sample = telemetry.at(1.0)
    assert (sample.lat, sample.lon) == pytest.approx((47.50009, -8.25), abs=1e-6)
    assert (sample.yaw, sample.pitch) == pytest.approx((50.9, -49.4))
    assert telemetry.home == (47.5, -8.25)
    # Whether 50.09 m are above take-off or the sea is not said.
    assert sample.abs_alt == pytest.approx(50.09)
    assert any("`takeoff_altitude` 0" in note for note in telemetry.notes)


def test_phantom_3_writes_its_height_as_hb():
    assert subtitles(PHANTOM3).at(1.0).alt == pytest.approx(50.1)


def test_the_gimbal_in_words_is_not_the_drone():
    sample = subtitles(WORDS).at(1.0)
    assert (sample.yaw, sample.pitch, sample.roll) == pytest.approx((50.9, -49.4, 0.5))


def test_digital_zoom_without_a_focal_length_is_kept():
    assert subtitles(ZOOMED).columns["zoom"].tolist() == [2.0] * 8


def test_subtitles_that_all_have_the_same_time_go_by_their_clock():
    cues = [
        f"{i}\n00:00:00,000 --> 00:00:00,000\n2024-05-14 10:12:{30 + i / 10:06.3f}\n"
        f"[latitude: {47.5 + i * 9e-6:.6f}] [longitude: 8.25] [rel_alt: 50]\n"
        for i in range(30)
    ]
    telemetry = Telemetry.from_text("\n".join(cues), "a.srt")
    assert telemetry.columns["time_s"] == pytest.approx(np.arange(30) / 10)


KML = """<?xml version="1.0" encoding="UTF-8"?>
<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2"><Document>
<Placemark><gx:Track><altitudeMode>{mode}</altitudeMode>
<when>2024-05-14T10:12:33Z</when><when>2024-05-14T10:12:34Z</when>
<gx:coord>-8.25 47.5 50.5</gx:coord><gx:coord>-8.25 47.50009 51.5</gx:coord>
</gx:Track></Placemark></Document></kml>"""


def test_kml_tracks():
    low = Telemetry.from_text(KML.format(mode="relativeToGround"), "a.kml")
    assert low.at(0.5).lat == pytest.approx(47.500045, abs=1e-9)
    assert low.at(0.5).alt == pytest.approx(51.0)
    assert Telemetry.from_text(KML.format(mode="absolute"), "a.kml").at(0.5).abs_alt == 51.0
    with pytest.raises(InputError, match="gx:Track"):
        Telemetry.from_text("<kml><LineString/></kml>", "a.kml")


def test_geojson_tracks():
    points = ",".join(
        f'{{"type": "Feature", "properties": {{"timestamp": "2024-05-14T10:12:{33 + i}Z"}}, '
        f'"geometry": {{"type": "Point", "coordinates": [-8.25, {47.5 + i * 9e-5}, {40 + i}]}}}}'
        for i in range(3)
    )
    text = f'{{"type": "FeatureCollection", "features": [{points}]}}'
    telemetry = Telemetry.from_text(text, "a.geojson")
    assert telemetry.at(1.0).lat == pytest.approx(47.50009)
    assert telemetry.at(1.0).alt == 41.0
    assert "altitude" in telemetry.guesses
    line = (
        '{"type": "Feature", "properties": {"coordTimes": ["2024-05-14T10:12:33Z", '
        '"2024-05-14T10:12:35Z"]}, "geometry": {"type": "LineString", "coordinates": '
        "[[-8.25, 47.5], [-8.25, 47.5002]]}}"
    )
    assert Telemetry.from_text(line, "a.geojson").at(1.0).lat == pytest.approx(47.5001)
    for broken in ("{", "{}", '{"type": "FeatureCollection", "features": 5}'):
        with pytest.raises(InputError):
            Telemetry.from_text(broken, "a.geojson")


@pytest.mark.parametrize(
    ("name", "raw", "match"),
    [
        ("a.ulg", b"ULog\x01\x12\x35" + bytes(60), "PX4 log.*ulog2csv"),
        ("a.BIN", b"\xa3\x95\x80" + bytes(60), "ArduPilot log.*mavlogdump"),
        ("a.tlog", bytes(60), "MAVLink log.*QGroundControl"),
        ("DJIFlightRecord_2024.txt", bytes(60), "record of the DJI app.*AirData"),
        ("a.kmz", b"PK\x03\x04" + bytes(60), "archive"),
        ("a.txt", bytes(60), "not a text file"),
    ],
)
def test_binary_logs_are_named_with_the_export_that_works(name, raw, match):
    with pytest.raises(InputError, match=match):
        decode(raw, name)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250.5", 250.5),
        ("-1e3", -1000.0),
        ("48,125", 48.125),
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
        ("12 345", 12345.0),
        ("5 m", None),
        ("32 deg 22'", None),
        ("1.2.3", None),
        ("0x10", None),
        ("", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_numbers_are_whole_or_none(text, value):
    assert parse_number(text) == pytest.approx(math.nan if value is None else value, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "axis", "value"),
    [
        ("32.5N", "lat", 32.5),
        ("32.5 S", "lat", -32.5),
        ("S32.5", "lat", -32.5),
        ("W 94.25", "lon", -94.25),
        ("-94.25", "lon", -94.25),
        ("-94.25 W", "lon", -94.25),
        ("-94.25 E", "lon", None),
        ("94.25 N", "lon", None),
        ("N 1 S", "lat", None),
        ("32°30'36\"N", "lat", 32.51),
        ("32 deg 30' 36.00\" S", "lat", -32.51),
        ("32:30.6N", "lat", 32.51),
        ("-32 30 36", "lat", -32.51),
        ("32 75 00", "lat", None),
        ("32.5 30 00", "lat", None),
        ("N", "lat", None),
    ],
)
def test_places(text, axis, value):
    expected = math.nan if value is None else value
    assert parse_place(text, axis) == pytest.approx(expected, nan_ok=True)


@given(st.floats(-89.9, 89.9))
def test_a_place_in_degrees_minutes_and_seconds_comes_back(value):
    text = dms(value, "NS").replace('""', '"')
    assert parse_place(text, "lat") == pytest.approx(value, abs=1e-6)


@given(st.text(alphabet="0123456789.,-+ NSEWO°'\":degmsft", max_size=16))
def test_any_text_is_a_number_as_a_whole_or_none(text):
    value = parse_number(text)
    if not math.isnan(value):
        rest = re.sub(r"[eE][-+]?\d+$", "", text.strip())
        assert re.fullmatch(r"[-+]?[\d., ']*", rest)
    for axis in ("lat", "lon"):
        parse_place(text, axis)
    parse_measure(text, LENGTHS)
    parse_elapsed(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:01:02.5", 62.5),
        ("1:02", 62.0),
        ("0m 2.8s", 2.8),
        ("1h 2m 3s", 3723.0),
        ("10:75", None),
        ("2.8", None),
    ],
)
def test_elapsed_times(text, seconds):
    expected = math.nan if seconds is None else seconds
    assert parse_elapsed(text) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-14T10:12:33Z",
        "2024-05-14 12:12:33+02:00",
        "2024:05:14 10:12:33 UTC",
        "20240514T101233Z",
        "14/05/2024 10:12:33 UTC",
        "14.05.2024 10:12:33 GMT",
        "5/14/2024 10:12:33 AM +00:00",
    ],
)
def test_clocks(text):
    assert parse_clock(text).timestamp() == 1715681553


def test_coarse_positions_that_are_padded_with_zeros_are_coarse():
    def row(digits):
        return lambda t, lat, lon, alt: f"{t},{round(lat, digits):.8f},{lon + t / 3e5:.8f},{alt}"

    header = "time(s),latitude,longitude,height(m)"
    fine = table(header, row(8))
    coarse = table(
        header, lambda t, lat, lon, alt: f"{t},{lat:.4f}0000,{lon + t / 1e4:.4f}0000,{alt}"
    )
    # The last digit of four is 11.1 m; a uniform error over it has a deviation of 3.2 m.
    assert coarse.step_m == pytest.approx(111_000 * 1e-4 / 12**0.5)
    assert fine.step_m < 0.01
    assert coarse.noise.horizontal_m > fine.noise.horizontal_m + 1
