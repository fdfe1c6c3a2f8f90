"""Placing what was seen: from boxes in the picture to outlines on the ground."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from msnet_d2.damage_map.buildings.observations import EDGE_PX, Observation, PartObservation
from msnet_d2.damage_map.geometry.flight import Flight, FlightOptions
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.geometry.projector import GroundProjector, ProjectionFailure
from msnet_d2.damage_map.telemetry.cleaning import TelemetryFlag

# Half the difference, nine times of ten, between a building's height and the one assumed.
HEIGHT_ERROR_M = 2.0
# What is left of a building's height when it has collapsed.
RUBBLE_SHARE = 1 / 3
# What a reader of the map should know of a single building's place.
_TOLD_FLAGS = (
    TelemetryFlag.GAP
    | TelemetryFlag.JUMP
    | TelemetryFlag.FLIGHT_YAW
    | TelemetryFlag.ASSUMED_ANGLES
    | TelemetryFlag.NO_ANGLES
)


def place(flight: Flight, observations: Sequence[Observation], enu: EnuFrame) -> dict[str, int]:
    """Set the places of ``observations`` of one video, frame by frame.

    Returns:
        Why observations got none: reason to number.
    """
    unplaced: dict[str, int] = {}
    for _, group in groupby(observations, key=lambda s: (s.frame, s.size)):
        members = list(group)
        projector = flight.projector(members[0].time_s, members[0].size)
        for reason in place_observations(projector, members, enu, flight.options):
            if reason:
                unplaced[reason] = unplaced.get(reason, 0) + 1
    return unplaced


def place_observations(
    projector: GroundProjector,
    observations: Sequence[Observation],
    enu: EnuFrame,
    options: FlightOptions,
) -> list[str]:
    """Set outline, error, view and doubts of the observations of one frame.

    The lower edge of a building's box is where its near wall meets the ground, the upper edge is
    its far roof: each is projected at its own height, else buildings would reach behind themselves.

    Returns:
        For each the reason if it has no place, else "".
    """
    pixels, heights = [], []
    for observation in observations:
        x0, y0, x1, y1 = observation.box
        base, top = 0.0, options.building_height
        if observation.worst.level == 3:
            top *= RUBBLE_SHARE
        if not observation.has_building_box:
            base = top = part_height(observation.worst, options)
        else:
            # At the frame's edge neither the wall's foot nor the ridge is seen.
            middle = (base + top) / 2
            base = middle if y1 >= observation.size[1] - EDGE_PX else base
            top = middle if y0 <= EDGE_PX else top
        pixels += [[x0, y1], [x1, y1], [x1, y0], [x0, y0], [(x0 + x1) / 2, (y0 + y1) / 2]]
        heights += [base, base, top, top, (base + top) / 2]
    places = projector.to_ground(np.array(pixels), height_m=np.array(heights))
    lat_lon, error, failure = (a.reshape(len(observations), 5, -1) for a in places)
    if not projector.is_point:
        _place_parts(projector, observations, enu, options)
    sample = projector.sample
    doubts = (sample.flags & _TOLD_FLAGS).text if sample.flags & _TOLD_FLAGS else ""
    nadir = enu.to_xy([[sample.lat, sample.lon]])[0] if sample.has_position else None
    reasons = []
    for i, observation in enumerate(observations):
        if failure[i].any():
            reasons.append(ProjectionFailure(int(failure[i].max())).text)
            continue
        reasons.append("")
        observation.doubts = doubts
        observation.outline = enu.to_xy(lat_lon[i, :4])
        observation.ce90_m = float(error[i, 4, 0])
        if projector.is_point:
            continue
        away = observation.outline.mean(axis=0) - nadir
        distance = float(np.hypot(*away))
        yaw = np.radians(sample.yaw)
        observation.view = away / distance if distance > 1 else np.array([np.sin(yaw), np.cos(yaw)])
        observation.relief_displacement = distance / max(sample.alt, 1.0)
        height_error = HEIGHT_ERROR_M / 2 * observation.relief_displacement
        observation.ce90_m = float(np.hypot(observation.ce90_m, height_error))
    return reasons


def _place_parts(projector, observations, enu, options) -> None:
    parts = [p for s in observations for p in s.parts]
    corners = np.array([p.box[[[0, 3], [2, 3], [2, 1], [0, 1]]] for p in parts]).reshape(-1, 2)
    heights = np.repeat([part_height(p, options) for p in parts], 4)
    places = projector.to_ground(corners, height_m=heights)
    outlines = enu.to_xy(places.lat_lon).reshape(-1, 4, 2)
    for part, outline, refused in zip(parts, outlines, places.failure.reshape(-1, 4)):
        part.outline = None if refused.any() else outline


def part_height(part: PartObservation, options: FlightOptions) -> float:
    """Height above the ground at which a part is taken to lie: on the roof, unless all is down."""
    return 0.0 if part.level == 3 else options.roof_height
