"""The text of a flight log, and the clock times in it."""

from __future__ import annotations

import codecs
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

from msnet_d2.damage_map.telemetry.values import decimals, parse_number
from msnet_d2.errors import InputError
from msnet_d2.utils.file_io import read_regular_file

__all__ = ["NUMBER", "decimals", "decode", "parse_clock", "parse_number", "read_text"]

FIRST_YEAR, LAST_YEAR = 1970, 2200
# An hour at 60 frames a second is about 150 MB in the wordiest dialect, and 216,000 records. Each
# takes up to two kilobytes of memory.
MAX_BYTES = 1 << 28
MAX_RECORDS = 500_000
NUMBER = r"[-+]?\d{1,15}(?:[.,]\d{1,15})?(?![\d.,]*\d)"

_ZONE = r"\s*(Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?(?![\d:]))?"
_YEAR_FIRST = re.compile(
    r"(?<!\d)(\d{4})[-./:](\d{1,2})[-./:](\d{1,2})(?:[ T,]+|(?<=\d)T)(\d{1,2}):(\d{2})(?::(\d{2}))?"
    rf"(?:[.,](\d{{1,9}}))?(?:[.,](\d{{3}})(?!\d))?{_ZONE}"
)
_COMPACT = re.compile(
    r"(?<!\d)(\d{4})(\d{2})(\d{2})[T_ ](\d{2})(\d{2})(\d{2})(?:[.,](\d{1,9}))?"
    rf"{_ZONE}"
)
_YEAR_LAST = re.compile(
    r"(?<!\d)(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})[ T,]+(\d{1,2}):(\d{2})(?::(\d{2}))?"
    rf"(?:[.,](\d{{1,9}}))?\s*(AM|PM)?{_ZONE}",
    re.IGNORECASE,
)

# What a log that is not text begins with or is called, and which export makes text of it.
_BINARY = (
    (lambda name, raw: raw.startswith(b"ULog"), "a PX4 log (.ulg)", "ulog2csv of pyulog"),
    (
        lambda name, raw: raw[:2] == b"\xa3\x95",
        "an ArduPilot log (.bin)",
        "Mission Planner (Create KML + GPX) or mavlogdump.py --format csv",
    ),
    (
        lambda name, raw: name.endswith((".tlog", ".rlog")),
        "a MAVLink log (.tlog)",
        "QGroundControl (CSV logging), Mission Planner (KML + GPX) or mavlogdump.py --format csv",
    ),
    (
        lambda name, raw: "djiflightrecord" in name,
        "an encrypted record of the DJI app",
        "AirData, Flight Reader or open-dronelog (CSV)",
    ),
    (lambda name, raw: name.endswith(".dat"), "a DJI .DAT log", "CsvView or DatCon (CSV)"),
    (
        lambda name, raw: raw.startswith((b"PK\x03\x04", b"\x1f\x8b")),
        "an archive (.kmz, .xlsx, .zip, .gz)",
        "unpacking it, or saving the table as CSV",
    ),
    (lambda name, raw: raw.startswith(b"\xd0\xcf\x11\xe0"), "an Excel file", "saving it as CSV"),
    (lambda name, raw: name.endswith(".fit"), "a Garmin .fit file", "Garmin Connect (GPX)"),
)


def read_text(path: Path | str, what: str = "flight log", max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a log, whatever of UTF-8, UTF-16 and Latin-1 it is in.

    Args:
        path: of the file.
        what: it is, for messages.
        max_bytes: that it may have.

    Raises:
        InputError: if the file is missing, too large, or not text.
    """
    try:
        raw = read_regular_file(path, max_bytes)
    except OSError as error:
        raise InputError(f"{path}: the {what} cannot be read ({error.strerror})") from error
    return decode(raw, str(path))


def check_count(count: int, most: int, what: str, source: str) -> None:
    """See that a log holds no more of something than any flight has.

    Raises:
        InputError: if it does.
    """
    if count > most:
        raise InputError(f"{source}: {count:,} {what}; {most:,} are the most that are read")


def decode(raw: bytes, where: str) -> str:
    """Decode the bytes of a log; ``where`` names it in errors.

    Raises:
        InputError: if they are no text; it names the kind of log and the export that works.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace")
    if b"\0" in raw[:4096]:
        name = Path(where).name.lower()
        for fits, what, export in _BINARY:
            if fits(name, raw[:16]):
                raise InputError(f"{where}: {what}, which is not read; export it by {export}")
        raise InputError(
            f"{where}: not a text file, so no flight log that is read; export it as CSV or GPX by "
            "the program that belongs to it"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1", errors="replace")


def _zone(text: str | None) -> timezone | None:
    if not text:
        return None
    if text.upper() in ("Z", "UTC", "GMT"):
        return timezone.utc
    minutes = int(text[1:3]) * 60 + (int(text[-2:]) if len(text) > 3 else 0)
    if minutes >= 24 * 60:
        raise ValueError
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def _make(year, month, day, hour, minute, second, fraction, zone) -> datetime | None:
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    numbers = [int(n or 0) for n in (year, month, day, hour, minute, second)]
    # A receiver without a fix writes the year 0, 1 or 1904; no drone flew then.
    if not FIRST_YEAR <= numbers[0] <= LAST_YEAR:
        return None
    try:
        return datetime(*numbers, microsecond, tzinfo=_zone(zone))
    except ValueError:
        return None


def parse_clock(text: str, *, day_first: bool = False) -> datetime | None:
    """The first date and time in ``text``; None if there is none.

    Reads ``2024-01-15 14:30:22.123``, ``2019-09-25 01:22:35,085,332`` (milliseconds and
    microseconds), ``2017.07.29 15:18:50``, ``2024:01:15 14:30:22``, ISO 8601 with a zone,
    ``20240115T143022Z``, ``8/29/2017 2:30:28.9 PM`` and ``29.8.2017 14:30``. The result is aware of
    its zone only where the text names one.

    Args:
        text: of a field, or of a subtitle.
        day_first: whether ``1/2/2024`` is in February.
    """
    match = _YEAR_FIRST.search(text)
    if match:
        *fields, fraction, micro, zone = match.groups()
        if micro and fraction and len(fraction) == 3:
            fraction += micro
        return _make(*fields, fraction, zone)
    match = _COMPACT.search(text)
    if match:
        return _make(*match.groups())
    match = _YEAR_LAST.search(text)
    if match:
        first, other, year, hour, minute, second, fraction, half, zone = match.groups()
        month, day = (other, first) if day_first or int(first) > 12 else (first, other)
        if half:
            if int(hour) > 12:
                return None
            hour = int(hour) % 12 + (12 if half.upper() == "PM" else 0)
        return _make(year, month, day, hour, minute, second, fraction, zone)
    return None


def is_day_first(texts: list[str]) -> bool | None:
    """Whether dates with the year last begin with the day; None where nothing tells."""
    pairs = [m.groups()[:2] for m in map(_YEAR_LAST.search, texts) if m]
    if any(int(first) > 12 for first, _ in pairs):
        return True
    return False if any(int(second) > 12 for _, second in pairs) or not pairs else None
