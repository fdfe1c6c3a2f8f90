"""What people said of the buildings of a map, carried from its page to the next map of the place.

The page exports reviews as JSON or CSV. Numbers of buildings change with every map, so that a
review is found again by its place, or without one by the moment of its video.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.output.records import BuildingRecord
from msnet_d2.errors import InputError
from msnet_d2.utils.file_io import read_json_file, read_regular_file
from msnet_d2.utils.text import printable

FORMAT = "msnet reviews"
MAX_BYTES = 64 * 2**20
_TRUE = ("true", "yes", "1")
# A review counts for a building at least so many metres away, however exact both places are.
_MIN_REACH_M = 5.0
_MAX_TEXT = 10_000
# Each review is compared with each building of a map.
_MAX_REVIEWS = 10_000
_ID = re.compile(r"B\d{1,9}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Review:
    """What a person said of a building.

    Attributes:
        id: of the building on the map that was reviewed.
        latitude, longitude: its place there in degrees, or None.
        ce90_m: of that place, in metres, or None.
        best_video, best_time_s: where it was seen best.
        checked: whether somebody looked.
        checked_by, checked_at, note: who, when (ISO 8601), and what they say.
    """

    id: str
    latitude: float | None
    longitude: float | None
    ce90_m: float | None
    best_video: str | None
    best_time_s: float | None
    checked: bool
    checked_by: str | None
    checked_at: str | None
    note: str | None


def read_reviews(path: str | Path) -> tuple[Review, ...]:
    """Read what a map's page exported, JSON or CSV.

    Raises:
        InputError: if it cannot be read, or is no such file.
    """
    path = Path(path)
    try:
        begin = read_regular_file(path, MAX_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
        if begin.startswith((b"{", b"[")):
            rows = _rows_of_json(read_json_file(path, MAX_BYTES), path)
        else:
            rows = _rows_of_csv(begin, path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(rows) > _MAX_REVIEWS:
        raise InputError(f"{path} holds {len(rows):,} reviews; expected {_MAX_REVIEWS:,} at most")
    return tuple(_review(row, f"{path.name}, review {k}") for k, row in enumerate(rows, start=1))


def _rows_of_json(content: Any, path: Path) -> list[Any]:
    rows = content.get("reviews") if isinstance(content, dict) else None
    if not isinstance(rows, list) or content.get("format") != FORMAT:
        raise InputError(f'{path}: not the reviews that a map\'s page exports ("{FORMAT}")')
    return rows


def _rows_of_csv(content: bytes, path: Path) -> list[dict[str, str]]:
    try:
        text = content.decode("utf-8")
        table = csv.DictReader(io.StringIO(text, newline=""))
        if not {"id", "checked", "note"} <= set(table.fieldnames or ()):
            names = ", ".join(map(ascii, (table.fieldnames or ())[:8])) or "none"
            raise InputError(
                f"{path}: not the reviews that a map's page exports; it has the columns {names}, "
                "and not id, checked and note"
            )
        return [{k: _plain(v) for k, v in row.items() if k is not None} for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table in UTF-8: {error}") from error


def _plain(cell: str | None) -> str:
    """A cell without the mark that keeps spreadsheets from taking it for a formula."""
    cell = cell or ""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@", "\t", "\r") else cell


def _review(row: Any, where: str) -> Review:
    name = row.get("id") if isinstance(row, Mapping) else None
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise InputError(f"{where}: no building's id, such as B0001")
    return Review(
        id=name,
        latitude=_number(row, "latitude", 90, where),
        longitude=_number(row, "longitude", 180, where),
        ce90_m=_number(row, "ce90_m", 1e6, where),
        best_video=_text(row, "best_video", where),
        best_time_s=_number(row, "best_time_s", 1e7, where),
        checked=str(row.get("checked")).lower() in _TRUE,
        checked_by=_text(row, "checked_by", where),
        checked_at=_text(row, "checked_at", where),
        note=_text(row, "note", where),
    )


def _text(row: Mapping[str, Any], name: str, where: str) -> str | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise InputError(f"{where}: {name} is no text of at most {_MAX_TEXT} characters")
    return value.encode("utf-8", "replace").decode("utf-8")


def _number(row: Mapping[str, Any], name: str, limit: float, where: str) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        number = float(value) if isinstance(value, (int, float, str)) else float("nan")
    except (ValueError, OverflowError):
        number = float("nan")
    if not isfinite(number) or abs(number) > limit:
        raise InputError(f"{where}: {name} is {str(value)[:40]!a}; expected a number to {limit:g}")
    return number


def apply_reviews(
    records: Sequence[BuildingRecord], reviews: Sequence[Review], enu: EnuFrame | None
) -> tuple[tuple[BuildingRecord, ...], list[str]]:
    """Give each review to the building that it was of.

    With a place that is the nearest building within both CE90 together; without one, that which
    the same video shows at that moment. Of several reviews of one building the latest counts.

    Args:
        records: of the buildings of the new map.
        reviews: of an earlier one.
        enu: plane of the places; None: nothing has one.

    Returns:
        The records with what was said of them, and the reviews that fit none, a line each.
    """
    found: dict[int, Review] = {}
    lost = []
    places = _places(records, enu)
    for review in sorted(reviews, key=lambda r: r.checked_at or ""):
        index = _place_index(review, records, places, enu)
        if index is None:
            said = "checked"
            if review.note:
                said = f'"{printable(" ".join(review.note[:80].split()))}"'
            lost.append(f"the review of {review.id} ({said}) fits no building of this map")
        else:
            found[index] = review
    reviewed = tuple(
        replace(
            record,
            checked=found[k].checked,
            checked_by=found[k].checked_by,
            checked_at=found[k].checked_at,
            note=found[k].note,
        )
        if k in found
        else record
        for k, record in enumerate(records)
    )
    return reviewed, lost


def _places(records: Sequence[BuildingRecord], enu: EnuFrame | None) -> np.ndarray:
    """Metres east and north (N, 2) of the records; NaN without a place."""
    places = np.full((len(records), 2), np.nan)
    placed = [k for k, r in enumerate(records) if r.latitude is not None]
    if placed and enu is not None:
        places[placed] = enu.to_xy([(records[k].latitude, records[k].longitude) for k in placed])
    return places


def _place_index(
    review: Review, records: Sequence[BuildingRecord], places: np.ndarray, enu: EnuFrame | None
) -> int | None:
    """Which building a review is of."""
    if review.latitude is not None and review.longitude is not None and enu is not None:
        here = enu.to_xy([(review.latitude, review.longitude)])
        apart = np.linalg.norm(places - here, axis=1)
        if np.isfinite(apart).any():
            nearest = int(np.nanargmin(apart))
            reach = (review.ce90_m or 0.0) + (records[nearest].ce90_m or 0.0)
            return nearest if apart[nearest] <= max(reach, _MIN_REACH_M) else None
    if review.best_video is None or review.best_time_s is None:
        return None
    for k, record in enumerate(records):
        seen = record.first_video == record.last_video == review.best_video
        if seen and record.first_time_s <= review.best_time_s <= record.last_time_s:
            return k
    return None
