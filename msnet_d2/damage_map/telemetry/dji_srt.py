"""DJI's subtitles: a record of position, height and camera for each frame or each second.

Firmware writes several dialects, all read here:

- ``[latitude: 48.1] [longitude: 11.5] [rel_alt: 60.1 abs_alt: 580.2] [gb_yaw: 33.5 gb_pitch: -45.0
  gb_roll: 0.0]`` in one line between ``<font>`` tags, after ``FrameCnt : 1, DiffTime : 33ms`` (or
  ``SrtCnt``) and a line with date and time; also ``longtitude``, ``latitude : 48.1`` and ``rel_alt
  57.2``. Many models leave out the gimbal angles. ``[altitude: …]`` is above sea level;
  ``[Drone: Yaw:-62.1, …]`` is the aircraft, not the camera.
- The same with the gimbal in words: ``[Gimbal: Yaw:33.5, Pitch:-45.0, Roll:0.0]``.
- ``GPS(11.5,48.1,14) BAROMETER:60.1`` (``Hb:60.1`` on the Phantom 3) with ``HOME(11.5,48.1)``
  once a second; the third figure is a count of satellites if it is whole, else an altitude. The
  Matrice 300 and the Avata 2 write the latitude first.
- ``F/2.8, SS 400, …, GPS (11.5, 48.1, 15), D 75.36m, H 60.10m, …, F.PRY (…), G.PRY (-40.0°, 0.0°,
  28.2°)`` in one line (``RTK (…)`` on the Phantom 4 RTK); G.PRY is the gimbal's pitch, roll, yaw.

Autel writes the same with letters: ``GPS(W: 94.79, N: 32.37, 50.09m)``.

``focal_len`` is the length equivalent on 35 mm film, as ``24.00`` or as tenths (``240``);
``dzoom_ratio``, ``dzoom`` or ``DZOOM`` the digital zoom, as ``1.00`` or as ``10000``.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from msnet_d2.damage_map.telemetry.flight_log import FlightLog
from msnet_d2.damage_map.telemetry.log_text import MAX_RECORDS, NUMBER, check_count, parse_clock
from msnet_d2.damage_map.telemetry.values import (
    ANGLES,
    LENGTHS,
    decimals,
    parse_measure,
    parse_number,
    parse_place,
)
from msnet_d2.errors import InputError

_STAMP = r"(\d{1,3}):(\d{1,2}):(\d{1,2})[,.:](\d{1,3})"
_CUE = re.compile(rf"{_STAMP}[ \t]*-->[ \t]*{_STAMP}")
_CUE_NUMBER = re.compile(r"\n[ \t]{0,8}\d{1,9}$")
_TAG = re.compile(r"<[^<>]{0,200}>")
_DEGREES, _SECONDS = r"\d{1,3}\s?(?:°|º|deg)\s?", r"(?:\s?\d{1,2}(?:[.,]\d{1,9})?\s?[\"″])?"
_DMS = rf"{_DEGREES}\d{{1,2}}(?:[.,]\d{{1,9}})?\s?['′]{_SECONDS}"
_FIELD = re.compile(
    r"(?<![A-Za-z_])(latitude|long?titude|longitude|rel_alt|abs_alt|altitude|gb_yaw|gb_pitch|"
    r"gb_roll|drone_yaw|flight_yaw|focal_len|dzoom_ratio|dzoom|DiffTime|Yaw)"
    rf"\s{{0,4}}[:=\s]\s{{0,4}}((?:[NSEW]\s?)?(?:{_DMS}|{NUMBER})(?:\s?°)?(?:\s?[NSEW](?![A-Za-z]))?)"
    r"(?!\s?[°'′]\s?\d)",
    re.IGNORECASE,
)
_AXES = re.compile(r"(Gimbal|Drone|Camera|Aircraft)\s?:\s?([^\[\]()\n]{1,120})", re.IGNORECASE)
_AXIS = re.compile(rf"(yaw|pitch|roll)\s?[:=]\s?({NUMBER})", re.IGNORECASE)
_PLACE = re.compile(r"(GPS|RTK|HOME)(\s{0,4})\(([^()\n]{1,100})\)", re.IGNORECASE)
_ANGLES = re.compile(r"([FG])\.PRY\s{0,4}\(([^()\n]{1,100})\)", re.IGNORECASE)
_HEIGHT = re.compile(rf"(?<![A-Za-z.])H\s{{0,2}}[:=]?\s{{0,2}}({NUMBER})\s?m(?![A-Za-z/])")
_BAROMETER = re.compile(
    rf"(?<![A-Za-z])(?:BAROMETER|Hb)\s{{0,2}}[:(=\s]\s{{0,2}}({NUMBER})", re.IGNORECASE
)
_DZOOM = re.compile(rf"DZOOM\s{{1,2}}({NUMBER})")
_KEY = re.compile(r"[A-Za-z][A-Za-z_. -]{0,20}(?=\s{0,2}[:(=])")
_COUNTER = re.compile(r"(?:FrameCnt|SrtCnt)\b", re.IGNORECASE)
_LATITUDE = re.compile(r"(?<![A-Za-z_])latitude\b|(?:GPS|RTK)\s{0,4}\(", re.IGNORECASE)

ORDERS = ("lat,lon", "lon,lat")


def _seconds(hour: str, minute: str, second: str, fraction: str) -> float:
    return int(hour) * 3600 + int(minute) * 60 + int(second) + int(fraction.ljust(3, "0")) / 1000


def _split_tuple(text: str) -> list[str]:
    """The figures between parentheses, where the comma may also be the decimal sign."""
    text = text.replace(": ", ":")
    if re.search(r";|,\s", text):
        parts = re.split(r";\s*|,\s+", text.strip())
    else:
        parts = text.split(",")
        if "." not in text and len(parts) in (4, 6):
            parts = [f"{a}.{b}" for a, b in zip(parts[::2], parts[1::2])]
    return [part.strip() for part in parts]


def _focal_mm(text: str) -> float:
    value = parse_number(text)
    return value / 10 if not decimals(text) and value >= 100 else value


def _zoom(text: str) -> float:
    value = parse_number(text)
    value = value / 10_000 if not decimals(text) and value >= 1000 else value
    return value if value > 0 else 1.0


def _read_frame(text: str) -> tuple[dict[str, float], dict[str, list[str]], float, int]:
    """Return the values of a frame's text, its places by name, DiffTime (s) and decimals."""
    row: dict[str, float] = {}
    zoom, focal, difference, digits = math.nan, math.nan, math.nan, 0
    for owner, figures in _AXES.findall(text):
        row.update(_angles_in_words(owner, figures))
    text = _AXES.sub(" ", text)
    for key, value in _FIELD.findall(text):
        key = key.lower()
        if key == "latitude":
            digits = decimals(value)
        if key in ("latitude", "longitude", "longtitude"):
            row.setdefault(key[:3], parse_place(value, key[:3]))
        elif key == "focal_len":
            focal = _focal_mm(value)
        elif key.startswith("dzoom"):
            zoom = _zoom(value) if math.isnan(zoom) else zoom
        elif key == "difftime":
            difference = parse_number(value) / 1000
        else:
            name = {
                "rel_alt": "alt",
                "altitude": "abs_alt",
                "gb_yaw": "yaw",
                "gb_pitch": "pitch",
                "gb_roll": "roll",
                "drone_yaw": "flight_yaw",
                "yaw": "flight_yaw",
            }.get(key, key)
            row.setdefault(name, parse_number(value))
    if match := _DZOOM.search(text):
        zoom = _zoom(match.group(1))
    if focal > 0:
        row["focal_mm"] = focal * (1.0 if math.isnan(zoom) else zoom)
    elif zoom > 0:
        row["zoom"] = zoom
    for pattern in (_HEIGHT, _BAROMETER):
        match = pattern.search(text)
        if match:
            row.setdefault("alt", parse_number(match.group(1)))
    for letter, figures in _ANGLES.findall(text):
        values = [parse_measure(part, ANGLES) for part in _split_tuple(figures)]
        if len(values) == 3:
            if letter in "Gg":
                row["pitch"], row["roll"], row["yaw"] = values
            else:
                row["flight_yaw"] = values[2]
    places = {}
    for name, space, figures in _PLACE.findall(text):
        parts = _split_tuple(figures)
        if len(parts) >= 2 and not any(math.isnan(_coordinate(part)) for part in parts[:2]):
            places.setdefault(name.upper(), [*parts, "" if space else "tight"])
    return row, places, difference, digits


