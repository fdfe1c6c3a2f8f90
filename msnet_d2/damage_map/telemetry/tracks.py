"""Tracks in GPX, KML and GeoJSON, with what drones and Garmin add to their points."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone
from xml.etree import ElementTree

import numpy as np

from msnet_d2.damage_map.telemetry.csv_time import epoch_scale
from msnet_d2.damage_map.telemetry.flight_log import FlightLog
from msnet_d2.damage_map.telemetry.heights import choose_heights
from msnet_d2.damage_map.telemetry.log_text import MAX_RECORDS, check_count, parse_clock
from msnet_d2.damage_map.telemetry.values import decimals, parse_number
from msnet_d2.errors import InputError
from msnet_d2.utils.file_io import parse_json

# Local names of elements below <extensions>, and of properties in GeoJSON: lower case, without
# underscores. Garmin's <course> is where the drone moved, not where it looked, and is therefore
# not among them.
_EXTENSIONS = {
    "relalt": "alt",
    "relativealtitude": "alt",
    "relheight": "alt",
    "heightabovetakeoff": "alt",
    "absalt": "abs_alt",
    "gbyaw": "yaw",
    "gimbalyaw": "yaw",
    "gimbalheading": "yaw",
    "gbpitch": "pitch",
    "gimbalpitch": "pitch",
    "gbroll": "roll",
    "gimbalroll": "roll",
    "heading": "flight_yaw",
    "hdg": "flight_yaw",
    "yaw": "flight_yaw",
    "droneyaw": "flight_yaw",
    "flightyaw": "flight_yaw",
    "compassheading": "flight_yaw",
    "focallen": "focal_mm",
}
_TIME_KEYS = ("coordTimes", "times", "coordinateProperties")
_POINT_TIME_KEYS = (
    "timestamp",
    "time",
    "datetime",
    "when",
    "date",
    "Time",
    "DateTime",
    "Timestamp",
)
# Tracks are six levels deep and have ten elements a point.
MAX_DEPTH = 50
MAX_ELEMENTS = 10 * MAX_RECORDS
_ENTITY = re.compile("<!ENTITY", re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
Point = tuple[dict[str, float], "datetime | None", int]


def _local(tag) -> str:
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


class _BoundedBuilder(ElementTree.TreeBuilder):
    """Builds no tree that takes far more time or memory than its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.depth, self.count = source, 0, 0

    def start(self, tag, attrs):
        self.depth += 1
        self.count += 1
        check_count(self.depth, MAX_DEPTH, "levels of elements", self.source)
        check_count(self.count, MAX_ELEMENTS, "elements", self.source)
        return super().start(tag, attrs)

    def end(self, tag):
        self.depth -= 1
        return super().end(tag)


def _parse_xml(text: str, source: str, kind: str):
    # No track has a document type; one that declares entities can fill the memory.
    if "<!DOCTYPE" in text[:10_000].upper() or _ENTITY.search(text):
        raise InputError(f"{source}: a {kind} file with a document type is not read")
    try:
        # A declared encoding contradicts text that is decoded already.
        declared = text.find("?>", 0, 200)
        parser = ElementTree.XMLParser(target=_BoundedBuilder(source))
        return ElementTree.fromstring(text if declared < 0 else text[declared + 2 :], parser)
    except InputError:
        raise
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{source}: not well-formed XML ({error})") from error


def parse_gpx(text: str, source: str) -> FlightLog:
    """Read the track points of a GPX file, of all its tracks and segments.

    Raises:
        InputError: if it is not well-formed, has no track point, or its points have no times.
    """
    root = _parse_xml(text, source, "GPX")
    return _log_of(_gpx_points(root), source, "a recorded track is needed, with <trkpt> and <time>")


def _gpx_points(root) -> Iterator[Point]:
    for point in root.iter():
        if _local(point.tag) != "trkpt":
            continue
        row = {"lat": parse_number(point.get("lat")), "lon": parse_number(point.get("lon"))}
        clock = None
        for element in point.iter():
            name, value = _local(element.tag), (element.text or "").strip()
            if name == "time":
                clock = parse_clock(value)
            elif name == "ele":
                row["abs_alt"] = parse_number(value)
            elif (key := _EXTENSIONS.get(name.replace("_", ""))) is not None:
                row.setdefault(key, parse_number(value))
        yield row, clock, decimals(point.get("lat") or "")


def parse_kml(text: str, source: str) -> FlightLog:
    """Read the ``gx:Track`` elements of a KML file.

    Raises:
        InputError: if it is not well-formed, or holds no track with times (a ``LineString`` has
            none).
    """
    root = _parse_xml(text, source, "KML")
    return _log_of(_kml_points(root), source, "a track with times is needed: gx:Track, or GPX")


