"""Flight logs in CSV and GPX: made-up values under the headers that real exports have."""

from datetime import datetime, timezone

import numpy as np
import pytest

from msnet_d2.damage_map import Telemetry, parse_columns
from msnet_d2.damage_map.telemetry.flight_csv import parse_flight_csv
from msnet_d2.damage_map.telemetry.tracks import parse_gpx
from msnet_d2.errors import InputError

AIRDATA = """time(millisecond),datetime(utc),latitude,longitude,height_above_takeoff(feet),\
altitude_above_seaLevel(feet),speed(mph), compass_heading(degrees), pitch(degrees), roll(degrees),\
isPhoto,isVideo,gimbal_heading(degrees),gimbal_pitch(degrees),gimbal_roll(degrees),altitude(feet)
1000,2024-05-02 10:15:30,30.25,-90.5,100,400,12,10.5,-5,3,0,0,355.0,-45.5,0.1,90
1100,2024-05-02 10:15:30,30.2501,-90.5,200,500,12,11.5,-5,3,0,1,5.0,-46.5,0.1,190
2600,2024-05-02 10:15:32,30.2502,-90.5,300,600,12,12.5,-5,3,0,1,6.0,-47.5,0.1,290
"""
LITCHI = """latitude,longitude,altitude(m),ascent(m),speed(mps),time(millisecond),datetime(utc),\
datetime(local),pitch(deg),roll(deg),yaw(deg),isTakingVideo,gimbalPitchRaw,gimbalRollRaw,gimbalYawRaw
47.5,8.25,60.5,0,5,0,2024-05-02 10:15:30.250,2024-05-02 12:15:30.250,-3,1,88,0,-455,0,-905
47.6,8.26,61.5,0,5,500,2024-05-02 10:15:30.750,2024-05-02 12:15:30.750,-3,1,89,1,-465,0,-915
"""
FLIGHT_READER = """sep=,
CUSTOM.date [local],CUSTOM.updateTime [local],OSD.flyTime,OSD.flyTime [s],OSD.latitude,\
OSD.longitude,OSD.height [ft],OSD.altitude [ft],OSD.yaw,GIMBAL.pitch,GIMBAL.roll,GIMBAL.yaw,\
CAMERA.isVideo
8/29/2023,2:30:28.9 PM,0m 2.8s,2.8,39.9612,-106.2160,100,8128,-110.2,-30.5,0,-111.5,True
8/29/2023,2:30:29.4 PM,0m 3.3s,3.3,39.9613,-106.2161,110,8131,-110.1,-30.6,0,-111.6,False
"""
SEMICOLONS = """Zeit (s);Breite;Länge;Höhe (m);Gierwinkel
0,0;48,125;11,5;60,5;12,5
0,5;48,126;11,6;61,5;13,5
"""


def column(log, name):
    return log.columns[name].tolist()


def test_airdata():
    log = parse_flight_csv(AIRDATA, "airdata.csv")
    assert column(log, "time_s") == pytest.approx([0.0, 0.1, 1.6])
    # Feet: 100 ft are 30.48 m. The height above take-off goes before "altitude".
    assert column(log, "alt") == pytest.approx([30.48, 60.96, 91.44])
    assert column(log, "abs_alt") == pytest.approx([121.92, 152.4, 182.88])
    assert column(log, "yaw") == [355.0, 5.0, 6.0]
    assert column(log, "flight_yaw") == [10.5, 11.5, 12.5]
    # "pitch(degrees)" is the aircraft's and must not become the camera's.
    assert column(log, "pitch") == [-45.5, -46.5, -47.5]
    assert column(log, "recording") == [0, 1, 1]
    # Whole seconds are cut off: 10:15:32 at 1.6 s says that the log began at 10:15:30.4 or later.
    assert log.clock_start == datetime(2024, 5, 2, 10, 15, 30, 400000, tzinfo=timezone.utc)


def test_litchi():
    log = parse_flight_csv(LITCHI, "litchi.csv")
    assert column(log, "alt") == [60.5, 61.5]
    # Tenths of a degree.
    assert column(log, "pitch") == pytest.approx([-45.5, -46.5])
    assert column(log, "yaw") == pytest.approx([-90.5, -91.5])
    assert column(log, "flight_yaw") == [88, 89]
    assert column(log, "time_s") == pytest.approx([0, 0.5])
    assert log.clock_start == datetime(2024, 5, 2, 10, 15, 30, 250000, tzinfo=timezone.utc)
    assert log.dialect == "csv"


