"""Flight logs in CSV: AirData, Litchi, Flight Reader and TXTlogToCSV by their own headers, any
other by a mapping of columns."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone

from msnet_d2.damage_map.telemetry.flight_log import FlightLog
from msnet_d2.damage_map.telemetry.log_text import decimals, parse_clock, parse_number
from msnet_d2.errors import InputError

# What a mapping may name, and the headers (lower case, no unit, no spaces) that are known. The
# first header that a file has counts.
FIELDS: dict[str, tuple[str, ...]] = {
    "time": ("time", "times", "timeseconds", "osd.flytime", "elapsedtime", "elapsed"),
    "datetime": ("datetime", "custom.updatetime", "date/time", "timestamp", "utc"),
    "date": ("custom.date", "date"),
    "lat": ("latitude", "lat", "osd.latitude", "aircraftlatitude"),
    "lon": ("longitude", "lon", "lng", "longtitude", "osd.longitude", "aircraftlongitude"),
    "alt": (
        "heightabovetakeoff",
        "osd.height",
        "relalt",
        "height",
        "altitude",
        "alt",
        "aircraftbarometricaltitude",
    ),
    "abs_alt": ("altitudeabovesealevel", "absalt", "osd.altitude"),
    "yaw": ("gimbalheading", "gimbal.yaw", "gimbalyaw", "gbyaw", "gimbalyawraw"),
    "pitch": ("gimbalpitch", "gimbal.pitch", "gbpitch", "gimbalpitchraw"),
    "roll": ("gimbalroll", "gimbal.roll", "gbroll", "gimbalrollraw"),
    "flight_yaw": ("compassheading", "osd.yaw", "yaw", "heading", "aircraftheading"),
    "focal_mm": ("focallen", "focallength", "focalmm"),
    "hfov_deg": ("hfov", "hfovdeg"),
    "recording": ("isvideo", "custom.isvideo", "camera.isvideo", "istakingvideo"),
}
_LENGTH = {"ft": 0.3048, "feet": 0.3048, "m": 1.0, "meters": 1.0, "metres": 1.0, "meter": 1.0}
_TIME = {"ms": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3, "us": 1e-6, "s": 1.0, "sec": 1.0}
_TRUE = {"1", "true", "yes", "recording", "starting"}


def parse_columns(items: Iterable[str]) -> dict[str, str]:
    """Turn ``["lat=Latitude", "alt=Height (ft)"]`` into a mapping of fields to headers.

    Raises:
        InputError: if an item is not of this form, or names a field that does not exist.
    """
    mapping = {}
    for item in items:
        name, sign, header = item.partition("=")
        name = name.strip()
        if not sign or not header.strip() or name not in FIELDS:
            raise InputError(
                f"column mapping {item!r}: expected FIELD=HEADER with FIELD one of "
                f"{', '.join(FIELDS)}"
            )
        mapping[name] = header.strip()
    return mapping


def _name_and_unit(header: str) -> tuple[str, str]:
    match = re.match(r"\s*([^(\[]*?)\s*[(\[]([^)\]]*)[)\]]", header)
    name, unit = match.groups() if match else (header, "")
    return re.sub(r"[\s_]", "", name).lower(), unit.strip().lower()


def _titles(header: list[str]) -> str:
    return ", ".join(" ".join(title.split()) for title in header)


def _find_columns(header: list[str], mapping: Mapping[str, str], source: str) -> dict[str, int]:
    known: dict[str, int] = {}
    # "OSD.flyTime [formatted]" stands before "OSD.flyTime [s]": a unit that is known counts more.
    for usable in (True, False):
        for i, title in enumerate(header):
            name, unit = _name_and_unit(title)
            if not usable or unit in _LENGTH or unit in _TIME:
                known.setdefault(name, i)
    found = {}
    for field_name, titles in FIELDS.items():
        for title in titles:
            if title in known:
                found[field_name] = known[title]
                break
    exact = {title.strip().lower(): i for i, title in reversed(list(enumerate(header)))}
    for field_name, title in mapping.items():
        if title.strip().lower() not in exact:
            raise InputError(
                f"{source}: no column {title!r} for {field_name}; there are: " + _titles(header)
            )
        found[field_name] = exact[title.strip().lower()]
    missing = [name for name in ("lat", "lon") if name not in found]
    if not {"time", "datetime"} & found.keys():
        missing.append("time")
    if missing:
        raise InputError(
            f"{source}: no column was recognised as {', '.join(missing)}; name it by --columns "
            f"{missing[0]}=HEADER, where HEADER is one of: " + _titles(header)
        )
    return found


def _scale(field_name: str, title: str) -> float:
    name, unit = _name_and_unit(title)
    if field_name in ("alt", "abs_alt"):
        return _LENGTH.get(unit, 1.0)
    if field_name == "time":
        return _TIME.get(unit, 1.0)
    # Litchi writes the gimbal's angles in tenths of a degree.
    return 0.1 if name.startswith("gimbal") and name.endswith("raw") else 1.0


def _read_table(text: str, source: str) -> tuple[list[str], list[list[str]]]:
    lines = text.lstrip("\ufeff")
    if lines[:4].lower() == "sep=":
        lines = lines.partition("\n")[2]
    first = lines.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        table = [row for row in csv.reader(io.StringIO(lines), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise InputError(f"{source}: not a table of comma-separated values ({error})") from error
    if len(table) < 2:
        raise InputError(f"{source}: no row below the header; is it a flight log in CSV?")
    return table[0], table[1:]


def parse_flight_csv(text: str, source: str, columns: Mapping[str, str] | None = None) -> FlightLog:
    """Read a flight log in CSV (comma, semicolon or tab; decimal point or comma).

    Args:
        text: the whole file.
        source: its name, for messages.
        columns: field (see :data:`FIELDS`) to header, where the header is not known. Units come
            from the header: ``(feet)``, ``[ft]``, ``(m)``, ``(millisecond)``.

    Raises:
        InputError: if columns are missing, or no row has a position and a time.
    """
    header, table = _read_table(text, source)
    found = _find_columns(header, columns or {}, source)
    scales = {name: _scale(name, header[i]) for name, i in found.items()}
    rows, clocks, digits, bad = [], [], 0, 0
    for record in table:
        cells = {name: record[i].strip() for name, i in found.items() if i < len(record)}
        row = {
            name: parse_number(cell) * scales[name]
            for name, cell in cells.items()
            if name not in ("time", "datetime", "date", "recording")
        }
        if "recording" in cells:
            row["recording"] = float(cells["recording"].lower() in _TRUE)
        clock = _clock(cells)
        seconds = parse_number(cells.get("time")) * scales.get("time", 1.0)
        if math.isnan(row.get("lat", math.nan)) or (clock is None and math.isnan(seconds)):
            bad += 1
            continue
        digits = max(digits, decimals(cells["lat"]))
        row["time_s"] = seconds
        rows.append(row)
        clocks.append(clock)
    if not rows:
        raise InputError(f"{source}: none of its {len(table)} rows has a position and a time")
    is_utc = "utc" in header[found["datetime"]].lower() if "datetime" in found else False
    start = _set_times(rows, clocks, is_utc)
    return FlightLog.from_rows(
        rows,
        dialect="csv",
        source=source,
        time_is_video=False,
        clock_start=start,
        position_decimals=digits,
        notes=[f"{bad} of {len(table)} rows have no position or no time"] if bad else [],
    )


def _clock(cells: dict[str, str]) -> datetime | None:
    text = cells.get("datetime", "")
    clock = parse_clock(text)
    if clock is None and "date" in cells:
        clock = parse_clock(f"{cells['date']} {text}")
    return clock


def _set_times(
    rows: list[dict[str, float]], clocks: list[datetime | None], is_utc: bool
) -> datetime | None:
    """Make ``time_s`` seconds since the log's start; return the date and time of that."""
    first = next((clock for clock in clocks if clock), None)
    if first is not None:
        same = [c if c and (c.tzinfo is None) == (first.tzinfo is None) else None for c in clocks]
        elapsed = [(c - first).total_seconds() if c else math.nan for c in same]
    else:
        elapsed = [math.nan] * len(rows)
    if all(math.isnan(row["time_s"]) for row in rows):
        for row, seconds in zip(rows, elapsed):
            row["time_s"] = seconds
        offset = 0.0
    else:
        begin = next(row["time_s"] for row in rows if not math.isnan(row["time_s"]))
        for row in rows:
            row["time_s"] -= begin
        pairs = [e - row["time_s"] for e, row in zip(elapsed, rows)]
        pairs = [p for p in pairs if not math.isnan(p)]
        # Clocks in whole seconds are cut off, not rounded: none of them is ahead, so the largest
        # difference is nearest to the truth.
        offset = max(pairs) if pairs else 0.0
    if first is None:
        return None
    try:
        start = first + timedelta(seconds=offset)
    except OverflowError:
        return None
    return start.replace(tzinfo=timezone.utc) if is_utc and start.tzinfo is None else start
