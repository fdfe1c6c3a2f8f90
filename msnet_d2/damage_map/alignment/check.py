"""Compare a flight's log with its video, name what does not fit, and mend it where that is sure.

The check fits constant corrections to the picture's motion about the log as it stands. Where the
log's own noise explains the motion, log and picture agree. Else each cause is tried by itself:
another moment of the log, a slowed clip, another yaw, pitch, height or zoom. A cause is sure if it
explains the motion and no other does.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np

from msnet_d2.damage_map.alignment.causes import CAUSES, Explanation, explain, unusual_by
from msnet_d2.damage_map.alignment.motion_model import (
    Corrections,
    MotionModel,
    fit,
    track_of,
)
from msnet_d2.damage_map.alignment.picture_motion import PairMotion
from msnet_d2.damage_map.alignment.variants import Variant, variants_of
from msnet_d2.damage_map.geometry.camera import Camera
from msnet_d2.damage_map.telemetry.telemetry import Telemetry

# Mean misfit up to which log and picture agree. Right logs of rendered flights have 0.1 to 0.5; a
# second of offset 7, five degrees of yaw 3, a tenth of height 3.
AGREE = 1.5
# A fitted correction of more than this many standard deviations of its usual error is no noise.
USUAL_SIGMAS = 2.5
# The second best explanation has to be this much worse than the best for that to be sure.
CLEARLY_WORSE = 1.0
# How far a camera that looks along the course strays from it.
COURSE_YAW_DEG = 5.0
# Fewer pairs than this say nothing.
LEAST_PAIRS = 5
# A fitted parameter is known if its standard deviation is below this.
_KNOWN = {"yaw": 6.0, "pitch": 3.0, "height": 0.12, "zoom": 0.1}
# Standard deviations from least squares regard every pair as independent, which they are not.
_SPREAD = 2.0
# Two moments of a log this near to each other are one.
_SAME_MOMENT_S = 1.0


@dataclass
class Verdict:
    """What came of a check.

    Attributes:
        telemetry: the log as it is to be used.
        corrections: to be applied to its poses; shift and rate are in ``telemetry`` already.
        sigma: standard deviation of each correction that was adopted.
        hfov_deg: field of view that was found, None if the log's is used.
        time_s: standard deviation of the time between log and picture, beyond the log's own.
        verified: whether log and picture were found to agree, as they stand or mended.
        notes: what to know, a line each.
        doubts: why places may be wrong, a line each.
        guesses: of the log's, those that are still open while it is judged.
    """

    telemetry: Telemetry
    corrections: Corrections = field(default_factory=Corrections)
    sigma: dict[str, float] = field(default_factory=dict)
    hfov_deg: float | None = None
    time_s: float = 0.0
    verified: bool = False
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    guesses: dict[str, str] = field(default_factory=dict)


def judge(
    telemetry: Telemetry,
    pairs: list[PairMotion],
    *,
    size: tuple[float, float],
    camera_of: Callable[[object, float | None], Camera | None],
    terrain=None,
    mend: bool = True,
) -> Verdict:
    """Compare a log on the video's time with the motion of the video.

    Args:
        telemetry: the log.
        pairs: what :func:`.measure_motion` found.
        size: width and height of the frames, upright.
        camera_of: (sample, field of view to use where nothing is known) to camera or None.
        terrain: the ground; flat at take-off if None.
        mend: whether to adopt what is sure; else all that does not fit is a doubt.
    """
    if len(pairs) < LEAST_PAIRS:
        return _unknown(telemetry, "the picture has too little texture to follow its motion")
    readings = _readings(telemetry, pairs, camera_of, terrain)
    if not any(r.agrees for r in readings) and np.isnan(telemetry.columns["alt"]).all():
        readings = _readings(telemetry, pairs, camera_of, terrain, open_height=True)
    if not readings:
        return _unknown(telemetry, "the log lacks what is needed to predict the picture's motion")
    best = readings[0]
    rivals = [r for r in readings[1:] if r.score < max(AGREE, best.score + CLEARLY_WORSE)]
    if best.agrees and not rivals:
        return _settle(telemetry, best, mend)
    if best.agrees:
        return _unknown(telemetry, "several readings of the log fit the picture's motion")
    if best.variant.text:
        return _unknown(telemetry, "the picture's motion does not tell what the log leaves out")
    return _mend(telemetry, best, mend)


def _readings(telemetry, pairs, camera_of, terrain, open_height: bool = False) -> list[_Reading]:
    """Readings of a log that predict any motion, the one that fits best first."""
    sample = telemetry.at(pairs[len(pairs) // 2].t0)
    has_camera = camera_of(sample, None) is not None
    found = [
        _Reading.make(variant, pairs, camera_of, terrain)
        for variant in variants_of(telemetry, has_camera=has_camera, open_height=open_height)
    ]
    return sorted((r for r in found if r is not None), key=lambda r: r.score)


class _Reading:
    """A variant of a log, and how it fits the motion."""

    def __init__(self, variant: Variant, model: MotionModel) -> None:
        self.variant, self.model = variant, model
        self.moments = _moments(variant.telemetry)
        self.usual = _usual_errors(variant.telemetry)
        # What this variant leaves open is fitted with a wide prior, and is no sign of a fault.
        self.priors = {**self.usual, **variant.open_to}
        # The motion of a log with four decimals is known to a quarter, not to a twentieth.
        self.slack = 1 + min(variant.telemetry.step_m, 3.0) / 4
        self.start = Corrections()
        self.other_moments: list[float] = []
        if self.moments is not None:
            self._choose_moment()
        self.corrections, self.sigma = min(
            (self._fit(seed) for seed in self._seeds()), key=lambda found: self._score(found[0])
        )
        self.score = self._score(self.corrections)

    @classmethod
    def make(cls, variant, pairs, camera_of, terrain) -> _Reading | None:
        def camera(sample):
            return camera_of(sample, variant.hfov_deg)

        track = track_of(variant.telemetry, camera, terrain, variant.telemetry.step_m)
        if track is None:
            return None
        middle = variant.telemetry.at(float(np.mean(track.span)))
        lens = camera(middle)
        return None if lens is None else cls(variant, MotionModel(pairs, track, lens))

    def _seeds(self) -> list[Corrections]:
        """Where fits begin: several angles where the log has none."""
        seeds = [self.start]
        for name, values in (("pitch", (-30.0, 20.0, 38.0)), ("yaw", (-40.0, 40.0))):
            if self.variant.open_to.get(name, 0.0) > 20:
                seeds += [replace(s, **{name: v}) for s in list(seeds) for v in values]
        return seeds

    def _score(self, c: Corrections) -> float:
        return self.model.score(c) + unusual_by(c, Corrections(), self._held())

    def _held(self) -> dict[str, float]:
        names = [n for n in ("yaw", "pitch", "height", "zoom") if n not in self.variant.open_to]
        return {n: self.usual[n] for n in names}

    def _fit(self, start: Corrections):
        free = ["yaw", "pitch", "height", "zoom"]
        priors = dict(self.priors)
        if start.rate == 1:
            free.append("shift_s")
            priors["shift_s"] = self.usual["shift_s"]
        anchor = Corrections(shift_s=self.start.shift_s)
        return fit(self.model, start, free, priors, anchor=anchor)

    def _choose_moment(self) -> None:
        """Start at the best moment that log and file allow; remember others that fit as well."""
        fits = []
        for shift in self.moments:
            fits.append((self.model.score(Corrections(shift_s=float(shift))), float(shift)))
        fits.sort()
        seeds: list[float] = []
        for _, shift in fits:
            if all(abs(shift - s) > _SAME_MOMENT_S for s in seeds):
                seeds.append(shift)
            if len(seeds) == 4:
                break
        found = []
        for shift in seeds:
            self.start = Corrections(shift_s=shift)
            c, _ = self._fit(self.start)
            found.append((self.model.score(c), c.shift_s))
        score, self_shift = min(found)
        self.start = Corrections(shift_s=self_shift)
        near = score + CLEARLY_WORSE
        self.other_moments = [shift for value, shift in fits if value < near]
        self.other_moments += [shift for value, shift in found if value < near]

    @property
    def unusual(self) -> list[str]:
        """Names of corrections that the log's own noise does not explain."""
        limit = USUAL_SIGMAS * self.slack
        late = abs(self.corrections.shift_s - self.start.shift_s)
        found = ["shift_s"] if late > limit * self.usual["shift_s"] else []
        return found + [
            name
            for name in ("yaw", "pitch", "height", "zoom")
            if name not in self.variant.open_to
            and abs(getattr(self.corrections, name)) > limit * self.usual[name]
        ]

    @property
    def agrees(self) -> bool:
        """Whether log and picture agree, and what was open is known."""
        known = all(
            self.sigma[n] * _SPREAD < _KNOWN[n] for n in self.variant.open_to if n in _KNOWN
        )
        passes = self.model.score(self.corrections) < AGREE * self.variant.loose * self.slack
        return passes and not self.unusual and known

    def with_offsets(self, c: Corrections) -> _Reading:
        """The same reading with other offsets of poses, and the moments that fit with them."""
        other = copy(self)
        other.corrections = replace(c, rate=1.0)
        scores = [self.model.score(replace(c, shift_s=float(s))) for s in self.moments]
        near = self.model.score(c) + CLEARLY_WORSE
        other.other_moments = [float(s) for s, v in zip(self.moments, scores) if v < near]
        return other

    @property
    def moment_spread(self) -> float:
        """How far apart (seconds) the moments are that fit as well as the best one."""
        return float(np.ptp(self.other_moments)) if self.other_moments else 0.0


