"""One field of a flight log: a number, an angle, a length of time. Whole fields or nothing.

A number that is read by its first digits is a wrong number (``250,000``, ``32 deg 22'``), hence
every function here returns NaN unless it understands all of the text.
"""

from __future__ import annotations

import math
import re

_PLAIN = re.compile(r"[-+]?(?:\d{1,18}(?:[.,]\d{0,40})?|[.,]\d{1,40})(?:[eE][-+]?\d{1,3})?")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:([,.' \u00a0\u202f])\d{3})(?:\1\d{3}){0,4}(?:[.,]\d{1,18})?")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d{1,18})?")
_MEASURE = re.compile(
    r"\s*([-+]?[\d.,' \u00a0\u202f]*\d[.,]?(?:[eE][-+]?\d{1,3})?)\s*([^\d\s.,][^\d]{0,15})?\s*"
)

# To metres.
LENGTHS = {
    "m": 1.0, "meter": 1.0, "meters": 1.0, "metre": 1.0, "metres": 1.0, "mtr": 1.0,
    "ft": 0.3048, "feet": 0.3048, "foot": 0.3048, "'": 0.3048,
    "usft": 1200 / 3937, "ussurveyft": 1200 / 3937, "surveyft": 1200 / 3937,
    "km": 1000.0, "cm": 0.01, "mm": 0.001, "dm": 0.1, "yd": 0.9144,
}  # fmt: skip
# To seconds.
DURATIONS = {
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3, "millis": 1e-3,
    "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "usec": 1e-6, "microsecond": 1e-6, "microseconds": 1e-6,
    "ns": 1e-9, "nsec": 1e-9, "nanosecond": 1e-9, "nanoseconds": 1e-9,
    "min": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0,
}  # fmt: skip
# To degrees.
ANGLES = {
    "deg": 1.0, "degree": 1.0, "degrees": 1.0, "°": 1.0, "º": 1.0, "dd": 1.0,
    "rad": 180 / math.pi, "rads": 180 / math.pi, "radian": 180 / math.pi,
    "radians": 180 / math.pi, "mrad": 0.18 / math.pi, "cdeg": 0.01, "centideg": 0.01,
    "centidegrees": 0.01, "dege7": 1e-7, "1e7deg": 1e-7, "deg1e7": 1e-7, "e7": 1e-7,
}  # fmt: skip

_SEP_DEG = r"(?:\s*(?:°|º|deg(?:rees?)?|d|:)\s*|\s+)"
_SEP_MIN = r"(?:\s*(?:'|′|’|m(?:in)?|:)\s*|\s+)"
_FIGURE = r"\d{1,3}(?:[.,]\d{1,15})?"
_PLACE = re.compile(
    rf"\s*(?P<before>[NSEW])?[\s:]*(?P<sign>[-+−])?\s*(?P<deg>{_FIGURE})"
    rf"(?:{_SEP_DEG}(?P<min>{_FIGURE})(?:{_SEP_MIN}(?P<sec>{_FIGURE}))?)?"
    r"\s*(?:°|º|deg(?:rees?)?|''|'|′|’|\"|″|”)?\s*(?P<after>[NSEW])?\s*",
    re.IGNORECASE,
)
_ELAPSED = re.compile(r"\s*(-?)(?:(\d{1,4}):)?(\d{1,3}):(\d{1,2}(?:[.,]\d{1,9})?)\s*")
_SPELLED = re.compile(
    r"\s*(?:(\d{1,4})\s*h(?:ours?)?)?\s*(?:(\d{1,4})\s*m(?:in)?)?\s*(?:(\d{1,5}(?:[.,]\d{1,9})?)\s*s(?:ec)?)?\s*"
)


def parse_number(text: str | None, *, thousands: bool = False) -> float:
    """The number that ``text`` is, with a decimal point or comma; NaN if it is anything else.

    Args:
        text: of a whole field; white space around it does not matter.
        thousands: whether a comma stands between thousands, and is no decimal sign.
    """
    text = (text or "").strip().replace("−", "-")
    if thousands and _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if _PLAIN.fullmatch(text):
        value = float(text.replace(",", "."))
    elif (match := _GROUPED.fullmatch(text)) is not None:
        digits = text.replace(match.group(1), "")
        value = float(digits.replace(",", "."))
    else:
        return math.nan
    return value if math.isfinite(value) else math.nan


def parse_measure(text: str | None, units: dict[str, float], *, thousands: bool = False) -> float:
    """A number with or without one of ``units`` behind it, such as "50.1 m"; NaN if neither.

    Without a unit the number is returned as it is.
    """
    number = parse_number(text, thousands=thousands)
    if not math.isnan(number):
        return number
    match = _MEASURE.fullmatch(text or "")
    if match is None or match.group(2) is None:
        return math.nan
    factor = units.get(re.sub(r"[\s._]", "", match.group(2)).lower())
    return (
        math.nan if factor is None else parse_number(match.group(1), thousands=thousands) * factor
    )


def parse_place(text: str | None, axis: str) -> float:
    """Degrees of a latitude or longitude; NaN if ``text`` is none.

    Reads decimal degrees, degrees and minutes, and degrees, minutes and seconds, each with a sign
    or the letter of a hemisphere before or behind it: ``-94.79``, ``W94.79``, ``94°47'41.9" W``,
    ``94 deg 47' 41.95" W``, ``94:47.699W``.

    Args:
        text: of a whole field.
        axis: "lat" or "lon", which tells whether a letter fits.
    """
    if _PLAIN.fullmatch((text or "").strip()):
        return parse_number(text)
    match = _PLACE.fullmatch(text or "")
    if match is None:
        return math.nan
    before, after = match["before"], match["after"]
    letter = (before or after or "").upper()
    if (before and after) or (letter and letter not in ("NS" if axis == "lat" else "EW")):
        return math.nan
    parts = [parse_number(match[name]) if match[name] else 0.0 for name in ("deg", "min", "sec")]
    whole = [name for name, finer in (("deg", "min"), ("min", "sec")) if match[finer]]
    if any(re.search("[.,]", match[name]) for name in whole) or max(parts[1:]) >= 60:
        return math.nan
    value = parts[0] + parts[1] / 60 + parts[2] / 3600
    negative = match["sign"] in ("-", "−")
    if negative and letter and letter in "NE":
        return math.nan  # a sign and a letter that contradict each other
    return -value if negative or letter in ("S", "W") else value


def parse_elapsed(text: str | None) -> float:
    """Seconds of ``h:mm:ss.f``, ``mm:ss`` or ``0m 2.8s``; NaN if ``text`` is none of them."""
    match = _ELAPSED.fullmatch(text or "")
    if match:
        sign, hour, minute, second = match.groups()
        seconds = parse_number(second)
        if seconds >= 60 or (hour and int(minute) >= 60):
            return math.nan
        value = int(hour or 0) * 3600 + int(minute) * 60 + seconds
        return -value if sign else value
    match = _SPELLED.fullmatch(text or "")
    if match and match.group(3):
        hour, minute, second = match.groups()
        return int(hour or 0) * 3600 + int(minute or 0) * 60 + parse_number(second)
    return math.nan


def decimals(text: str) -> int:
    """How many digits stand behind the decimal point or comma of a number."""
    match = re.search(r"[.,](\d+)", text)
    return len(match.group(1)) if match else 0
