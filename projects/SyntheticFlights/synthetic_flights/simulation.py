"""What a faultless detector would find in a rendered flight, and how right a map of it is.

Nothing is rendered: boxes come from the geometry of the scene, so that many flights cost seconds.
What stands in front of a building is not regarded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from msnet_d2.damage_map.buildings.assessment import Building, find_buildings
from msnet_d2.damage_map.buildings.association import link
from msnet_d2.damage_map.buildings.observations import MapVideo, observations_of
from msnet_d2.damage_map.buildings.placement import place
from msnet_d2.damage_map.geometry.flight import Flight
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.telemetry.telemetry import Telemetry
from msnet_d2.data.isbda.categories import ISBDA_CATEGORIES
from msnet_d2.video.results import (
    FORMAT,
    VERSION,
    Category,
    FrameResults,
    ModelInfo,
    PartDetection,
    ResultsHeader,
    ResultsSummary,
    SourceInfo,
    VideoResults,
)
from synthetic_flights.camera import Intrinsics, Pose, project
from synthetic_flights.config import SceneConfig
from synthetic_flights.labels import building_box
from synthetic_flights.scene import Flight as Scene
from synthetic_flights.telemetry import srt_text, to_latlon

# A building is found if so much of it is in the frame, as a share of its box and in pixels.
LEAST_SHARE = 0.25
LEAST_PX = 12.0
# A found building is a true one if its center is this near to its outline, metres.
NEAR_M = 5.0


def perfect_results(
    scene: Scene, every: int = 1
) -> tuple[VideoResults, list[tuple[np.ndarray, int]]]:
    """Each damaged building in each ``every``-th frame, with one part on it of its level.

    Returns:
        The results, and outline (N, 2; latitudes and longitudes) and level of each building seen.
    """
    config = scene.config
    frames, seen = [], {}
    for index in range(0, config.num_frames, every):
        pose = scene.pose(index)
        parts = []
        for plan in scene.buildings:
            if not plan.level:
                continue
            box = building_box(scene, plan, pose)
            if not np.isfinite(box).all() or min(box[2:] - box[:2]) < LEAST_PX:
                continue
            if _share_inside(scene, plan, pose, box) < LEAST_SHARE:
                continue
            inner = np.concatenate([box[:2] * 0.7 + box[2:] * 0.3, box[:2] * 0.3 + box[2:] * 0.7])
            parts.append(PartDetection(plan.level, _xywh(inner), score=0.9, parent_bbox=_xywh(box)))
            seen[plan.id] = plan
        frames.append(FrameResults(index, float(pose.time), instances=parts))
    origin = (scene.appearance.latitude, scene.appearance.longitude)
    truth = [(to_latlon(plan.outline, origin), plan.level) for plan in seen.values()]
    source = SourceInfo(
        name=f"{config.video}.mp4",
        width=config.width,
        height=config.height,
        fps=config.fps,
        duration_s=config.num_frames / config.fps,
    )
    levels = [Category(c["id"], c["name"]) for c in ISBDA_CATEGORIES]
    header = ResultsHeader(FORMAT, VERSION, source, ModelInfo(), levels)
    return header.with_frames(frames, ResultsSummary()), truth


def _xywh(box: np.ndarray) -> tuple[float, ...]:
    return (*box[:2].tolist(), *(box[2:] - box[:2]).tolist())


def truth_in_view(entry: Mapping[str, Any]) -> list[tuple[np.ndarray, int]]:
    """Outline (N, 2; latitudes and longitudes) and level of the damaged buildings that come into
    view.

    Args:
        entry: of one flight in ``ground_truth.json``. A building is in view as it is for
            :func:`perfect_results`.
    """
    camera = Intrinsics(entry["width"], entry["height"], entry["intrinsics"]["fx"])
    size = np.array([camera.width, camera.height])
    poses = [
        Pose(p["time"], tuple(p["position"]), p["yaw"], p["pitch"], p["roll"])
        for p in entry["poses"]
    ]
    seen = []
    for building in entry["buildings"]:
        if not building["level"]:
            continue
        outline = np.array(building["outline_local"])
        corners = np.concatenate(
            [np.column_stack([outline, np.full(len(outline), z)]) for z in (0, building["height"])]
        )
        for pose in poses:
            pixels, depth = project(corners, pose, camera)
            low, high = pixels.min(axis=0), pixels.max(axis=0)
            inside = np.minimum(high, size) - np.maximum(low, 0)
            if (depth <= 1).any() or inside.min() < LEAST_PX:
                continue
            if np.prod(inside) >= LEAST_SHARE * np.prod(high - low):
                seen.append((np.array(building["outline_latlon"]), building["level"]))
                break
    return seen


def simulate(config: SceneConfig, rng: np.random.Generator | None = None) -> MapScore:
    """Map one flight with perfect detections and say how right the map is.

    Args:
        config: of the flight.
        rng: draws errors of the log; None: the log is exact.
    """
    scene = Scene(config)
    results, truth = perfect_results(scene)
    poses = (scene.pose(i) for i in range(config.num_frames))
    text = srt_text(poses, config.fps, scene.appearance, scene.intrinsics)
    telemetry = Telemetry.from_text(text, "1.srt").for_video(results.duration_s)
    if rng is not None:
        telemetry = disturbed(telemetry, rng)
    size = (float(config.width), float(config.height))
    flight = Flight(telemetry, size=size, fps=config.fps, duration_s=results.duration_s)
    enu = EnuFrame(*telemetry.home)
    video = MapVideo(Path(results.video.name), 0, results, flight)
    buildings = find_buildings(link(place(observations_of(video), enu)), enu)
    # The errors drawn shift the whole map, by three times its noise in almost no case.
    return score_map(buildings, truth, enu, slack_m=0.0 if rng is None else 15.0)


def _share_inside(scene: Scene, plan, pose, box: np.ndarray) -> float:
    """Share of a building's box, taken by its outline and height, that is within the frame."""
    corners = np.concatenate([np.column_stack([plan.outline, np.full(len(plan.outline), z)])
                              for z in (0.0, plan.height)])  # fmt: skip
    pixels, depth = project(corners, pose, scene.intrinsics)
    if (depth <= 1).any():
        return 0.0
    whole = np.prod(pixels.max(axis=0) - pixels.min(axis=0))
    return float(np.prod(box[2:] - box[:2]) / max(whole, 1e-9))


