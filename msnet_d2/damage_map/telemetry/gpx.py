"""Tracks in GPX, with what drones and Garmin add to their points."""

from __future__ import annotations

from datetime import datetime, timezone
from xml.etree import ElementTree

from msnet_d2.damage_map.telemetry.flight_log import FlightLog
from msnet_d2.damage_map.telemetry.log_text import decimals, parse_clock, parse_number
from msnet_d2.errors import InputError

# Local names of elements below <extensions>, lower case, without underscores. Garmin's <course> is
# where the drone moved, not where it looked, and is therefore not among them.
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

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _local(tag) -> str:
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def parse_gpx(text: str, source: str) -> FlightLog:
    """Read the track points of a GPX file, of all its tracks and segments.

    Raises:
        InputError: if it is not well-formed, has no track point, or its points have no times.
    """
    # No GPX has a document type; one that declares entities can fill the memory.
    if "<!DOCTYPE" in text[:10_000].upper() or "<!ENTITY" in text.upper():
        raise InputError(f"{source}: a GPX file with a document type is not read")
    try:
        # A declared encoding contradicts text that is decoded already.
        root = ElementTree.fromstring(text[text.find("?>") + 2 :] if "?>" in text[:200] else text)
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{source}: not well-formed XML ({error})") from error
    rows, clocks, digits, timeless = [], [], 0, 0
    for point in root.iter():
        if _local(point.tag) != "trkpt":
            continue
        row = {"lat": parse_number(point.get("lat")), "lon": parse_number(point.get("lon"))}
        digits = max(digits, decimals(point.get("lat") or ""))
        clock = None
        for element in point.iter():
            name, value = _local(element.tag), (element.text or "").strip()
            if name == "time":
                clock = parse_clock(value)
            elif name == "ele":
                row["abs_alt"] = parse_number(value)
            elif (key := _EXTENSIONS.get(name.replace("_", ""))) is not None:
                row.setdefault(key, parse_number(value))
        if clock is None:
            timeless += 1
            continue
        rows.append(row)
        # GPX times are UTC, also where the Z was forgotten.
        clocks.append((clock if clock.tzinfo else clock.replace(tzinfo=timezone.utc)) - _EPOCH)
    if not rows:
        what = f"its {timeless} track points have no times" if timeless else "no track point in it"
        raise InputError(f"{source}: {what}; a recorded track is needed, with <trkpt> and <time>")
    for row, elapsed in zip(rows, clocks):
        row["time_s"] = (elapsed - clocks[0]).total_seconds()
    return FlightLog.from_rows(
        rows,
        dialect="gpx",
        source=source,
        time_is_video=False,
        clock_start=_EPOCH + clocks[0],
        position_decimals=digits,
        notes=[f"{timeless} track points have no time"] if timeless else [],
    )