def _angles_in_words(owner: str, figures: str) -> dict[str, float]:
    """Angles of ``Gimbal: Yaw:33.5, Pitch:-45.0, Roll:0.0``; of the drone its yaw alone."""
    angles = {name.lower(): parse_number(value) for name, value in _AXIS.findall(figures)}
    if owner.lower() in ("gimbal", "camera"):
        return angles
    return {"flight_yaw": angles["yaw"]} if "yaw" in angles else {}


def _coordinate(text: str) -> float:
    """A latitude or longitude, which only a letter would tell apart."""
    value = parse_place(text, "lat")
    return parse_place(text, "lon") if math.isnan(value) else value


def _frames_of(body: str) -> list[str]:
    """Split the text of one subtitle into the frames that it lists."""
    for pattern in (_COUNTER, _LATITUDE):
        starts = [match.start() for match in pattern.finditer(body)]
        if len(starts) > 1:
            starts[0] = 0
            return [body[a:b] for a, b in zip(starts, [*starts[1:], len(body)])]
    return [body]


def _frame_times(start: float, end: float, differences: list[float]) -> list[float]:
    count = len(differences)
    if all(value > 0 for value in differences[1:]):
        times = [start]
        for value in differences[1:]:
            times.append(times[-1] + value)
        if times[-1] <= end + 0.1:
            return times
    return [start + max(end - start, 0.0) * i / count for i in range(count)]