def _kml_points(root) -> Iterator[Point]:
    for track in root.iter():
        if _local(track.tag) != "track":
            continue
        mode = next((e.text or "" for e in track.iter() if _local(e.tag) == "altitudemode"), "")
        height = "abs_alt" if mode.strip() == "absolute" else "alt"
        whens = [parse_clock(e.text or "") for e in track if _local(e.tag) == "when"]
        coords = [(e.text or "").split() for e in track if _local(e.tag) == "coord"]
        turns = [(e.text or "").split() for e in track if _local(e.tag) == "angles"]
        for i, coord in enumerate(coords):
            values = [parse_number(c) for c in coord] + [np.nan] * 3
            row = {"lon": values[0], "lat": values[1], height: values[2]}
            if i < len(turns) and turns[i]:
                row["flight_yaw"] = parse_number(turns[i][0])
            yield row, whens[i] if i < len(whens) else None, decimals([*coord, "", ""][1])


def parse_geojson(text: str, source: str) -> FlightLog:
    """Read a track in GeoJSON: points with times, or a line with ``coordTimes``.

    Raises:
        InputError: if it is no GeoJSON, or has no points with times.
    """
    data = parse_json(text.encode(errors="replace"), source)
    try:
        points = list(_geojson_points(data))
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise InputError(f"{source}: not a track in GeoJSON ({error!r:.80})") from error
    return _log_of(points, source, 'points with a property "timestamp" or a line with "coordTimes"')


def _geojson_points(data: dict) -> Iterator[Point]:
    features = data.get("features") if data.get("type") == "FeatureCollection" else [data]
    for feature in features:
        properties, geometry = feature.get("properties") or {}, feature.get("geometry") or {}
        coordinates = geometry.get("coordinates") or []
        if geometry.get("type") == "Point":
            moment = next((properties[k] for k in _POINT_TIME_KEYS if k in properties), None)
            yield _geojson_point(coordinates, moment, properties)
            continue
        lines = coordinates if geometry.get("type") == "MultiLineString" else [coordinates]
        if geometry.get("type") not in ("LineString", "MultiLineString"):
            continue
        times = next((properties[k] for k in _TIME_KEYS if properties.get(k)), [])
        if isinstance(times, dict):
            times = times.get("times", [])
        if len(lines) > 1 and times and isinstance(times[0], list):
            times = [t for line in times for t in line]
        flat = [c for line in lines for c in line]
        for i, coordinate in enumerate(flat):
            yield _geojson_point(coordinate, times[i] if i < len(times) else None, {})


def _geojson_point(coordinate: list, moment, properties: dict) -> Point:
    row = {"lon": float(coordinate[0]), "lat": float(coordinate[1])}
    if len(coordinate) > 2 and coordinate[2] is not None:
        row["either"] = float(coordinate[2])
    for name, value in properties.items():
        key = _EXTENSIONS.get(str(name).lower().replace("_", ""))
        if key is not None and isinstance(value, (int, float, str)):
            row[key] = parse_number(str(value))
    clock = None
    if isinstance(moment, str):
        clock = parse_clock(moment)
    elif isinstance(moment, (int, float)) and (scale := epoch_scale(moment)) is not None:
        clock = datetime.fromtimestamp(moment * scale, timezone.utc)
    return row, clock, decimals(repr(float(coordinate[1])))


def _log_of(points, source: str, needed: str) -> FlightLog:
    """The log of points; those without a time are left out."""
    rows, clocks, digits, timeless = [], [], 0, 0
    for row, clock, places in points:
        digits = max(digits, places)
        if clock is None:
            timeless += 1
            continue
        rows.append(row)
        # GPX times are UTC, also where the Z was forgotten.
        clocks.append((clock if clock.tzinfo else clock.replace(tzinfo=timezone.utc)) - _EPOCH)
    if not rows:
        what = f"its {timeless} track points have no times" if timeless else "no track point in it"
        raise InputError(f"{source}: {what}; {needed}")
    for row, elapsed in zip(rows, clocks):
        row["time_s"] = (elapsed - clocks[0]).total_seconds()
    notes = [f"{timeless} track points have no time"] if timeless else []
    guesses: dict[str, str] = {}
    if any("either" in row for row in rows):
        either = np.array([row.pop("either", np.nan) for row in rows])
        kinds = {"alt": [], "abs_alt": [], "either": [("the third coordinate", either)]}
        alt, abs_alt, guesses = choose_heights(kinds, len(rows), notes)
        for row, height, above_sea in zip(rows, alt, abs_alt):
            row.setdefault("alt", height)
            row.setdefault("abs_alt", above_sea)
    return FlightLog.from_rows(
        rows,
        dialect="gpx",
        source=source,
        time_is_video=False,
        clock_start=_EPOCH + clocks[0],
        position_decimals=min(digits, 7) if digits else 7,
        notes=notes,
        guesses=guesses,
    )
