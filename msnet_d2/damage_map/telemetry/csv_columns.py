"""Which column of a table is what: names, units, and what all columns together say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from msnet_d2.damage_map.telemetry.values import ANGLES, DURATIONS, LENGTHS
from msnet_d2.errors import InputError

# What a mapping of columns may name.
FIELDS = (
    "time", "datetime", "date", "lat", "lon", "alt", "abs_alt", "yaw", "pitch", "roll",
    "flight_yaw", "focal_mm", "hfov_deg", "zoom", "recording",
)  # fmt: skip
# Headers (lower case, letters, digits and dots alone, without units) that are known. The first
# header of a field that a file has counts.
_NAMES: dict[str, tuple[str, ...]] = {
    "time": (
        "time", "times", "timeseconds", "osd.flytime", "elapsedtime", "elapsed", "flighttime",
        "sampletime", "timeelapsed", "timesinceboot", "timesincestart", "seconds", "timestamp",
        "sessiontime", "timeus", "timems", "t", "videotime", "offset", "epoch", "unixtime",
        "timeutcusec", "timeutc", "utctime", "localtime", "timebootms", "timeunixusec",
        "gpstime", "clock",
    ),
    "datetime": (
        "datetime", "custom.updatetime", "datetimeutc", "utc", "datetimelocal", "gpsdatetime",
        "datetimeoriginal", "createdate", "timestamputc", "isotime", "recordedat",
    ),
    "date": ("custom.date", "date", "gpsdate", "dateutc", "utcdate", "localdate"),
    "lat": ("latitude", "lat"),
    "lon": ("longitude", "lon", "lng", "longtitude", "long"),
    "pair": ("gps", "coordinates", "coordinate", "coords", "position", "location", "latlon",
             "latlng", "gpsposition", "gpscoordinates", "latitudelongitude"),
    "yaw": ("gimbalheading", "gimbal.heading", "gimbal.yaw", "gimbalyaw", "gbyaw", "gimbalyawraw",
            "camerayaw", "cameraheading", "camera.yaw", "mountyaw", "gimbal.yawdegree",
            "gimbalyawdegree", "cameraazimuth", "gimbal.yaw360", "gimbalazimuth"),
    "pitch": ("gimbalpitch", "gimbal.pitch", "gbpitch", "gimbalpitchraw", "camerapitch",
              "camera.pitch", "mountpitch", "gimbalpitchdegree", "gimbal.pitchdegree",
              "cameratilt", "gimbaltilt", "gimbalelevation"),
    "roll": ("gimbalroll", "gimbal.roll", "gbroll", "gimbalrollraw", "cameraroll", "camera.roll",
             "mountroll", "gimbalrolldegree", "gimbal.rolldegree"),
    "flight_yaw": ("compassheading", "osd.yaw", "yaw", "heading", "hdg", "aircraftheading",
                   "flightyaw", "flightyawdegree", "droneyaw", "droneheading", "attitude.yaw",
                   "compass", "imuyaw", "vehicleheading", "headingdegrees", "aircraftyaw",
                   "osd.directionyaw", "osd.yaw360"),
    "focal_mm": ("focallen", "focallength", "focalmm", "focallengthin35mmformat",
                 "focallength35mm", "focallength35mmequivalent"),
    "hfov_deg": ("hfov", "hfovdeg", "horizontalfov", "horizontalfieldofview"),
    "zoom": ("dzoom", "dzoomratio", "digitalzoom", "digitalzoomratio", "zoom", "zoomratio",
             "zoomfactor"),
    "recording": ("isvideo", "custom.isvideo", "camera.isvideo", "istakingvideo", "isrecording",
                  "recording", "videorecording"),
}  # fmt: skip
# Said of where the drone is, not of anything else; they may stand before a name.
_OWNERS = re.compile(
    r"^(?:osd\.|gps\.?|gnss\.?|aircraft\.?|drone\.?|uav\.?|vehicle\.?|position\.?|global\.?|"
    r"globalposition\.?|location\.?|sensor\.?|platform\.?|gpslocation\.?)+"
)
_ALTITUDE = re.compile(
    r"altitude|height|ascent|(?<![a-z])alt|(?:gps|rel|relative|abs|baro)alt|^ele(?:vation)?$"
)
# Heights of something else, or changes of a height.
_NOT_ALTITUDE = re.compile(
    r"max|min(?!us)|home|vps|sonar|ultrason|lidar|range|radar|acc|speed|rate|error|geoid|terrain|"
    r"ground(?!level)|target|limit|std|var|diff|pilot|rc\.|app\.|wind|stddev|setpoint|width|type|"
    r"mode|valid|takeoff(?:altitude|height)|surface|dist|image|frame"
)
_ABSOLUTE = re.compile(
    r"msl|asl|sealevel|abs|ellips|hae|gps|gnss|^ele|elevation|ortho|osd\.altitude|wgs84"
)
_RELATIVE = re.compile(
    r"rel|abovetakeoff|takeoff|agl|abovehome|aboveground|height|ascent|baro|^osd\.height|ato|atl"
)
_DATUMS = {
    "agl": "alt", "atl": "alt", "ato": "alt", "hat": "alt", "rel": "alt", "relative": "alt",
    "msl": "abs_alt", "amsl": "abs_alt", "asl": "abs_alt", "abs": "abs_alt", "hae": "abs_alt",
    "wgs84": "abs_alt", "ellipsoid": "abs_alt",
}  # fmt: skip
_SUFFIX = re.compile(
    r"(?:[\s_.\-](ft|feet|m|meters?|metres?|km|cm|mm|deg|degrees?|rad|radians?|s|sec|seconds?|ms|us|"
    r"usec|ns|msec|millis|milliseconds?|microseconds?|e7)"
    r"|(?<=[a-z])(Ft|Feet|Meters?|Metres?|Deg|Degrees?|Rad|Radians?|Ms|Sec|Seconds?|Us|E7))$"
)


@dataclass(frozen=True)
class Title:
    """A header: its plain name, its unit ("" if it has none), and the datum of a height."""

    name: str
    unit: str
    datum: str = ""


def read_title(header: str) -> Title:
    """Part a header into name, unit and datum: ``Altitude (Feet AGL)``, ``altitude_ft``."""
    match = re.match(r"\s*([^(\[]*?)\s*[(\[]([^)\]]*)[)\]]", header)
    name, unit = match.groups() if match else (header.strip(), "")
    if not match and (suffix := _SUFFIX.search(name)):
        name, unit = name[: suffix.start()], suffix.group(1) or suffix.group(2)
    words = re.split(r"[\s_.,\-]+", unit.lower())
    datum = next((_DATUMS[word] for word in words if word in _DATUMS), "")
    unit = "".join(word for word in words if word not in _DATUMS)
    name = re.sub(r"[:/]", ".", name.lower())
    return Title(re.sub(r"[^a-z0-9.]", "", name).strip("."), unit, datum)


def _plain(name: str) -> str:
    return _OWNERS.sub("", name) or name


def titles_text(header: list[str]) -> str:
    """The headers for a message: bounded, whatever a file holds."""
    shown = [" ".join(re.sub(r"[^ -~\u00a0-\uffff]", "?", t).split())[:40] for t in header[:30]]
    more = f" and {len(header) - 30} more" if len(header) > 30 else ""
    return ", ".join(shown) + more


def _is_usable(field: str, title: Title) -> bool:
    units = DURATIONS if field == "time" else LENGTHS if "alt" in field else ANGLES
    return title.unit in units


def find_columns(header: list[str], mapping: Mapping[str, str], source: str) -> dict[str, int]:
    """Field (of :data:`FIELDS`, or "pair") to the index of its column, heights excepted.

    Raises:
        InputError: if the mapping names a column that is not there, or position or time is not
            among the columns that are known.
    """
    titles = [read_title(title) for title in header]
    found: dict[str, int] = {}
    for field, names in _NAMES.items():
        candidates = []
        for i, title in enumerate(titles):
            plain = _plain(title.name) if field in ("lat", "lon") else title.name
            if plain in names:
                # "OSD.flyTime [formatted]" stands before "OSD.flyTime [s]": the unit decides.
                candidates.append((names.index(plain), not _is_usable(field, title), i))
        if candidates:
            found[field] = min(candidates)[-1]
    exact = {title.strip().lower(): i for i, title in reversed(list(enumerate(header)))}
    for field, title in mapping.items():
        if title.strip().lower() not in exact:
            raise InputError(
                f"{source}: no column {title!r} for {field}; there are: " + titles_text(header)
            )
        found[field] = exact[title.strip().lower()]
    missing = [] if "pair" in found else [name for name in ("lat", "lon") if name not in found]
    if not {"time", "datetime", "date"} & found.keys():
        missing.append("time")
    if missing:
        raise InputError(
            f"{source}: no column was recognised as {', '.join(missing)}; name it by `columns` "
            f"{missing[0]}=HEADER, where HEADER is one of: " + titles_text(header)
        )
    return found


def altitude_columns(header: list[str]) -> dict[str, list[int]]:
    """Columns of heights by what their names say: "alt" (above take-off), "abs_alt" (above sea
    level), "either"; the likeliest first."""
    found: dict[str, list[int]] = {"alt": [], "abs_alt": [], "either": []}
    for i, text in enumerate(header):
        title = read_title(text)
        if not _ALTITUDE.search(title.name) or _NOT_ALTITUDE.search(title.name):
            continue
        if title.datum:
            found[title.datum].append(i)
        elif _ABSOLUTE.search(title.name) and not re.search("rel|takeoff|baro", title.name):
            found["abs_alt"].append(i)
        else:
            found["alt" if _RELATIVE.search(title.name) else "either"].append(i)
    likely = re.compile("takeoff|rel")
    found["alt"].sort(key=lambda i: (likely.search(read_title(header[i]).name) is None, i))
    return found


def scale_of(field: str, header: str, source: str) -> float:
    """Factor from a column's unit to metres, seconds or degrees; 1 where its header has none.

    Raises:
        InputError: if the header of a height or an angle has a unit that is not known.
    """
    title = read_title(header)
    if field in ("alt", "abs_alt", "lat", "lon", "yaw", "pitch", "roll", "flight_yaw", "hfov_deg"):
        units = LENGTHS if field.endswith("alt") else ANGLES
        if title.unit and title.unit not in units:
            raise InputError(
                f"{source}: the unit of column {titles_text([header])!r} is not known; rename it "
                f"to one of {', '.join(list(units)[:8])}"
            )
        # Litchi writes the gimbal's angles in tenths of a degree.
        raw = title.name.startswith("gimbal") and title.name.endswith("raw")
        return 0.1 if raw else units.get(title.unit, 1.0)
    return DURATIONS.get(title.unit, 1.0) if field == "time" else 1.0