def _place_order(places: list[list[str]], given: str | None, notes: list[str]) -> str:
    """Whether latitude or longitude comes first in GPS(…), from the whole log."""
    if given:
        return given
    if any(re.match(r"[EW]", p[0], re.IGNORECASE) for p in places):
        return "lon,lat"
    if any(re.match(r"[NS]", p[0], re.IGNORECASE) for p in places):
        return "lat,lon"
    pairs = [(_coordinate(p[0]), _coordinate(p[1])) for p in places]
    if any(abs(first) > 90 for first, _ in pairs):
        return "lon,lat"
    if any(abs(second) > 90 for _, second in pairs):
        return "lat,lon"
    if any(p[-1] and len(p) > 3 and p[2][-1:] in "Mm" and p[2] for p in places):
        return "lat,lon"  # only the Matrice 300's lineage writes the altitude as 0.0M
    notes.append(
        "GPS(a, b) does not say which is the latitude; the first was read as the longitude, as "
        "most drones write it (`gps_order` latlon reads the other way)"
    )
    return "lon,lat"


def _altitude(parts: list[str]) -> float:
    """The third figure of a place if it is an altitude, and not a count of satellites."""
    if len(parts) < 4 or not (decimals(parts[2]) or parts[2][-1:] in "Mm"):
        return math.nan
    return parse_measure(parts[2], LENGTHS)


