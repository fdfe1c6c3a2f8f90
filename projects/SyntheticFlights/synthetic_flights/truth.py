"""The ground truth of a flight: the world as it was built, and where the camera was."""

from __future__ import annotations

import numpy as np

from synthetic_flights.camera import project
from synthetic_flights.config import LEVEL_NAMES
from synthetic_flights.scene import Flight
from synthetic_flights.telemetry import START, to_latlon

__all__ = ["flight_truth"]


def flight_truth(flight: Flight) -> dict:
    """Return what ``ground_truth.json`` holds about one flight.

    Buildings that are in view in no frame are left out. ``outline_*`` are the walls' outlines on
    the ground, ``parts`` lists the damaged parts with their outlines in space. In a flood
    ``water_depth`` is the mean depth at the walls, in metres.
    """
    appearance, config = flight.appearance, flight.config
    origin = (appearance.latitude, appearance.longitude)
    poses = [flight.pose(i) for i in range(config.num_frames)]
    buildings, seen = [], []
    for number, plan in enumerate(flight.buildings):
        if not _ever_seen(flight, plan, poses):
            continue
        flight.build(number)  # sets the outlines of its parts
        outline = plan.outline
        seen.append(plan)
        buildings.append(
            {
                "building_id": plan.id,
                "kind": plan.kind,
                "level": plan.level,
                "level_name": LEVEL_NAMES[plan.level],
                "worst_part_level": max((p.level for p in plan.parts), default=0),
                "height": round(plan.height, 3),
                "outline_local": _rounded(outline, 3),
                "outline_latlon": _rounded(to_latlon(outline, origin), 8),
                "parts": [
                    {
                        "part_id": part.id,
                        "category_id": part.level,
                        "kind": part.kind,
                        "surface": part.surface,
                        "outlines_local": [_rounded(o, 3) for o in part.outlines],
                    }
                    for part in plan.parts
                ],
            }
        )
    if flight.flood is not None:
        for record, plan in zip(buildings, seen):
            depths = flight.flood.depth(plan.outline)
            record["water_depth"] = round(max(float(depths.mean()), 0.0), 3)
    cam = flight.intrinsics
    latlon = to_latlon(np.array([p.position[:2] for p in poses]), origin)
    return {
        "video_id": str(config.video),
        "width": cam.width,
        "height": cam.height,
        "fps": config.fps,
        "num_frames": config.num_frames,
        "start": START.isoformat(),
        "origin": {
            "latitude": appearance.latitude,
            "longitude": appearance.longitude,
            "ground_altitude": appearance.ground_altitude,
        },
        "intrinsics": {"fx": cam.focal, "fy": cam.focal, "cx": cam.width / 2, "cy": cam.height / 2},
        "buildings": buildings,
        "poses": [
            {
                "frame_index": i,
                "time": round(p.time, 6),
                "position": [round(v, 4) for v in p.position],
                "latitude": round(float(latlon[i, 0]), 9),
                "longitude": round(float(latlon[i, 1]), 9),
                "yaw": round(p.yaw, 4),
                "pitch": round(p.pitch, 4),
                "roll": round(p.roll, 4),
            }
            for i, p in enumerate(poses)
        ],
    }


def _rounded(values: np.ndarray, digits: int) -> list:
    return np.round(values, digits).tolist()


def _ever_seen(flight: Flight, plan, poses) -> bool:
    points = np.concatenate([plan.outline, np.zeros((len(plan.outline), 1))], 1)
    points = np.concatenate([points, points + np.array([0, 0, plan.height])])
    size = (flight.intrinsics.width, flight.intrinsics.height)
    for pose in poses[:: max(1, int(flight.config.fps / 4))] + poses[-1:]:
        pixels, depth = project(points, pose, flight.intrinsics)
        if ((depth > 1) & (pixels > -40).all(1) & (pixels < np.array(size) + 40).all(1)).any():
            return True
    return False
