"""One video's flight: its log, its camera, and the way from its pixels to the ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from msnet_d2.damage_map.geometry.camera import Camera
from msnet_d2.damage_map.geometry.gcp import PoseOffsets, calibrate_pose, read_gcps
from msnet_d2.damage_map.geometry.projector import GroundProjector
from msnet_d2.damage_map.geometry.terrain import ElevationGrid, Terrain
from msnet_d2.damage_map.telemetry.telemetry import Telemetry, TelemetrySample
from msnet_d2.errors import InputError

# Whether a log's motion is compared with the picture's: and mended where that is sure, said only,
# or not at all.
ALIGN = ("auto", "check", "off")


@dataclass(frozen=True)
class FlightOptions:
    """How logs are read, and what is known beside them.

    Attributes:
        telemetry_offset: time of the log in seconds at the video's first frame.
        takeoff_altitude: what the log shows on the ground at take-off, metres above sea level.
        takeoff_elevation: height of the elevation raster at the take-off point, in metres.
        elevation: raster of heights; None: flat ground.
        elevation_crs: its coordinate system, where the file does not say.
        gps_order: "latlon" or "lonlat", of DJI's ``GPS(a, b)``.
        columns: of a CSV log, field to header.
        pitch, yaw: of the camera in degrees, where the log has none.
        hfov: horizontal field of view of the camera in degrees.
        camera: calibration file, see :meth:`.camera.Camera.from_file`.
        gcp: file of ground control points, see :func:`.gcp.read_gcps`.
        building_height: metres from the ground to the far edge of roofs, first guess.
        roof_height: metres from the ground to damaged parts on roofs.
        align: one of :data:`ALIGN`.
    """

    telemetry_offset: float | None = None
    takeoff_altitude: float | None = None
    takeoff_elevation: float | None = None
    elevation: str | Path | None = None
    elevation_crs: str | None = None
    gps_order: str | None = None
    columns: Mapping[str, str] | None = None
    pitch: float | None = None
    yaw: float | None = None
    hfov: float | None = None
    camera: str | Path | None = None
    gcp: str | Path | None = None
    building_height: float = 4.5
    roof_height: float = 4.0
    align: str = "auto"

    def __post_init__(self):
        for name in ("building_height", "roof_height"):
            value = getattr(self, name)
            if not 0 <= value <= 500:
                raise InputError(f"`{name}` {value}: expected metres from 0 to 500")
        if self.align not in ALIGN:
            raise InputError(f"`align` {self.align!r}: expected one of {', '.join(ALIGN)}")

    def files(self) -> list[str | Path]:
        """The files that are read."""
        named = (self.elevation, self.camera, self.gcp)
        return [path for path in named if path is not None]


class Flight:
    """Where a video's pixels lie on the ground.

    Attributes:
        telemetry: on the video's time.
        duration_s: length of the video.
        size: width and height of the frames.
        options: as given.
        notes: what is wrong, a line each.
        doubts: why all places of the flight may be wrong, a line each; also among them is what the
            log leaves open and nothing has confirmed.
        found_hfov: field of view that the picture's motion told, where nothing else does.
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
        self.doubts = list(telemetry.guesses.values())
        self.found_hfov: float | None = None
        self.offsets = PoseOffsets()
        self.terrain = None
        if options.elevation is not None:
            grid = ElevationGrid.read(options.elevation, options.elevation_crs)
            self.terrain = Terrain.for_flight(grid, telemetry, options.takeoff_elevation)
        if options.camera is not None:
            # A file that is for other cameras is the flight's fault, not that of an observation.
            Camera.from_file(options.camera, *size)
        if options.gcp is not None:
            self._calibrate(fps)

    @classmethod
    def read(
        cls,
        log: Path | Telemetry,
        *,
        duration_s: float,
        size: tuple[float, float],
        fps: float,
        start: datetime | None,
        options: FlightOptions,
    ) -> Flight:
        """Read the log of a video that began at ``start``, or take one that was read.

        Raises:
            InputError: if it is no log that is known, or of another flight.
        """
        telemetry = log
        if not isinstance(log, Telemetry):
            telemetry = Telemetry.read(log, columns=options.columns, gps_order=options.gps_order)
        telemetry = telemetry.for_video(duration_s, start=start, offset_s=options.telemetry_offset)
        telemetry = telemetry.with_angles(pitch=options.pitch, yaw=options.yaw)
        if options.takeoff_altitude is not None:
            telemetry = telemetry.with_takeoff_altitude(options.takeoff_altitude)
        return cls(telemetry, duration_s=duration_s, size=size, fps=fps, options=options)

    def _calibrate(self, fps: float) -> None:
        points = read_gcps(self.options.gcp)
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
                f"{Path(self.options.gcp).name}: the log has no position, height, angles or "
                f"field of view at the frames of points {', '.join(map(str, lost[:5]))}"
            )
        calibration = calibrate_pose(points, samples, cameras, terrain=self.terrain)
        self.offsets = calibration.offsets
        self.notes += calibration.notes

    def lens(self, sample: TelemetrySample, hfov: float | None = None) -> Camera | None:
        """The camera as log and options have it; ``hfov`` counts where they have none."""
        options, size = self.options, self.size
        camera = Camera.for_sample(sample, *size, hfov_deg=options.hfov, file=options.camera)
        if camera is None and hfov is not None:
            camera = Camera.for_sample(sample, *size, hfov_deg=hfov)
        return camera

    def _camera(self, sample: TelemetrySample, size: tuple[float, float]) -> Camera | None:
        options = self.options
        hfov = options.hfov or self.found_hfov
        camera = Camera.for_sample(sample, *size, hfov_deg=hfov, file=options.camera)
        return None if camera is None else self.offsets.apply_camera(camera)

    def projector(self, time_s: float, size: tuple[float, float] | None = None) -> GroundProjector:
        """The way from pixels to the ground at a time of the video."""
        sample = self.telemetry.at(time_s)
        camera = self._camera(sample, size or self.size)
        return GroundProjector(camera, self.offsets.apply(sample), terrain=self.terrain)
