"""One made-up log for each dialect of DJI's subtitles, in the syntax that firmware writes."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.damage_map import Telemetry, TelemetryFlag
from msnet_d2.damage_map.telemetry.dji_srt import parse_dji_srt
from msnet_d2.errors import InputError

# Air 2S, Mavic 3: SrtCnt, <font>, focal length in tenths, no gimbal angles.
BRACKETS = """1
00:00:00,000 --> 00:00:00,033
<font size="28">SrtCnt : 1, DiffTime : 33ms
2024-05-02 10:15:30.250
[iso : 100] [shutter : 1/1000.0] [fnum : 280] [ev : 0] [ct : 5500] [color_md : default] \
[focal_len : 240] [latitude: 30.250000] [longitude: -90.500000] \
[rel_alt: 60.100 abs_alt: 71.500] </font>

2
00:00:00,033 --> 00:00:00,066
<font size="28">SrtCnt : 2, DiffTime : 33ms
2024-05-02 10:15:30.283
[iso : 100] [shutter : 1/1000.0] [fnum : 280] [ev : 0] [ct : 5500] [color_md : default] \
[focal_len : 240] [latitude: 30.250010] [longitude: -90.500020] \
[rel_alt: 60.200 abs_alt: 71.600] </font>
"""

# Avata 360, Matrice 30: FrameCnt, decimal focal length, digital zoom, gimbal angles.
GIMBAL = """1
00:00:00,000 --> 00:00:00,041
<font size="28">FrameCnt: 1, DiffTime: 41ms, FrameId: 4787
2026-05-27 13:10:00.015
[iso: 200] [fnum: 1.9] [focal_len: 28.00] [dzoom_ratio: 2.00], \
[latitude: -33.100000] [longitude: 151.200000] \
[rel_alt: 55.400 abs_alt: -12.744] [gb_yaw: -162.8 gb_pitch: -45.5 gb_roll: 0.3] [vsync: 0] \
[shift x: 0.00, y: 0.00] [pp_target:0.000, 0.000, 0.000, 0.000] [pp_imu_td:0]</font>
"""

# Mavic 2 Enterprise: longtitude, altitude above sea level, the aircraft's angles, µs in the time.
MISSPELT = """1
00:00:00,000 --> 00:00:00,033
<font size="36">FrameCnt : 1, DiffTime : 33ms
2022-07-10 19:59:42,210,511
[iso : 12800] [focal_len : 240] [dzoom_ratio: 10000, delta:0],[latitude: -36.890000] \
[longtitude: 174.700000] [altitude: 51.773998] [Drone: Yaw:-62.1, Pitch:2.7, Roll:1.6] </font>
"""

# Mavic 2 Zoom: a space before the colon.
SPACED = """1
00:00:00,000 --> 00:00:00,041
<font size="36">FrameCnt : 1, DiffTime : 41ms
2023-07-15 11:55:16,320,933
[focal_len : 480] [latitude : 47.250000] [longtitude : 8.500000] [altitude: 500.000000] </font>
"""

# Mavic Pro: one record a second from second 1, longitude first, satellites third.
GPS_HOME = """1
00:00:01,000 --> 00:00:02,000
HOME(31.1660,-25.2088) 2017.07.29 15:18:50
GPS(31.1660,-25.2088,14) BAROMETER:0.5
ISO:100 Shutter:60 EV: Fnum:2.2\x20

2
00:00:02,000 --> 00:00:03,000
HOME(31.1660,-25.2088) 2017.07.29 15:18:51
GPS(31.1662,-25.2086,14) BAROMETER:1.5
ISO:100 Shutter:60 EV: Fnum:2.2\x20
"""

# Matrice 300: latitude first, units, BAROMETER with a colon, seconds that count to 60.
GPS_METERS = """59
00:00:58,000 --> 00:00:59,000
2022.06.21 16:07:15
GPS(36.6153,-6.1130,12.0M) BAROMETER:83.3M

