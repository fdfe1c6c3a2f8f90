"""One video's flight: its log, its camera, and the places of what it saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

import numpy as np

from msnet_d2.damage_map.buildings.observations import EDGE_PX, PartSighting, Sighting
from msnet_d2.damage_map.geometry.camera import Camera
from msnet_d2.damage_map.geometry.gcp import PoseCorrection, fit_pose, read_control_points
from msnet_d2.damage_map.geometry.projector import GroundPoints, GroundProjector, Refusal
from msnet_d2.damage_map.geometry.terrain import ElevationGrid, Terrain
from msnet_d2.damage_map.telemetry.cleaning import Quality
from msnet_d2.damage_map.telemetry.telemetry import Telemetry, TelemetrySample
from msnet_d2.errors import InputError
from msnet_d2.utils.geodesy import import_pyproj

# Half the difference, nine times of ten, between a building's height and the one assumed.
HEIGHT_ERROR_M = 2.0
# What is left of a building's height when it has collapsed.
RUBBLE_SHARE = 1 / 3
# What a reader of the map should know of a single building's place.
_SAID = Quality.GAP | Quality.JUMP | Quality.FLIGHT_YAW | Quality.ASSUMED_ANGLES | Quality.NO_ANGLES


@dataclass(frozen=True)
class FlightOptions:
    """How logs are read; the fields are the options of ``msnet map``."""

    offset_s: float | None = None
    takeoff_altitude: float | None = None
    takeoff_elevation: float | None = None
    elevation: str | Path | None = None
    elevation_crs: str | None = None
    gps_order: str | None = None
    columns: Mapping[str, str] | None = None
    pitch: float | None = None
    yaw: float | None = None
    hfov: float | None = None
    camera_file: str | Path | None = None
    control: str | Path | None = None
    building_height: float = 4.5
    roof_height: float = 4.0

    def __post_init__(self):
        for name in ("building_height", "roof_height"):
            value = getattr(self, name)
            if not 0 <= value <= 500:
                option = name.replace("_", "-")
                raise InputError(f"--{option} {value}: expected metres from 0 to 500")


class LocalFrame:
    """Metres east and north of an origin, by the azimuthal equidistant projection about it."""

    def __init__(self, lat: float, lon: float) -> None:
        pyproj = import_pyproj()
        self.origin = (float(lat), float(lon))
        crs = pyproj.CRS.from_proj4(
            f"+proj=aeqd +lat_0={lat:.9f} +lon_0={lon:.9f} +datum=WGS84 +units=m"
        )
        self._to = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        self._mercator = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)

    def to_xy(self, lat_lon: np.ndarray) -> np.ndarray:
        """Metres (N, 2) of latitudes and longitudes (N, 2)."""
        lat_lon = np.asarray(lat_lon, dtype=float).reshape(-1, 2)
        return np.stack(self._to.transform(lat_lon[:, 1], lat_lon[:, 0]), axis=1)

    def to_lat_lon(self, xy: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`to_xy`."""
        xy = np.asarray(xy, dtype=float).reshape(-1, 2)
        lon, lat = self._to.transform(xy[:, 0], xy[:, 1], direction="INVERSE")
        return np.stack([lat, lon], axis=1)

    def to_mercator(self, xy: np.ndarray) -> np.ndarray:
        """The same places (N, 2) in metres of web maps (EPSG:3857)."""
        lat_lon = self.to_lat_lon(xy)
        return np.stack(self._mercator.transform(lat_lon[:, 1], lat_lon[:, 0]), axis=1)


