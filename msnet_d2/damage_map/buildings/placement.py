"""Placing what was seen: from boxes in the picture to outlines on the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from msnet_d2.damage_map.buildings.observations import (
    EDGE_PX,
    NadirObservation,
    Observation,
    PartObservation,
    PlacedObservation,
    UnplacedObservation,
)
from msnet_d2.damage_map.geometry.flight import FlightOptions
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.geometry.projector import GroundProjector, ProjectionFailure
from msnet_d2.errors import InputError

# 90% of buildings are within this many metres of the height that is assumed for them.
HEIGHT_CE90_M = 2.0
# Height of a collapsed building as a fraction of its height before.
RUBBLE_HEIGHT_RATIO = 1 / 3

Kind = TypeVar("Kind", bound=Observation)


def place(observations: Sequence[Observation], enu: EnuFrame) -> list[Observation]:
    """The same observations, placed as far as their videos' flights tell, in the same order.

    Args:
        observations: of one or more videos, frame by frame.
        enu: plane of the places.
    """
    placed: list[Observation] = []
    for (flight, _, size), group in groupby(
        observations, key=lambda o: (o.video.flight, o.frame, o.size)
    ):
        members = list(group)
        reason = "no flight log"
        if flight is not None:
            try:
                projector = flight.projector(members[0].time_s, size)
            except InputError as error:  # a camera file that is not for frames of this size
                reason = str(error)
            else:
                placed += place_frame(members, projector, flight.options, enu)
                continue
        placed += [_as(UnplacedObservation, o, reason=reason) for o in members]
    return placed


def place_frame(
    observations: Sequence[Observation],
    projector: GroundProjector,
    options: FlightOptions,
    enu: EnuFrame,
) -> list[Observation]:
    """Place the observations of one frame.

    The lower edge of a building's box is where its near wall meets the ground, the upper edge is
    its far roof: each is projected at its own height, else buildings would reach behind themselves.

    Args:
        observations: of the frame.
        projector: of the frame.
        options: heights of buildings and roofs.
        enu: plane of the places.
    """
    points = [_points(o, options) for o in observations]
    pixels = np.concatenate([p for p, _ in points])
    places = projector.to_ground(pixels, height_m=np.concatenate([h for _, h in points]))
    lat_lon, ce90, failure = (a.reshape(len(observations), 5, -1) for a in places)
    part_outlines = [(None,) * len(o.parts) for o in observations]
    if not projector.is_point:
        part_outlines = _place_parts(observations, projector, options, enu)
    placed: list[Observation] = []
    for i, observation in enumerate(observations):
        flags = projector.sample.flags
        if failure[i].any():
            reason = ProjectionFailure(int(failure[i].max())).text
            placed.append(_as(UnplacedObservation, observation, reason=reason))
            continue
        outline, error = enu.to_xy(lat_lon[i, :4]), float(ce90[i, 4, 0])
        if projector.is_point:
            point = outline.mean(axis=0)
            placed.append(
                _as(NadirObservation, observation, point=point, ce90_m=error, flags=flags)
            )
            continue
        view, displacement = _view(outline, projector, enu)
        placed.append(
            _as(
                PlacedObservation,
                observation,
                outline=outline,
                ce90_m=float(np.hypot(error, HEIGHT_CE90_M / 2 * displacement)),
                view=view,
                relief_displacement=displacement,
                flags=flags,
                part_outlines=part_outlines[i],
            )
        )
    return placed


def _as(kind: type[Kind], observation: Observation, **more: Any) -> Kind:
    seen = {f.name: getattr(observation, f.name) for f in fields(Observation)}
    return kind(**seen, **more)


def _points(observation: Observation, options: FlightOptions) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (5, 2) of the box's corners and center, and their heights (5,) above the ground."""
    x0, y0, x1, y1 = observation.box
    base, top = 0.0, options.building_height
    if observation.worst.level == 3:
        top *= RUBBLE_HEIGHT_RATIO
    if not observation.has_building_box:
        base = top = part_height(observation.worst, options)
    else:
        # At the frame's edge neither the wall's foot nor the ridge is seen.
        middle = (base + top) / 2
        base = middle if y1 >= observation.size[1] - EDGE_PX else base
        top = middle if y0 <= EDGE_PX else top
    pixels = [[x0, y1], [x1, y1], [x1, y0], [x0, y0], [(x0 + x1) / 2, (y0 + y1) / 2]]
    return np.array(pixels), np.array([base, base, top, top, (base + top) / 2])


def _view(
    outline: np.ndarray, projector: GroundProjector, enu: EnuFrame
) -> tuple[np.ndarray, float]:
    """Direction (2,) from the drone's nadir to an outline, and the relief displacement there."""
    sample = projector.sample
    away = outline.mean(axis=0) - enu.to_xy([[sample.lat, sample.lon]])[0]
    distance = float(np.hypot(*away))
    yaw = np.radians(sample.yaw)
    view = away / distance if distance > 1 else np.array([np.sin(yaw), np.cos(yaw)])
    return view, distance / max(sample.alt, 1.0)


def _place_parts(
    observations: Sequence[Observation],
    projector: GroundProjector,
    options: FlightOptions,
    enu: EnuFrame,
) -> list[tuple[np.ndarray | None, ...]]:
    """Outline (4, 2) of each part of each observation; None where it has no place."""
    parts = [p for o in observations for p in o.parts]
    corners = np.array([p.box[[[0, 3], [2, 3], [2, 1], [0, 1]]] for p in parts]).reshape(-1, 2)
    heights = np.repeat([part_height(p, options) for p in parts], 4)
    places = projector.to_ground(corners, height_m=heights)
    outlines = iter(enu.to_xy(places.lat_lon).reshape(-1, 4, 2))
    failures = iter(places.failure.reshape(-1, 4).any(axis=1))
    return [
        tuple(
            None if failed else outline
            for _, outline, failed in zip(observation.parts, outlines, failures)
        )
        for observation in observations
    ]


def place_part(
    observation: Observation, part: PartObservation, pixels: np.ndarray, enu: EnuFrame
) -> np.ndarray | None:
    """Places (N, 2) of pixels (N, 2) of a part; None if one of them has none."""
    flight = observation.video.flight
    if flight is None:
        return None
    projector = flight.projector(observation.time_s, observation.size)
    found = projector.to_ground(pixels, height_m=part_height(part, flight.options))
    return None if found.failure.any() else enu.to_xy(found.lat_lon)


def part_height(part: PartObservation, options: FlightOptions) -> float:
    """Height above the ground at which a part is taken to lie: on the roof, unless all is down."""
    return 0.0 if part.level == 3 else options.roof_height
