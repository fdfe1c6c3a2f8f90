"""What a log may have meant, where it says it in two ways or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from msnet_d2.damage_map.telemetry.telemetry import NO_HEIGHT, Telemetry
from msnet_d2.utils import geodesy

# The usual lens of a drone, as an equivalent focal length; a start for a fit, no assumption.
USUAL_FOCAL_MM = 24.0
USUAL_PITCH_DEG = -50.0
USUAL_HEIGHT_M = 60.0


@dataclass(frozen=True)
class Variant:
    """A reading of a log.

    Attributes:
        telemetry: the log as it is read.
        hfov_deg: field of view, where the log has none.
        open_to: standard deviations of the parameters that this reading leaves open.
        answers: keys of the log's guesses that are settled if this reading is right.
        text: what to say if it is; "" for the log as it stands.
        loose: factor of the misfit that passes: a camera need not look along the course all the
            time.
    """

    telemetry: Telemetry
    hfov_deg: float | None = None
    open_to: dict[str, float] = field(default_factory=dict)
    answers: tuple[str, ...] = ()
    text: str = ""
    loose: float = 1.0


def variants_of(
    telemetry: Telemetry, *, has_camera: bool, open_height: bool = False
) -> list[Variant]:
    """The readings of a log, the plain one first.

    Args:
        telemetry: on the video's time.
        has_camera: whether a field of view is known.
        open_height: whether a height above take-off that the log lacks is left to the motion.
    """
    found = _altitudes(Variant(telemetry), open_height)
    found = [w for v in found for w in _pitches(v)]
    found = [w for v in found for w in _yaws(v)]
    if not has_camera:
        hfov = float(np.degrees(2 * np.arctan(18 / USUAL_FOCAL_MM)))
        found = [_more(v, hfov_deg=hfov, open_to={"zoom": 0.6}, text="the field of view is {zoom}")
                 for v in found]  # fmt: skip
    return found


def _more(
    variant: Variant, *, columns=None, text="", open_to=None, answers=(), **changes
) -> Variant:
    telemetry = variant.telemetry
    if columns:
        telemetry = replace(telemetry, columns={**telemetry.columns, **columns})
    return replace(
        variant,
        telemetry=telemetry,
        open_to={**variant.open_to, **(open_to or {})},
        answers=(*variant.answers, *answers),
        text="; ".join(t for t in (variant.text, text) if t),
        **changes,
    )


def _altitudes(variant: Variant, open_height: bool) -> list[Variant]:
    telemetry = variant.telemetry
    alt, above_sea = telemetry.columns["alt"], telemetry.columns["abs_alt"]
    if np.isfinite(alt).any():
        return [variant]
    if open_height:
        middle = np.nanmedian(above_sea) if np.isfinite(above_sea).any() else 0.0
        guess = np.where(np.isfinite(above_sea), above_sea - middle, 0.0) + USUAL_HEIGHT_M
        text = "the camera is {height} m above the ground in view"
        read = _more(variant, columns={"alt": guess}, open_to={"height": 1.0}, text=text)
        notes = tuple(n for n in telemetry.notes if "`takeoff_altitude`" not in n)
        return [replace(read, telemetry=replace(read.telemetry, notes=notes))]
    if not np.isfinite(above_sea).any() or float(np.nanmedian(above_sea)) > 500:
        return [variant]
    text = "the log's only altitude is above take-off"
    read = _more(variant, columns={"alt": above_sea}, text=text)
    notes = tuple(n for n in telemetry.notes if n != NO_HEIGHT and "`takeoff_altitude` 0" not in n)
    return [replace(read, telemetry=replace(read.telemetry, notes=notes))]


def _pitches(variant: Variant) -> list[Variant]:
    telemetry = variant.telemetry
    pitch = telemetry.columns["pitch"]
    if np.isfinite(pitch).any() or "pitch" in telemetry.assumed:
        if "pitch" not in telemetry.guesses:
            return [variant]
        other = {"pitch": -pitch}, {"pitch": pitch - 90}
        says = (
            "the gimbal's pitch has the other sign",
            "the gimbal's pitch counts from straight down",
        )
        return [_more(variant, columns=c, text=t, answers=("pitch",)) for c, t in zip(other, says)]
    guess = {"pitch": np.full_like(pitch, USUAL_PITCH_DEG), "roll": np.zeros_like(pitch)}
    text = "the camera's pitch is {pitch}"
    return [_more(variant, columns=guess, open_to={"pitch": 25.0}, text=text)]


def _yaws(variant: Variant) -> list[Variant]:
    telemetry = variant.telemetry
    columns = telemetry.columns
    yaw, nose = columns["yaw"], columns["flight_yaw"]
    if np.isfinite(yaw).any():
        if "yaw" not in telemetry.guesses:
            return [variant]
        plain = _more(
            variant, columns={"yaw": yaw - nose}, text="the gimbal's yaw counts from north",
            answers=("yaw",),
        )  # fmt: skip
        told = _more(variant, text="the gimbal's yaw counts from the nose", answers=("yaw",))
        return [told, plain]
    if "yaw" in telemetry.assumed or np.isfinite(nose).any():
        return [replace(variant, open_to={**variant.open_to, "yaw": 15.0})]
    course = _course(columns)
    if course is None:
        return [variant]
    ahead = _more(
        variant, columns={"yaw": course}, open_to={"yaw": 60.0},
        text="the camera's yaw is {yaw} from the course", loose=2.0,
    )  # fmt: skip
    held = np.full_like(course, geodesy.wrap_degrees(_mean_angle(course)))
    return [
        ahead,
        _more(
            variant, columns={"yaw": held}, open_to={"yaw": 60.0}, text="the camera's yaw is {yaw}"
        ),
    ]


def _mean_angle(angles: np.ndarray) -> float:
    radians = np.radians(angles[np.isfinite(angles)])
    return float(np.degrees(np.arctan2(np.sin(radians).mean(), np.cos(radians).mean())))


def _course(columns: dict[str, np.ndarray]) -> np.ndarray | None:
    """Direction of flight (N,) in degrees, over two seconds; None where nothing moves."""
    lat, lon, time = columns["lat"], columns["lon"], columns["time_s"]
    ok = np.flatnonzero(np.isfinite(lat) & np.isfinite(lon))
    if ok.size < 3:
        return None
    before = np.interp(time[ok] - 1, time[ok], np.arange(ok.size)).round().astype(int)
    after = np.interp(time[ok] + 1, time[ok], np.arange(ok.size)).round().astype(int)
    azimuth, distance = geodesy.azimuth_and_distance(
        lat[ok][before], lon[ok][before], lat[ok][after], lon[ok][after]
    )
    if np.median(distance) < 1.0:
        return None
    course = np.full(lat.shape, np.nan)
    course[ok] = azimuth
    return course
