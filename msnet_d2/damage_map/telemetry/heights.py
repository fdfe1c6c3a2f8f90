"""Which of a log's heights are above take-off and which above sea level."""

from __future__ import annotations

import numpy as np

# No drone that films buildings is flown this far above its take-off point; higher figures are
# above sea level. DJI's own ceiling is 500 m.
MAX_HEIGHT_M = 600.0
# Two heights whose difference varies less than this are the same height over two datums.
_SAME_M = 3.0
# A log that comes this near to zero, and rises well above, counts from take-off.
_NEAR_ZERO_M = 5.0
_RISEN_M = 15.0

ALTITUDE_GUESS = (
    "the only altitude in the log, {}, is taken as above take-off; `takeoff_altitude` says what "
    "it shows on the ground if it is above sea level"
)


def _median(values: np.ndarray) -> float:
    return float(np.median(values[np.isfinite(values)])) if np.isfinite(values).any() else np.nan


def _differ_constantly(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two heights run side by side, though they are not the same."""
    gap = (a - b)[np.isfinite(a - b)]
    return gap.size > 0 and float(np.std(gap)) < _SAME_M and abs(float(np.median(gap))) > 1.0


def choose_heights(
    candidates: dict[str, list[tuple[str, np.ndarray]]],
    size: int,
    notes: list[str],
    given: bool = False,
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Heights above take-off and above sea level (N,) each, and what was guessed.

    Args:
        candidates: title and values of columns by what their names say: "alt", "abs_alt",
            "either". The likeliest first.
        size: N.
        notes: lines are added to it.
        given: whether a person named the columns; then nothing is judged.
    """
    none = np.full(size, np.nan)
    known = {
        kind: [(t, v) for t, v in pairs if np.isfinite(v).any()]
        for kind, pairs in candidates.items()
    }
    relative, absolute, either = known["alt"], known["abs_alt"], known["either"]
    if either:
        # "ascent" is a height in one program and a rate in another: a constant is no height
        # beside one that varies.
        moving = float(np.nanstd(either[0][1])) > 0.1
        relative = [(t, v) for t, v in relative if not moving or float(np.nanstd(v)) > 0.05]
    guesses: dict[str, str] = {}
    alt = relative[0][1] if relative else none
    abs_alt = absolute[0][1] if absolute else none
    if either and not relative:
        title, values = either[0]
        if absolute and not _differ_constantly(values, abs_alt):
            pass  # the same height twice
        elif _median(values) > MAX_HEIGHT_M:
            abs_alt = values if not absolute else abs_alt
            notes.append(f"{title} is above sea level: no drone flies {_median(values):.0f} m high")
        else:
            alt = values
            from_zero = np.nanmin(values) < _NEAR_ZERO_M and np.nanmax(values) > _RISEN_M
            if not absolute and not from_zero and not given:
                guesses["altitude"] = ALTITUDE_GUESS.format(title)
    elif either and relative and not absolute and _differ_constantly(either[0][1], alt):
        abs_alt = either[0][1]
    if not given and _median(alt) > MAX_HEIGHT_M:
        title = relative[0][0] if relative else either[0][0]
        notes.append(f"{title} is above sea level: no drone flies {_median(alt):.0f} m high")
        alt, abs_alt = none, abs_alt if np.isfinite(abs_alt).any() else alt
    alt = _agree_in_units(alt, abs_alt, notes)
    return alt, abs_alt, guesses


def _agree_in_units(alt: np.ndarray, abs_alt: np.ndarray, notes: list[str]) -> np.ndarray:
    """Bring heights above take-off to metres if those above sea level show that they are feet."""
    both = np.isfinite(alt) & np.isfinite(abs_alt)
    if both.sum() < 10 or np.std(abs_alt[both]) < 1.0 or np.std(alt[both]) < 1.0:
        return alt
    slope, _ = np.polyfit(abs_alt[both], alt[both], 1)
    if abs(slope - 1 / 0.3048) < 0.15:
        notes.append("the height above take-off changes 3.28 times as fast as that above sea level")
        return alt * 0.3048
    return alt
