"""Text, numbers and clock times as flight logs write them."""

from __future__ import annotations

import codecs
import math
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

from msnet_d2.errors import InputError

# An hour at 60 frames a second is about 150 MB in the wordiest dialect.
MAX_BYTES = 1 << 30
NUMBER = r"[-+]?\d{1,15}(?:[.,]\d{1,15})?"

_YEAR_FIRST = re.compile(
    r"(\d{4})[-./](\d{1,2})[-./](\d{1,2})[ T]+(\d{1,2}):(\d{2}):(\d{2})"
    r"(?:[.,](\d{1,9}))?(?:[.,](\d{3})(?!\d))?\s*(Z|[+-]\d{2}:?\d{2})?"
)
_US = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{4})[ T,]+(\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d{1,9}))?\s*(AM|PM)?",
    re.IGNORECASE,
)


def read_text(path: Path | str) -> str:
    """Return the text of a log, whatever of UTF-8, UTF-16 and Latin-1 it is in.

    Raises:
        InputError: if the file is missing, too large, or not text.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes is too large for a flight log")
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: the flight log cannot be read ({error.strerror})") from error
    return decode(raw, str(path))


def decode(raw: bytes, where: str) -> str:
    """Decode the bytes of a log; ``where`` names it in errors."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in raw[:4096]:
        raise InputError(
            f"{where}: not a text file, so no flight log; an encrypted log of the DJI app has to "
            "be converted first (for example to CSV by AirData)"
        )
    else:
        encoding = "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return raw.decode("latin-1" if encoding == "utf-8-sig" else "utf-16", errors="replace")


def parse_number(text: str | None) -> float:
    """The number at the beginning of ``text``, with a decimal point or comma; NaN if none."""
    match = re.match(rf"\s*({NUMBER}(?:[eE][-+]?\d{{1,3}})?)", text or "")
    if not match:
        return math.nan
    value = float(match.group(1).replace(",", "."))
    return value if math.isfinite(value) else math.nan


def decimals(text: str) -> int:
    """How many digits stand behind the decimal point or comma of a number."""
    match = re.search(r"[.,](\d+)", text)
    return len(match.group(1)) if match else 0


def _make(year, month, day, hour, minute, second, fraction, zone) -> datetime | None:
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        return datetime(year, month, day, hour, minute, second, microsecond, tzinfo=zone)
    except ValueError:
        return None


def parse_clock(text: str) -> datetime | None:
    """The first date and time in ``text``; None if there is none.

    Reads ``2024-01-15 14:30:22.123``, ``2019-09-25 01:22:35,085,332`` (milliseconds and
    microseconds), ``2017.07.29 15:18:50``, ISO 8601 with a zone, and ``8/29/2017 2:30:28.9 PM``.
    The result is aware of its zone only where the text names one.
    """
    match = _YEAR_FIRST.search(text)
    if match:
        *fields, fraction, micro, zone = match.groups()
        offset = None
        if zone == "Z":
            offset = timezone.utc
        elif zone:
            minutes = int(zone[1:3]) * 60 + int(zone[-2:])
            if minutes >= 24 * 60:
                return None
            offset = timezone(timedelta(minutes=-minutes if zone[0] == "-" else minutes))
        if micro and len(fraction) == 3:
            fraction += micro
        return _make(*map(int, fields), fraction, offset)
    match = _US.search(text)
    if match:
        month, day, year, hour, minute, second = map(int, match.groups()[:6])
        fraction, half = match.group(7), (match.group(8) or "").upper()
        if half:
            hour = hour % 12 + (12 if half == "PM" else 0)
        return _make(year, month, day, hour, minute, second, fraction, None)
    return None