def parse_dji_srt(text: str, source: str, gps_order: str | None = None) -> FlightLog:
    """Read the text of a DJI subtitle file.

    Args:
        text: the whole file.
        source: its name, for messages.
        gps_order: "lat,lon" or "lon,lat" in ``GPS(a, b)``; found out from the log if None.

    Raises:
        InputError: if there are no subtitles, too many, or no position in any of them.
    """
    if gps_order not in (None, *ORDERS):
        raise InputError(f"GPS order {gps_order!r}: expected 'lat,lon' or 'lon,lat'")
    check_count(text.count("-->"), MAX_RECORDS, "subtitles", source)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    cues = list(_CUE.finditer(text))
    if not cues:
        raise InputError(f"{source}: no subtitle in it (a line such as 00:00:00,000 --> …)")
    rows, row_places, clocks, digits, empty, crowded = [], [], [], 0, 0, 0
    for cue, following in zip(cues, [*cues[1:], None]):
        body = _TAG.sub(" ", text[cue.end() : following.start() if following else len(text)])
        frames = _frames_of(_CUE_NUMBER.sub("", body.rstrip()) if following else body)
        crowded += len(frames) > 1
        read = [_read_frame(frame) for frame in frames]
        stamps = cue.groups()
        times = _frame_times(_seconds(*stamps[:4]), _seconds(*stamps[4:]), [r[2] for r in read])
        for frame, time_s, (row, places, _, places_digits) in zip(frames, times, read):
            if not ({"lat", "lon"} <= row.keys() or places.keys() & {"GPS", "RTK"}):
                empty += 1
                continue
            digits = max(digits, places_digits)
            rows.append({**row, "time_s": time_s})
            row_places.append(places)
            clocks.append(frame)
        check_count(len(rows), MAX_RECORDS, "records", source)
    if not rows:
        seen = sorted({key.strip() for key in _KEY.findall(_TAG.sub(" ", text[:4000]))})
        held = f"; they hold {', '.join(seen[:12])}" if seen else ", nor any other value"
        raise InputError(
            f"{source}: no position in any of its {len(cues)} subtitles was recognised{held}. Are "
            "they subtitles of speech, or was the drone without a satellite fix?"
        )
    notes: list[str] = []
    if len(rows) > 2 and len({row["time_s"] for row in rows}) == 1:
        _time_by_clock(rows, clocks, notes)
    if empty:
        notes.append(f"{empty} of {empty + len(rows)} subtitles have no position")
    if crowded:
        notes.append(f"{crowded} subtitles list several frames each, which share their time")
    positions = [places.get("GPS") or places.get("RTK") for places in row_places]
    home = None
    if any(positions):
        order = _place_order([p for p in positions if p], gps_order, notes)
        lat, lon = (0, 1) if order == "lat,lon" else (1, 0)
        for row, place in zip(rows, positions):
            if place and "lat" not in row:
                row["lat"], row["lon"] = _coordinate(place[lat]), _coordinate(place[lon])
                row.setdefault("abs_alt", _altitude(place))
                digits = max(digits, decimals(place[0]), decimals(place[1]))
        homes = [places["HOME"] for places in row_places if "HOME" in places]
        # Until the first fix a drone writes HOME(0,0).
        homes = [h for h in homes if _coordinate(h[0]) or _coordinate(h[1])]
        if homes:
            home = (_coordinate(homes[-1][lat]), _coordinate(homes[-1][lon]))
    tuples = any(positions)
    rtk = any("RTK" in places for places in row_places)
    return FlightLog.from_rows(
        rows,
        dialect="dji-srt-rtk" if rtk else "dji-srt-gps" if tuples else "dji-srt",
        source=source,
        time_is_video=True,
        clock_start=_clock_start(rows, clocks),
        home=home,
        position_decimals=digits,
        notes=notes,
    )


def _time_by_clock(rows: list[dict[str, float]], texts: list[str], notes: list[str]) -> None:
    """Times of subtitles that all have the same, by the clock that they show."""
    clocks = [parse_clock(text) for text in texts]
    if any(c is None for c in clocks) or len(set(clocks)) < len(rows) / 2:
        notes.append("all subtitles have the same time; records are spread over it")
        return
    for row, clock in zip(rows, clocks):
        row["time_s"] = (clock - clocks[0]).total_seconds()
    notes.append("all subtitles have the same time; the clock in them was used")


def _clock_start(rows: list[dict[str, float]], texts: list[str]) -> datetime | None:
    """Date and time of the video's first frame, from the first record that has one."""
    for row, text in zip(rows, texts):
        clock = parse_clock(text)
        if clock:
            try:
                return clock - timedelta(seconds=row["time_s"])
            except OverflowError:
                return None
    return None