60
00:00:59,000 --> 00:00:60,000
2022.06.21 16:07:16
GPS(36.6154,-6.1131,12.0M) BAROMETER:83.8M
"""

# Avata 2: latitude first, altitude third, BAROMETER in parentheses. Out of range tells the order.
GPS_TIGHT = """1
00:00:00,000 --> 00:00:00,033
GPS(39.906217,116.391305,69.800) BAROMETER(21.2) HOME(39.906206,116.391400)
"""

# Phantom 4 Pro, Mavic Mini: one line, longitude first.
ONE_LINE = """1
00:00:00,000 --> 00:00:01,000
F/5.6, SS 400, ISO 100, EV 0, GPS (-58.851745, -34.237922, 15), HOME (-58.847509, -34.232707, \
-57.98m), D 698.70m, H 85.80m, H.S 7.10m/s, V.S 0.00m/s, F.PRY (2.7°, -7.0°, 110.1°), \
G.PRY (-24.4°, 0.5°, 112.4°)
"""

# Phantom 4 RTK.
RTK = ONE_LINE.replace("GPS (", "RTK (")

# A player's locale put commas into the figures.
COMMAS = """1
00:00:00,000 --> 00:00:01,000
[latitude: 48,125000] [longitude: 11,500000] [rel_alt: 60,500 abs_alt: 580,250] \
[gb_yaw: 33,5 gb_pitch: -45,0 gb_roll: 0,0]
"""
COMMA_TUPLE = """1
00:00:00,000 --> 00:00:01,000
F/2,8, SS 206,14, GPS (8,6669, 47,7716, 10), D 2,80m, H 12,50m, H.S 0,00m/s
"""

# Several frames in a subtitle of one second.
CROWDED = """1
00:00:10,000 --> 00:00:11,000
FrameCnt: 1, DiffTime: 250ms
[latitude: 10.000000] [longitude: 20.000000] [rel_alt: 50.0 abs_alt: 60.0]
FrameCnt: 2, DiffTime: 250ms
[latitude: 10.000100] [longitude: 20.000000] [rel_alt: 51.0 abs_alt: 61.0]
FrameCnt: 3, DiffTime: 250ms
[latitude: 10.000200] [longitude: 20.000000] [rel_alt: 52.0 abs_alt: 62.0]
"""


def first(text: str) -> dict[str, float]:
    log = parse_dji_srt(text, "flight.srt")
    return {name: values[0] for name, values in log.columns.items() if np.isfinite(values[0])}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            BRACKETS,
            # 240 tenths of a millimetre
            {"lat": 30.25, "lon": -90.5, "alt": 60.1, "abs_alt": 71.5, "focal_mm": 24.0},
            id="brackets",
        ),
        pytest.param(
            GIMBAL,
            # 28 mm at a digital zoom of 2
            {
                "lat": -33.1,
                "lon": 151.2,
                "alt": 55.4,
                "abs_alt": -12.744,
                "focal_mm": 56.0,
                "yaw": -162.8,
                "pitch": -45.5,
                "roll": 0.3,
            },
            id="gimbal",
        ),
        pytest.param(
            MISSPELT,
            # 10000 is a zoom of 1; the aircraft's pitch and roll are not the camera's
            {
                "lat": -36.89,
                "lon": 174.7,
                "abs_alt": 51.773998,
                "flight_yaw": -62.1,
                "focal_mm": 24,
            },
            id="longtitude",
        ),
        pytest.param(
            SPACED, {"lat": 47.25, "lon": 8.5, "abs_alt": 500.0, "focal_mm": 48.0}, id="spaced"
        ),
        pytest.param(
            GPS_HOME, {"time_s": 1.0, "lat": -25.2088, "lon": 31.166, "alt": 0.5}, id="lon-first"
        ),
        pytest.param(
            GPS_METERS,
            {"time_s": 58.0, "lat": 36.6153, "lon": -6.113, "abs_alt": 12.0, "alt": 83.3},
            id="matrice",
        ),
        pytest.param(
            GPS_TIGHT,
            {"lat": 39.906217, "lon": 116.391305, "abs_alt": 69.8, "alt": 21.2},
            id="avata",
        ),
        pytest.param(
            ONE_LINE,
            # 15 is a count of satellites; H is the height over the home point
            {
                "lat": -34.237922,
                "lon": -58.851745,
                "alt": 85.8,
                "flight_yaw": 110.1,
                "pitch": -24.4,
                "roll": 0.5,
                "yaw": 112.4,
            },
            id="one-line",
        ),
        pytest.param(
            COMMAS,
            {
                "lat": 48.125,
                "lon": 11.5,
                "alt": 60.5,
                "abs_alt": 580.25,
                "yaw": 33.5,
                "pitch": -45.0,
                "roll": 0.0,
            },
            id="comma-decimals",
        ),
        pytest.param(COMMA_TUPLE, {"lat": 47.7716, "lon": 8.6669, "alt": 12.5}, id="comma-tuple"),
        pytest.param(
            CROWDED,
            {"time_s": 10.0, "lat": 10.0, "lon": 20.0, "alt": 50.0, "abs_alt": 60.0},
            id="crowd",
        ),
    ],
)
def test_reads_each_dialect(text, expected):
    found = first(text)
    found.pop("time_s") if "time_s" not in expected else None
    assert found == pytest.approx(expected)


def test_clock_and_home_of_the_dialects():
    # The record at 0 s, and with microseconds after the milliseconds.
    assert parse_dji_srt(BRACKETS, "a").clock_start == datetime(2024, 5, 2, 10, 15, 30, 250000)
    assert parse_dji_srt(MISSPELT, "a").clock_start == datetime(2022, 7, 10, 19, 59, 42, 210511)
    # The first record is of second 1, so the video began a second earlier.
    assert parse_dji_srt(GPS_HOME, "a").clock_start == datetime(2017, 7, 29, 15, 18, 49)
    assert parse_dji_srt(GPS_HOME, "a").home == (-25.2088, 31.166)
    assert parse_dji_srt(ONE_LINE, "a").home == (-34.232707, -58.847509)
    assert parse_dji_srt(GPS_TIGHT, "a").home == (39.906206, 116.3914)


def test_dialect_sets_the_noise():
    # Four decimals of a degree are steps of 11.1 m: 11.1 / sqrt(12) = 3.20 m; with the dialect's
    # 2 m it makes sqrt(3.2² + 2²) = 3.78 m.
    assert Telemetry.from_text(GPS_HOME, "a.srt").noise.horizontal_m == pytest.approx(
        3.78, abs=0.01
    )
    assert Telemetry.from_text(RTK, "a.srt").noise.horizontal_m < 0.2
    assert Telemetry.from_text(GIMBAL, "a.srt").dialect == "dji-srt"


def test_frames_of_one_subtitle_follow_each_other_by_difftime():
    log = parse_dji_srt(CROWDED, "a.srt")
    assert log.columns["time_s"].tolist() == pytest.approx([10.0, 10.25, 10.5])
    assert log.columns["lat"].tolist() == pytest.approx([10.0, 10.0001, 10.0002])
    # Without DiffTime they share the second evenly.
    log = parse_dji_srt(CROWDED.replace(", DiffTime: 250ms", ""), "a.srt")
    assert log.columns["time_s"].tolist() == pytest.approx([10.0, 10 + 1 / 3, 10 + 2 / 3])
    assert any("several frames" in note for note in log.notes)


def test_order_of_gps_can_be_given_and_is_noted_when_guessed():
    text = "1\n00:00:00,000 --> 00:00:01,000\nGPS(8.5, 47.4, 12)\n"
    log = parse_dji_srt(text, "a.srt")
    assert (log.columns["lat"][0], log.columns["lon"][0]) == (47.4, 8.5)
    assert any("GPS(a, b)" in note for note in log.notes)
    log = parse_dji_srt(text, "a.srt", gps_order="lat,lon")
    assert (log.columns["lat"][0], log.columns["lon"][0]) == (8.5, 47.4)
    assert log.notes == []
    with pytest.raises(InputError, match="expected 'lat,lon' or 'lon,lat'"):
        parse_dji_srt(text, "a.srt", gps_order="north")


def test_subtitles_without_a_fix_are_counted():
    text = GIMBAL + BRACKETS.replace("[latitude: 30.250000] [longitude: -90.500000]", "")
    log = parse_dji_srt(text, "a.srt")
    assert len(log.columns["lat"]) == 2
    assert "1 of 3 subtitles have no position" in log.notes


def test_null_island_is_no_fix():
    text = BRACKETS.replace("30.250000", "0.000000").replace("-90.500000", "0.000000")
    telemetry = Telemetry.from_text(text, "a.srt")
    assert "1 record without a satellite fix" in telemetry.notes
    assert telemetry.home == (30.25001, -90.50002)
    with pytest.raises(InputError, match="none of its 1 records has a satellite fix"):
        Telemetry.from_text(text[: text.index("\n2\n")], "a.srt")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not a flight log"),
        ("1\n00:00:01,000 --> 00:00:02,000\nHello, I said.\n", "no position in any of its 1"),
        ("just words", "not a flight log"),
    ],
    ids=["empty", "speech", "words"],
)
def test_what_is_no_log_is_refused(text, match):
    with pytest.raises(InputError, match=match):
        Telemetry.from_text(text, "a.srt")


def test_windows_line_ends_bom_and_utf16(tmp_path):
    for encoding in ("utf-8-sig", "utf-16", "latin-1"):
        path = tmp_path / f"{encoding}.SRT"
        path.write_bytes(ONE_LINE.replace("\n", "\r\n").encode(encoding))
        sample = Telemetry.read(path).at(0.0)
        assert (sample.pitch, sample.yaw) == pytest.approx((-24.4, 112.4))
    (tmp_path / "log.srt").write_bytes(b"\x00\x01\x02" * 100)
    with pytest.raises(InputError, match="not a text file"):
        Telemetry.read(tmp_path / "log.srt")
    with pytest.raises(InputError, match="cannot be read"):
        Telemetry.read(tmp_path / "none.srt")


PIECES = st.sampled_from(
    [
        *("1\n", "\n\n", "00:00:01,000 --> 00:00:02,000\n", "99:99:99,999 --> 00:00:00,000\n"),
        *(
            "[latitude: 48.1]",
            "[longitude: 1e999]",
            "[latitude: ",
            "[longitude: -11.5]",
            "]",
            "FrameCnt",
        ),
        *("GPS(11.5,48.1,14)", "GPS(", "GPS(1,2)", "GPS (91, 91, 3M)", "HOME(0,0)", "HOME(a,b)"),
        *(
            "DiffTime : 0ms",
            "2024-13-45 25:61:61",
            "0001-01-01 00:00:00.000",
            "9999-12-31 23:59:59+23:59",
        ),
        *(
            "[rel_alt: 99999999999999 abs_alt: nan]",
            "G.PRY (-40.0°, 0.0°, 28.2°)",
            "H 12m",
            "<font",
            ">",
        ),
        *(
            "[gb_yaw: 500000 gb_pitch: -900 gb_roll: 0]",
            "focal_len : 0",
            "dzoom_ratio: 0",
            ",",
            "1e400",
        ),
        *(
            "<gpx",
            "<trkpt lat='1' lon='2'>",
            "</trkpt>",
            "lat,lon,time\n",
            "1,2,3\n",
            ";",
            "\t",
            '"',
        ),
    ]
)


@settings(deadline=None)
@given(
    st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=30).map("".join),
    st.sampled_from(["a.srt", "a.gpx", "a.csv", "a.txt"]),
)
def test_any_text_is_read_or_refused(text, name):
    telemetry, message = None, ""
    try:
        telemetry = Telemetry.from_text(text, name)
    except InputError as error:
        message = str(error)
    assert len(message.splitlines()) == (telemetry is None)
    if telemetry is None:
        return
    for sample in telemetry.at([-1.0, 0.0, 1.0, 1e9, np.nan]):
        assert sample.has_position != bool(sample.flags & TelemetryFlag.NO_POSITION)
        assert not sample.has_position or (abs(sample.lat) <= 90 and abs(sample.lon) <= 180)
