"""Single faults of a log or a clip, each tried as an explanation of the picture's motion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from msnet_d2.damage_map.alignment.motion_model import Corrections, MotionModel, fit
from msnet_d2.damage_map.telemetry.telemetry import Telemetry

_RATES = (0.125, 0.2, 0.25, 1 / 3, 0.4, 0.5, 0.6, 0.75, 1.25, 1.5, 2.0, 3.0, 4.0, 8.0)
# A correction below these is none, and beyond the bounds no drone or lens has it.
_LEAST = {"shift_s": 0.3, "rate": 0.03, "yaw": 3.0, "pitch": 1.5, "height": 0.04, "zoom": 0.04}
_MOST = {"pitch": 85.0}
# So many seeds of a search go on to a fit.
_SEEDS = 3
_SAME_S = 1.0
_WORSE = 1.0


@dataclass(frozen=True)
class Cause:
    """A kind of fault.

    Attributes:
        free: the parameters that it frees.
        kept: those that are applied to poses when it is mended.
        answers: guesses of a log that it settles.
    """

    free: tuple[str, ...]
    kept: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


CAUSES = {
    "offset": Cause(("shift_s",), answers=("time",)),
    "rate": Cause(("rate", "shift_s"), answers=("time",)),
    "yaw": Cause(("yaw",), ("yaw",), ("yaw",)),
    "pitch": Cause(("pitch",), ("pitch",), ("pitch",)),
    "height": Cause(("height",), ("height",), ("altitude",)),
    "zoom": Cause(("zoom",), ("zoom",)),
}


@dataclass(frozen=True)
class Explanation:
    """A cause with the corrections that would remove it.

    Attributes:
        name: of the cause.
        score: mean misfit that is left.
        corrections: all that were fitted.
        sigma: standard deviation of each.
        text: the cause and the option that mends it.
        spread_s: how far apart (seconds) the moments are that explain it alike.
    """

    name: str
    score: float
    corrections: Corrections
    sigma: dict[str, float]
    text: str
    spread_s: float = 0.0


def explain(
    model: MotionModel, start: Corrections, priors: dict[str, float], telemetry: Telemetry
) -> list[Explanation]:
    """Try each cause by itself; the others keep to the log's usual noise.

    Args:
        model: the measured motion.
        start: moment of the log that is taken as right, but for the causes of time.
        priors: standard deviations of the usual noise.
        telemetry: for the words.
    """
    found = []
    for name, cause in CAUSES.items():
        seeds = [(model.score(c), i, c) for i, c in enumerate(_grid(name, model, start))]
        seeds.sort()
        best: list[tuple[float, Corrections, dict[str, float]]] = []
        for _, _, seed in seeds[:_SEEDS]:
            free = [n for n in ("yaw", "pitch", "height", "zoom") if n in priors or n in cause.free]
            free += [n for n in cause.free if n not in free]
            held = {n: s for n, s in priors.items() if n not in cause.free}
            c, sigma = fit(model, seed, free, held, anchor=start)
            best.append((model.score(c) + unusual_by(c, start, held), c, sigma))
        score, c, sigma = min(best, key=lambda b: b[0])
        if not _is_one(cause, c, start):
            continue
        spread = 0.0
        if "shift_s" in cause.free:
            near = [s.shift_s for value, _, s in seeds if value < score + _WORSE]
            near += [b[1].shift_s for b in best if b[0] < score + _WORSE]
            spread = float(np.ptp(near)) if near else 0.0
        found.append(Explanation(name, score, c, sigma, _text(name, c, telemetry, model), spread))
    return found


def unusual_by(c: Corrections, anchor: Corrections, priors: dict[str, float]) -> float:
    """Penalty of corrections that are larger than the usual error; 0 for usual ones."""
    off = [abs(getattr(c, n) - getattr(anchor, n)) / s for n, s in priors.items()]
    return float(sum(0.5 * max(0.0, z - 1.5) ** 2 for z in off))


def _is_one(cause: Cause, c: Corrections, start: Corrections) -> bool:
    """Whether the correction of a cause is one, and possible."""
    name = cause.free[0]
    value = getattr(c, name) - getattr(start, name)
    value = np.log(max(c.rate, 1e-3)) if name == "rate" else value
    return _LEAST[name] < abs(value) < _MOST.get(name, np.inf)


def _grid(name: str, model: MotionModel, start: Corrections) -> Iterable[Corrections]:
    begin, end = model.track.span
    length = float(model.t1.max())
    if name == "offset":
        low, high = begin - length / 2, end - length / 2
        steps = int(np.clip((high - low) / 0.25, 8, 240))
        return [replace(start, shift_s=float(s)) for s in np.linspace(low, high, steps)]
    if name == "rate":
        rates = {*_RATES, (end - begin) / max(length, 1e-3)}
        found = []
        for rate in sorted(rates):
            if not 0.05 < rate < 20:
                continue
            spare = end - begin - rate * length
            shifts = np.linspace(begin + min(spare, 0), begin + max(spare, 0), 16)
            found += [replace(start, rate=float(rate), shift_s=float(s)) for s in shifts]
        return found
    if name == "yaw":
        return [replace(start, yaw=float(a)) for a in range(-180, 180, 6)]
    if name == "pitch":
        return [replace(start, pitch=float(a)) for a in range(-80, 84, 4)]
    if name == "height":
        return [replace(start, height=float(v)) for v in np.arange(-2.4, 2.5, 0.1)]
    return [replace(start, zoom=float(v)) for v in np.arange(-1.6, 1.7, 0.1)]


def _text(name: str, c: Corrections, telemetry: Telemetry, model: MotionModel) -> str:
    """The cause in words, with its figure and the option."""
    shift = (telemetry.sync.shift_s if telemetry.sync else 0.0) + c.shift_s
    if name == "offset":
        return (
            f"the video begins at {shift:.1f} s of the log (`telemetry_offset` {shift:.1f}; a clip "
            "that was cut, or a clock)"
        )
    if name == "rate":
        how = "slowed down" if c.rate < 1 else "sped up"
        return (
            f"the clip was {how} to {1 / c.rate:.2g} times its length and begins at {shift:.1f} s "
            "of the log (map the original video)"
        )
    if name == "yaw":
        return f"the camera's yaw is {c.yaw:+.0f} degrees off (a compass, or a yaw from the nose)"
    if name == "pitch":
        return f"the camera's pitch is {c.pitch:+.0f} degrees off"
    if name == "height":
        position, _, _, ground = model.track.at(np.clip(model.t0 + c.shift_s, *model.track.span))
        height = float(np.median(position[:, 2] - ground))
        return (
            f"the camera is {height * np.exp(c.height):.0f} m above the ground in view, and not "
            f"{height:.0f} m (a height in another unit, or ground that is not at take-off height: "
            "`elevation`)"
        )
    return f"the picture is zoomed by {np.exp(c.zoom):.2f} against the log's focal length (`hfov`)"