def _moments(telemetry: Telemetry) -> np.ndarray | None:
    """Shifts (N,) relative to the chosen one that log and file leave open; None if none."""
    sync = telemetry.sync
    if sync is None or not sync.windows:
        return None
    parts = []
    for low, high in sync.windows:
        steps = int(np.clip((high - low) / 0.25, 1, 200)) + 1
        parts.append(np.linspace(low, high, steps) - sync.shift_s)
    return np.unique(np.concatenate([[0.0], *parts]))


def _usual_errors(telemetry: Telemetry) -> dict[str, float]:
    """Standard deviation of each correction that the log's noise explains."""
    noise = telemetry.noise
    alt = telemetry.columns["alt"]
    height = max(float(np.nanmedian(alt)) if np.isfinite(alt).any() else 50.0, 10.0)
    return {
        "yaw": noise.yaw_deg,
        "pitch": max(noise.pitch_deg, 1.0),
        "height": max(float(np.hypot(noise.altitude_m, noise.ground_m)) / height, 0.03),
        "zoom": max(noise.focal_share, 0.03),
        "shift_s": max(noise.time_s, 0.3),
    }


def _unknown(telemetry: Telemetry, why: str) -> Verdict:
    """Nothing could be compared: what the log leaves open stays open."""
    return Verdict(
        telemetry,
        notes=[f"log and picture were not compared: {why}"],
        doubts=list(telemetry.guesses.values()),
        time_s=_open_time(telemetry),
    )


