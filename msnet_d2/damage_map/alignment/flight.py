"""The check of a log against its video, applied to a flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from msnet_d2.damage_map.alignment.check import Verdict, judge
from msnet_d2.damage_map.alignment.picture_motion import PairMotion, measure_motion
from msnet_d2.damage_map.geometry.flight import Flight
from msnet_d2.damage_map.geometry.gcp import PoseOffsets

# Heights of flat ground against that of take-off where nothing has confirmed it, metres: half of
# the rise over 100 m of gently rolling land.
UNSEEN_GROUND_M = 4.0
NO_CAMERA = (
    "no focal length or field of view was recognised in the log, hence buildings are placed under "
    "the drone; `hfov` names it"
)
# Factors of the height that are units.
_UNITS = (np.log(0.3048), -np.log(0.3048))
_UNIT_NEAR = 0.06


def align_flight(flight: Flight, video: Path, pairs: Sequence[PairMotion] | None = None) -> None:
    """Compare a flight's log with its video; sets the flight's log, offsets, notes and doubts.

    Control points go before: where they are given, they have settled the pose.

    Args:
        flight: its log on the video's time.
        video: file or folder of frames.
        pairs: the video's motion, where it has been measured already.
    """
    options = flight.options
    if flight.terrain is None:
        flight.notes.append(
            "flat ground at take-off height was assumed; `elevation` takes a raster of heights"
        )
    if options.align == "off" or options.gcp is not None:
        if flight.terrain is None and options.gcp is None:
            _widen(flight, ground_m=UNSEEN_GROUND_M)
        return
    pairs = measure_motion(video, flight.duration_s) if pairs is None else list(pairs)
    verdict = judge(
        flight.telemetry,
        pairs,
        size=flight.size,
        camera_of=flight.lens,
        terrain=flight.terrain,
        mend=options.align == "auto",
    )
    _apply(flight, verdict)


def _apply(flight: Flight, verdict: Verdict) -> None:
    told = [n for n in verdict.telemetry.notes if n not in flight.telemetry.notes]
    gone = [n for n in flight.telemetry.notes if n not in verdict.telemetry.notes]
    flight.notes = [n for n in flight.notes if n not in gone] + told + verdict.notes
    flight.doubts = list(dict.fromkeys(verdict.doubts))
    flight.telemetry = verdict.telemetry
    if not verdict.verified:
        _widen(flight, time_s=verdict.time_s)
        if flight.lens(flight.telemetry.at(flight.telemetry.span[0])) is None:
            flight.notes.append(NO_CAMERA)
        if flight.terrain is None:
            _widen(flight, ground_m=UNSEEN_GROUND_M)
        return
    flight.found_hfov = verdict.hfov_deg
    _widen(flight, time_s=verdict.time_s)
    _offset(flight, verdict)


def _widen(flight: Flight, **sigmas: float) -> None:
    """Let the log's noise be at least ``sigmas``."""
    noise = flight.telemetry.noise
    larger = {name: max(getattr(noise, name), sigma) for name, sigma in sigmas.items()}
    flight.telemetry = replace(flight.telemetry, noise=replace(noise, **larger))


def _offset(flight: Flight, verdict: Verdict) -> None:
    """Take over the corrections of poses, with what they may be off."""
    c, sigma = verdict.corrections, verdict.sigma
    telemetry = flight.telemetry
    altitude = 0.0
    if c.height:
        alt = telemetry.columns["alt"]
        if min(abs(c.height - unit) for unit in _UNITS) < _UNIT_NEAR:
            columns = {**telemetry.columns, "alt": alt * np.exp(c.height)}
            flight.telemetry = replace(telemetry, columns=columns)
        else:
            altitude = float(np.nanmedian(alt)) * (float(np.exp(c.height)) - 1)
    if "zoom" in sigma:
        _widen(flight, focal_share=sigma["zoom"])
    if "pitch" in sigma:
        _widen(flight, pitch_deg=sigma["pitch"])
    if "yaw" in sigma:
        _widen(flight, yaw_deg=sigma["yaw"])
    if "height" in sigma:
        height = float(np.nanmedian(flight.telemetry.columns["alt"])) + altitude
        _widen(flight, altitude_m=sigma["height"] * abs(height))
    flight.offsets = PoseOffsets(
        yaw=c.yaw, pitch=c.pitch, altitude=altitude, focal=float(np.expm1(c.zoom))
    )
