"""Flight logs in CSV: AirData, Litchi, Flight Reader, Flytrex, open-dronelog, QGroundControl, PX4
(ulog2csv), OpenTX and others by their headers, any other table by a mapping of columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping

import numpy as np

from msnet_d2.damage_map.telemetry.csv_columns import (
    FIELDS,
    altitude_columns,
    find_columns,
    read_title,
    scale_of,
    titles_text,
)
from msnet_d2.damage_map.telemetry.csv_time import RowTimes
from msnet_d2.damage_map.telemetry.flight_log import COLUMNS, FlightLog
from msnet_d2.damage_map.telemetry.heights import choose_heights
from msnet_d2.damage_map.telemetry.log_text import MAX_RECORDS, check_count
from msnet_d2.damage_map.telemetry.values import (
    ANGLES,
    LENGTHS,
    decimals,
    parse_measure,
    parse_number,
    parse_place,
)
from msnet_d2.errors import InputError

__all__ = ["FIELDS", "parse_columns", "parse_flight_csv"]

# Logs of DatCon have some 300 columns; a cell takes 60 bytes of memory.
MAX_COLUMNS = 5000
MAX_CELLS = 10_000_000
_TRUE = {"1", "1.0", "true", "yes", "recording", "starting", "on"}
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
# Integers this large are degrees times ten million, as satellite receivers write them.
_E7_DEG = 1000.0


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


class _Table:
    """Header and cells of a file."""

    def __init__(self, text: str, source: str) -> None:
        lines = text.lstrip("\ufeff")
        if lines[:4].lower() == "sep=":
            lines = lines.partition("\n")[2]
        first = lines.lstrip("\r\n").partition("\n")[0]
        self.source = source
        self.delimiter = max(",;\t", key=first.count)
        check_count(lines.count("\n") + lines.count("\r"), 2 * MAX_RECORDS, "lines", source)
        check_count(lines.count(self.delimiter), MAX_CELLS, "cells", source)
        try:
            reader = csv.reader(io.StringIO(lines), delimiter=self.delimiter)
            rows = [row for row in reader if any(row)]
        except csv.Error as error:
            raise InputError(
                f"{source}: not a table of comma-separated values ({error})"
            ) from error
        if len(rows) < 2:
            raise InputError(f"{source}: no row below the header; is it a flight log in CSV?")
        self.header, self.rows = rows[0], rows[1:]
        check_count(len(self.header), MAX_COLUMNS, "columns", source)

    def cells(self, column: int) -> list[str]:
        return [row[column].strip() if column < len(row) else "" for row in self.rows]

    def has_thousands(self, cells: list[str]) -> bool:
        """Whether the commas in a column stand between thousands, as in "250,000"."""
        with_comma = [c for c in cells if "," in c]
        grouped = all(_THOUSANDS.fullmatch(c) for c in with_comma)
        return self.delimiter == "," and bool(with_comma) and grouped

    def numbers(self, field: str, column: int) -> np.ndarray:
        """Values (N,) of a column in metres or degrees; NaN where a cell is empty.

        Raises:
            InputError: if most of its cells are something else than values of this kind.
        """
        cells = self.cells(column)
        if field in ("lat", "lon"):
            values = np.array([parse_place(c, field) for c in cells])
        else:
            units = LENGTHS if field.endswith("alt") else {} if field == "zoom" else ANGLES
            units = {"mm": 1.0} if field == "focal_mm" else units
            thousands = self.has_thousands(cells)
            values = np.array([parse_measure(c, units, thousands=thousands) for c in cells])
        self.check(column, cells, np.isfinite(values))
        return values * scale_of(field, self.header[column], self.source)

    def check(self, column: int, cells: list[str], understood: np.ndarray) -> None:
        """Refuse a column most of whose cells are not understood, and show one of them."""
        empty = ("", "nan", "n/a", "na", "null", "none", "-", "inf", "-inf")
        filled = [c.lower() not in empty for c in cells]
        bad = [c for c, f, u in zip(cells, filled, understood) if f and not u]
        if bad and len(bad) > sum(filled) / 2 and len(bad) > 1:
            raise InputError(
                f"{self.source}: column {titles_text([self.header[column]])!r} holds values that "
                f"are not understood, such as {titles_text(bad[:1])!r}; expected whole numbers "
                "with one unit"
            )


def parse_flight_csv(text: str, source: str, columns: Mapping[str, str] | None = None) -> FlightLog:
    """Read a flight log in CSV (comma, semicolon or tab; decimal point or comma).

    Args:
        text: the whole file.
        source: its name, for messages.
        columns: field (see :data:`FIELDS`) to header, where the header is not known. Units come
            from the header, ``(feet)``, ``[ft]``, ``_ft``, or from the cells, ``50.1 m``.

    Raises:
        InputError: if columns are missing or not understood, or no row has a position and a time.
    """
    table = _Table(text, source)
    mapping = dict(columns or {})
    found = find_columns(table.header, mapping, source)
    notes: list[str] = []
    values = {
        name: table.numbers(name, i)
        for name, i in found.items()
        if name not in ("time", "datetime", "date", "recording", "pair")
    }
    digits = _positions(table, found, values, notes)
    given = {name for name in ("alt", "abs_alt") if name in mapping}
    guesses = _heights(table, values, given, notes)
    if "recording" in found:
        cells = table.cells(found["recording"])
        values["recording"] = np.array([float(c.lower() in _TRUE) for c in cells])
    times = _times(table, found)
    keep = np.isfinite(values["lat"]) & np.isfinite(values["lon"]) & times.known()
    if not keep.any():
        used = ("time", "datetime", "date", "lat", "lon", "pair")
        cells = [(table.header[i], table.rows[0][i : i + 1]) for n, i in found.items() if n in used]
        seen = titles_text([f"{title} {cell}" for title, cell in cells])
        raise InputError(
            f"{source}: none of its {len(keep)} rows has a position and a time that are "
            f"understood; the first has {seen}"
        )
    seconds, start = times.finish(keep)
    if bad := int((~keep).sum()):
        notes.append(f"{bad} of {len(keep)} rows have no position or no time")
    empty = np.full(int(keep.sum()), np.nan)
    data = {name: values[name][keep] if name in values else empty.copy() for name in COLUMNS}
    data["time_s"] = seconds
    return FlightLog(
        data,
        dialect="csv",
        source=source,
        time_is_video=False,
        clock_start=start,
        position_decimals=digits,
        notes=[*notes, *times.notes],
        guesses=guesses,
    )


def _positions(table: _Table, found: dict, values: dict, notes: list[str]) -> int:
    """Set "lat" and "lon" of ``values``; returns the digits behind their decimal point."""
    if "pair" in found and not {"lat", "lon"} <= found.keys():
        cells = table.cells(found["pair"])
        pairs = [re.split(r"[,;]\s*|\s+", c) if c else ["", ""] for c in cells]
        numbers = [[parse_number(p) for p in pair] if len(pair) == 2 else [np.nan] * 2
                   for pair in pairs]  # fmt: skip
        values["lat"], values["lon"] = np.array(numbers, dtype=float).reshape(-1, 2).T
        table.check(found["pair"], cells, np.isfinite(values["lat"]))
        return max((decimals(pair[0]) for pair in pairs), default=0)
    lat, lon = values["lat"], values["lon"]
    finite = np.isfinite(lat) & np.isfinite(lon)
    both = np.concatenate([lat[finite], lon[finite]])
    whole = both.size and (both == np.round(both)).all()
    if whole and np.abs(both).max() > _E7_DEG and np.abs(both).max() <= 1.8e9:
        values["lat"], values["lon"] = lat * 1e-7, lon * 1e-7
        notes.append("whole numbers as positions are taken as degrees times 10,000,000")
        return 7
    cells = table.cells(found["lat"])[:2000]
    places = max((decimals(c) for c in cells), default=0)
    if any(re.search(r"\d\s*(?:°|º|deg(?:rees?)?|d|:|\s)\s*\d", c) for c in cells[:5]):
        # A second is 1/3600 of a degree: three and a half digits.
        places += 4 if re.search(r"\d\D+\d+\D+\d", cells[0]) else 2
    return places


def _heights(table: _Table, values: dict, given: set[str], notes: list[str]) -> dict[str, str]:
    """Set "alt" and "abs_alt" of ``values``; returns what was guessed."""
    kinds = altitude_columns(table.header)
    if given:
        kinds = {kind: [] if kind in given or kind == "either" else c for kind, c in kinds.items()}
    candidates = {
        kind: [(table.header[i], table.numbers("alt", i)) for i in columns]
        for kind, columns in kinds.items()
    }
    for name in given:
        candidates[name] = [(name, values[name])]
    if any("10,000,000" in note for note in notes):
        # Receivers that write positions as whole numbers write heights in millimetres.
        for pairs in candidates.values():
            for i, (title, heights) in enumerate(pairs):
                if not read_title(title).unit and np.nanmax(np.abs(heights), initial=0) > 5000:
                    pairs[i] = (title, heights / 1000)
    values["alt"], values["abs_alt"], guesses = choose_heights(
        candidates, len(table.rows), notes, bool(given)
    )
    return guesses


def _times(table: _Table, found: dict[str, int]) -> RowTimes:
    cells = {n: table.cells(found[n]) for n in ("time", "datetime", "date") if n in found}
    unit = read_title(table.header[found["time"]]).unit if "time" in found else ""
    titles = " ".join(table.header[i].lower() for n, i in found.items() if n in cells)
    thousands = "time" in cells and table.has_thousands(cells["time"])
    return RowTimes(cells, unit, "utc" in titles, thousands)