def test_flight_reader():
    log = parse_flight_csv(FLIGHT_READER, "reader.csv")
    # "OSD.flyTime [s]", not the formatted one before it.
    assert column(log, "time_s") == pytest.approx([0, 0.5])
    assert column(log, "alt") == pytest.approx([30.48, 33.528])
    assert column(log, "yaw") == [-111.5, -111.6]
    assert column(log, "recording") == [1, 0]
    assert log.clock_start == datetime(2023, 8, 29, 14, 30, 28, 900000)


def test_any_table_by_a_mapping_of_columns():
    mapping = parse_columns(
        ["time=Zeit (s)", "lat=Breite", "lon = Länge", "alt=Höhe (m)", "flight_yaw=Gierwinkel"]
    )
    log = parse_flight_csv(SEMICOLONS, "eigen.csv", mapping)
    assert column(log, "lat") == [48.125, 48.126]
    assert column(log, "lon") == [11.5, 11.6]
    assert column(log, "alt") == [60.5, 61.5]
    assert column(log, "time_s") == [0.0, 0.5]
    with pytest.raises(InputError, match="no column was recognised as lat, lon.*Breite"):
        parse_flight_csv(SEMICOLONS, "eigen.csv")
    with pytest.raises(InputError, match="no column 'Breit' for lat"):
        parse_flight_csv(SEMICOLONS, "eigen.csv", {"lat": "Breit"})


@pytest.mark.parametrize("item", ["lat", "lat=", "latitude=Breite", "=x"])
def test_wrong_mappings_are_refused(item):
    with pytest.raises(InputError, match="expected FIELD=HEADER"):
        parse_columns([item])


def test_clock_in_whole_seconds_is_spread_over_the_second():
    rows = [f"2024-05-02 10:15:{s},47.{s}{i},8.5" for s in (30, 31) for i in (1, 2)]
    telemetry = Telemetry.from_text("\n".join(["datetime,lat,lon", *rows]), "a.csv")
    assert telemetry.columns["time_s"].tolist() == pytest.approx([0, 0.5, 1.0, 1.5])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no row below the header"),
        ("lat,lon,time\n", "no row below the header"),
        ("lat,lon\n1,2\n", "recognised as time"),
        ("lat,lon,time\nx,2,3\n", "none of its 1 rows"),
        ("lat,lon,time\n1\n", "none of its 1 rows"),
    ],
)
def test_useless_tables_are_refused(text, match):
    with pytest.raises(InputError, match=match):
        parse_flight_csv(text, "a.csv")


GPX = """<?xml version="1.0" encoding="UTF-16"?>
<gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1"
 xmlns:gpxtpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v2" xmlns:dji="http://dji">
<trk><trkseg>
<trkpt lat="47.5" lon="8.25"><ele>500.5</ele><time>2024-05-02T10:15:30Z</time>
 <extensions><gpxtpx:TrackPointExtension><gpxtpx:course>180</gpxtpx:course></gpxtpx:TrackPointExtension>
 <dji:gimbal_yaw>12.5</dji:gimbal_yaw><dji:gimbal_pitch>-45</dji:gimbal_pitch><dji:rel_alt>60</dji:rel_alt>
 <dji:heading>15</dji:heading></extensions></trkpt>
<trkpt lat="47.6" lon="8.26"><time>2024-05-02T12:15:32.500+02:00</time></trkpt>
<trkpt lat="47.7" lon="8.27"/>
</trkseg></trk></gpx>"""


def test_gpx_with_extensions():
    log = parse_gpx(GPX, "track.gpx")
    assert column(log, "lat") == [47.5, 47.6]
    # 12:15:32.5 in the zone +02:00 is 2.5 s after 10:15:30 UTC.
    assert column(log, "time_s") == [0.0, 2.5]
    assert log.clock_start == datetime(2024, 5, 2, 10, 15, 30, tzinfo=timezone.utc)
    found = {
        name: log.columns[name][0] for name in ("yaw", "pitch", "alt", "abs_alt", "flight_yaw")
    }
    # The course is where it flew, not where it looked: the heading is 15, not 180.
    assert found == {"yaw": 12.5, "pitch": -45, "alt": 60, "abs_alt": 500.5, "flight_yaw": 15}
    assert np.isnan(log.columns["yaw"][1])
    assert log.notes == ["1 track points have no time"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<gpx><trk>", "not well-formed"),
        ("<gpx></gpx>", "no track point"),
        ("<gpx><trkpt lat='1' lon='2'/></gpx>", "1 track points have no times"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><gpx>&a;</gpx>", "document type"),
    ],
)
def test_useless_gpx_is_refused(text, match):
    with pytest.raises(InputError, match=match):
        Telemetry.from_text(text, "a.gpx")