def _open_time(telemetry: Telemetry) -> float:
    """Standard deviation (s) of the moments that log and file leave open."""
    sync = telemetry.sync
    if sync is None or not sync.windows:
        return 0.0
    ends = np.array(sync.windows).ravel()
    return float(np.abs(ends - sync.shift_s).max()) / 3**0.5


def _settle(telemetry: Telemetry, best: _Reading, mend: bool) -> Verdict:
    """Log and picture agree in this reading of the log."""
    variant, c = best.variant, best.corrections
    verdict = Verdict(variant.telemetry, verified=True, hfov_deg=variant.hfov_deg)
    open_guesses = dict(telemetry.guesses)
    # Units of positions and speeds are not what the comparison shows; heights and angles are.
    for name in ("altitude", *variant.answers):
        open_guesses.pop(name, None)
    if variant.text:
        height = float(np.nanmedian(variant.telemetry.columns["alt"])) * float(np.exp(c.height))
        said = variant.text.format(
            height=f"{height:.0f}",
            yaw=f"{c.yaw:+.0f} degrees",
            pitch=f"{np.nanmedian(variant.telemetry.columns['pitch']) + c.pitch:.0f} degrees",
            zoom=f"{_zoomed(variant.hfov_deg, c.zoom):.0f} degrees wide",
        )
        verdict.notes.append(f"by the picture's motion {said}")
        if not mend:
            verdict.doubts.append(f"{said}, by the picture's motion; `align` auto uses it")
    kept = {n: getattr(c, n) for n in variant.open_to if n in _KNOWN}
    verdict.corrections = Corrections(**kept)
    verdict.sigma = {n: best.sigma[n] * _SPREAD * variant.loose**2 for n in kept}
    if variant.loose > 1 and "yaw" in kept:
        verdict.sigma["yaw"] = max(verdict.sigma["yaw"], COURSE_YAW_DEG)
    _settle_time(verdict, telemetry, best, open_guesses)
    verdict.doubts += list(open_guesses.values())
    return verdict