class Flight:
    """Where a video's pixels lie on the ground.

    Attributes:
        telemetry: on the video's time.
        duration_s: length of the video.
        size: width and height of the frames.
        options: as given.
        notes: what is wrong, a line each.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        duration_s: float,
        size: tuple[float, float],
        fps: float,
        options: FlightOptions | None = None,
    ) -> None:
        """Take a log that is on the video's time.

        Raises:
            InputError: over the elevation raster or the control points.
        """
        options = options or FlightOptions()
        self.telemetry = telemetry
        self.duration_s = float(duration_s)
        self.size = size
        self.options = options
        self.notes = list(telemetry.notes)
        self.correction = PoseCorrection()
        self.terrain = None
        if options.elevation is not None:
            grid = ElevationGrid.read(options.elevation, options.elevation_crs)
            self.terrain = Terrain.for_flight(grid, telemetry, options.takeoff_elevation)
        if options.control is not None:
            self._fit(fps)

    @classmethod
    def read(
        cls,
        log: Path,
        *,
        duration_s: float,
        size: tuple[float, float],
        fps: float,
        start: datetime | None,
        options: FlightOptions,
    ) -> Flight:
        """Read the log of a video that began at ``start``.

        Raises:
            InputError: if it is no log that is known, or of another flight.
        """
        telemetry = Telemetry.read(log, columns=options.columns, gps_order=options.gps_order)
        telemetry = telemetry.for_video(duration_s, start=start, offset_s=options.offset_s)
        telemetry = telemetry.with_angles(pitch=options.pitch, yaw=options.yaw)
        if options.takeoff_altitude is not None:
            telemetry = telemetry.with_takeoff_altitude(options.takeoff_altitude)
        return cls(telemetry, duration_s=duration_s, size=size, fps=fps, options=options)

    def _fit(self, fps: float) -> None:
        points = read_control_points(self.options.control)
        times = [p.frame / fps if p.frame >= 0 else p.time_s for p in points]
        samples = self.telemetry.at(times)
        cameras = [self._camera(s, self.size) for s in samples]
        lost = [
            i
            for i, (sample, camera) in enumerate(zip(samples, cameras), start=1)
            if camera is None or not (sample.has_position and sample.has_angles)
            or not np.isfinite(sample.alt)
        ]  # fmt: skip
        if lost:
            raise InputError(
                f"{Path(self.options.control).name}: the log has no position, height, angles or "
                f"field of view at the frames of points {', '.join(map(str, lost[:5]))}"
            )
        fit = fit_pose(points, samples, cameras, terrain=self.terrain)
        self.correction = fit.correction
        self.notes += fit.notes

    def _camera(self, sample: TelemetrySample, size: tuple[float, float]) -> Camera | None:
        options = self.options
        camera = Camera.for_sample(sample, *size, hfov_deg=options.hfov, file=options.camera_file)
        return None if camera is None else self.correction.apply_camera(camera)

    def projector(self, time_s: float, size: tuple[float, float] | None = None) -> GroundProjector:
        """The way from pixels to the ground at a time of the video."""
        sample = self.telemetry.at(time_s)
        camera = self._camera(sample, size or self.size)
        return GroundProjector(camera, self.correction.apply(sample), terrain=self.terrain)

    def place(self, sightings: list[Sighting], local: LocalFrame) -> dict[str, int]:
        """Set the places of ``sightings`` of this video, frame by frame.

        Returns:
            Why sightings got none: reason to number.
        """
        refused: dict[str, int] = {}
        for _, group in groupby(sightings, key=lambda s: (s.frame, s.size)):
            members = list(group)
            projector = self.projector(members[0].time_s, members[0].size)
            for reason in place_sightings(projector, members, local, self.options):
                if reason:
                    refused[reason] = refused.get(reason, 0) + 1
        return refused


def place_sightings(
    projector: GroundProjector,
    sightings: Sequence[Sighting],
    local: LocalFrame,
    options: FlightOptions,
) -> list[str]:
    """Set outline, error, view and doubts of the sightings of one frame.

    The lower edge of a building's box is where its near wall meets the ground, the upper edge is
    its far roof: each is projected at its own height, else buildings would reach behind themselves.

    Returns:
        For each the reason if it has no place, else "".
    """
    pixels, heights = [], []
    for sighting in sightings:
        x0, y0, x1, y1 = sighting.box
        base, top = 0.0, options.building_height
        if sighting.worst.level == 3:
            top *= RUBBLE_SHARE
        if not sighting.has_building_box:
            base = top = part_height(sighting.worst, options)
        else:
            # Where the frame's edge cuts it off, what is seen there is neither foot nor ridge.
            middle = (base + top) / 2
            base = middle if y1 >= sighting.size[1] - EDGE_PX else base
            top = middle if y0 <= EDGE_PX else top
        pixels += [[x0, y1], [x1, y1], [x1, y0], [x0, y0], [(x0 + x1) / 2, (y0 + y1) / 2]]
        heights += [base, base, top, top, (base + top) / 2]
    places = project(projector, np.array(pixels), np.array(heights))
    lat_lon, error, refusal = (a.reshape(len(sightings), 5, -1) for a in places)
    if not projector.is_point:
        _place_parts(projector, sightings, local, options)
    sample = projector.sample
    doubts = (sample.flags & _SAID).text if sample.flags & _SAID else ""
    foot = local.to_xy([[sample.lat, sample.lon]])[0] if sample.has_position else None
    reasons = []
    for i, sighting in enumerate(sightings):
        if refusal[i].any():
            reasons.append(Refusal(int(refusal[i].max())).text)
            continue
        reasons.append("")
        sighting.doubts = doubts
        sighting.outline = local.to_xy(lat_lon[i, :4])
        sighting.error_m = float(error[i, 4, 0])
        if projector.is_point:
            continue
        away = sighting.outline.mean(axis=0) - foot
        distance = float(np.hypot(*away))
        yaw = np.radians(sample.yaw)
        sighting.view = away / distance if distance > 1 else np.array([np.sin(yaw), np.cos(yaw)])
        sighting.lean = distance / max(sample.alt, 1.0)
        lean_error = HEIGHT_ERROR_M / 2 * sighting.lean
        sighting.error_m = float(np.hypot(sighting.error_m, lean_error))
    return reasons


def _place_parts(projector, sightings, local, options) -> None:
    parts = [p for s in sightings for p in s.parts]
    corners = np.array([p.box[[[0, 3], [2, 3], [2, 1], [0, 1]]] for p in parts]).reshape(-1, 2)
    heights = np.repeat([part_height(p, options) for p in parts], 4)
    places = project(projector, corners, heights)
    outlines = local.to_xy(places.lat_lon).reshape(-1, 4, 2)
    for part, outline, refused in zip(parts, outlines, places.refusal.reshape(-1, 4)):
        part.outline = None if refused.any() else outline


def part_height(part: PartSighting, options: FlightOptions) -> float:
    """Height above the ground at which a part is taken to lie: on the roof, unless all is down."""
    return 0.0 if part.level == 3 else options.roof_height


def project(projector: GroundProjector, pixels: np.ndarray, heights: np.ndarray) -> GroundPoints:
    """Places of ``pixels`` (N, 2), each at its own height (N,) above the ground."""
    lat_lon, error = np.full((len(pixels), 2), np.nan), np.full(len(pixels), np.nan)
    refusal = np.zeros(len(pixels), dtype=np.uint8)
    for height in np.unique(heights):
        here = heights == height
        found = projector.to_ground(pixels[here], height_m=float(height))
        lat_lon[here], error[here], refusal[here] = found
    return GroundPoints(lat_lon, error, refusal)