def disturbed(telemetry: Telemetry, rng: np.random.Generator) -> Telemetry:
    """The log with constant errors as large as its own noise says, drawn by lot.

    Errors that last for a flight are the ones that matter: those that change average out.
    """
    noise, columns = telemetry.noise, dict(telemetry.columns)
    for name, sigma in (
        ("yaw", noise.yaw_deg),
        ("pitch", noise.pitch_deg),
        ("roll", noise.roll_deg),
        ("alt", float(np.hypot(noise.altitude_m, noise.ground_m))),
    ):
        columns[name] = columns[name] + rng.normal(0, sigma)
    columns["focal_mm"] = columns["focal_mm"] * (1 + rng.normal(0, noise.focal_share))
    enu = EnuFrame(*telemetry.home)
    lat_lon = np.stack([columns["lat"], columns["lon"]], axis=1)
    moved = enu.to_lat_lon(enu.to_xy(lat_lon) + rng.normal(0, noise.horizontal_m, 2))
    columns["lat"], columns["lon"] = moved.T
    return replace(telemetry, columns=columns)


@dataclass
class MapScore:
    """How right a map is; sums of several maps by ``+``.

    Attributes:
        true: damaged buildings that were in view.
        matched: those that are on the map.
        duplicates: entries beyond the first for a building.
        false: entries where there is no damaged building.
        errors_m: distance of the centre of each matched building that a frame shows whole.
        covered: for each matched building whether its error radius holds the true centre.
        levels_right: number of matched buildings of the right level.
    """

    true: int = 0
    matched: int = 0
    duplicates: int = 0
    false: int = 0
    errors_m: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    levels_right: int = 0

    @property
    def missed(self) -> int:
        """Damaged buildings in view that are not on the map."""
        return self.true - self.matched

    def __add__(self, other: MapScore) -> MapScore:
        return MapScore(
            self.true + other.true,
            self.matched + other.matched,
            self.duplicates + other.duplicates,
            self.false + other.false,
            self.errors_m + other.errors_m,
            self.covered + other.covered,
            self.levels_right + other.levels_right,
        )


def score_map(
    buildings: Sequence[Building],
    truth: Sequence[tuple[np.ndarray, int]],
    enu: EnuFrame,
    *,
    slack_m: float = 0.0,
) -> MapScore:
    """Compare a map with the truth, one to one, nearest first.

    Args:
        buildings: found, with places.
        truth: outline (N, 2) as latitudes and longitudes, and level, of each in view.
        enu: plane of the places.
        slack_m: how far the whole map may be shifted, beyond :data:`NEAR_M`.
    """
    import shapely
    from scipy.optimize import linear_sum_assignment

    outlines = [shapely.Polygon(enu.to_xy(np.array(o))) for o, _ in truth]
    centers = np.array([o.centroid.coords[0] for o in outlines]).reshape(-1, 2)
    points = np.array([b.point for b in buildings]).reshape(-1, 2)
    score = MapScore(true=len(truth))
    if not len(truth) or not len(points):
        score.false = len(points)
        return score
    away = np.array([[o.distance(shapely.Point(p)) for o in outlines] for p in points])
    near = away <= NEAR_M + slack_m
    distance = np.linalg.norm(points[:, None] - centers[None], axis=2)
    rows, columns = linear_sum_assignment(np.where(near, distance, 1e6))
    pairs = [(i, j) for i, j in zip(rows, columns) if near[i, j]]
    for i, j in pairs:
        building = buildings[i]
        score.matched += 1
        score.covered.append(bool(distance[i, j] <= building.ce90_m))
        score.levels_right += building.vote.level == truth[j][1]
        if not building.footprint.truncated:
            score.errors_m.append(float(distance[i, j]))
    rest = set(range(len(points))) - {i for i, _ in pairs}
    score.duplicates = sum(bool(near[i].any()) for i in rest)
    score.false = len(rest) - score.duplicates
    return score