def _zoomed(hfov_deg: float | None, zoom: float) -> float:
    half = np.tan(np.radians((hfov_deg or 70.0) / 2)) / np.exp(zoom)
    return float(np.degrees(2 * np.arctan(half)))


def _settle_time(verdict: Verdict, telemetry: Telemetry, best: _Reading, guesses: dict) -> None:
    """Adopt the moment that fits, or say that several do."""
    sync = telemetry.sync
    if best.moments is None or sync is None:
        return
    shift = best.corrections.shift_s
    if best.moment_spread > 2 * _SAME_MOMENT_S:
        verdict.time_s = best.moment_spread / 3**0.5
        guesses.setdefault(
            "time",
            f"{best.moment_spread:.0f} s of the log fit the picture's motion alike: "
            "`telemetry_offset` names the log's time at the first frame",
        )
        return
    guesses.pop("time", None)
    if abs(shift) > 0.3:
        verdict.telemetry = verdict.telemetry.moved(shift)
        verdict.notes.append(
            f"the video begins at {sync.shift_s + shift:.1f} s of the log, by the picture's motion"
        )
    verdict.time_s = max(0.1, best.moment_spread / 4)


def _mend(telemetry: Telemetry, best: _Reading, mend: bool) -> Verdict:
    """Log and picture disagree: find the cause, and remove it if that is sure."""
    verdict = Verdict(telemetry, hfov_deg=best.variant.hfov_deg)
    found = explain(best.model, best.start, best.priors, telemetry)
    found.sort(key=lambda e: e.score)
    if not found or found[0].score > AGREE:
        likely = f"; nearest is {found[0].text}" if found and found[0].score < 6 * AGREE else ""
        verdict.doubts.append(
            f"the picture does not move as the log says, and no single cause explains it{likely}. "
            "Is it the log of another flight?"
        )
        return _with_guesses(verdict, telemetry)
    first = found[0]
    rivals = [e for e in found[1:] if e.score < first.score + CLEARLY_WORSE]
    doubtful_moment = first.name in ("offset", "rate") and first.spread_s > 2 * _SAME_MOMENT_S
    if first.name == "rate":
        begin, end = best.model.track.span
        doubtful_moment |= (
            abs((end - begin) / (first.corrections.rate * best.model.t1.max()) - 1) > 0.1
        )
    if rivals or doubtful_moment or not mend:
        causes = " or ".join(dict.fromkeys(e.text for e in (first, *rivals[:2])))
        verdict.doubts.append(
            f"the picture does not move as the log says: {causes} would explain it"
        )
        return _with_guesses(verdict, telemetry)
    _adopt(verdict, telemetry, first)
    if "time" not in CAUSES[first.name].answers and best.moments is not None:
        _settle_time(verdict, telemetry, best.with_offsets(first.corrections), verdict.guesses)
    verdict.doubts += list(verdict.guesses.values())
    return verdict


def _with_guesses(verdict: Verdict, telemetry: Telemetry) -> Verdict:
    verdict.doubts += list(telemetry.guesses.values())
    verdict.time_s = _open_time(telemetry)
    return verdict


def _adopt(verdict: Verdict, telemetry: Telemetry, cause: Explanation) -> None:
    """Use a correction that is sure."""
    c = cause.corrections
    verdict.verified = True
    if c.shift_s or c.rate != 1:
        verdict.telemetry = telemetry.moved(c.shift_s, c.rate)
    verdict.time_s = max(0.1, cause.spread_s / 4)
    kept = CAUSES[cause.name].kept
    verdict.corrections = Corrections(**{n: getattr(c, n) for n in kept})
    verdict.sigma = {n: cause.sigma[n] * _SPREAD for n in kept if n in cause.sigma}
    verdict.notes.append(f"mended by the picture's motion: {cause.text}")
    open_guesses = dict(telemetry.guesses)
    for name in CAUSES[cause.name].answers:
        open_guesses.pop(name, None)
    verdict.guesses = open_guesses


__all__ = ["Verdict", "judge"]
