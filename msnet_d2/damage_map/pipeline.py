"""From videos and flight logs to the folder of a damage map."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from msnet_d2 import __version__
from msnet_d2.damage_map.buildings.assessment import Building, Rules, find_buildings
from msnet_d2.damage_map.buildings.association import link
from msnet_d2.damage_map.buildings.levels import LEVELS
from msnet_d2.damage_map.buildings.observations import VideoResults, read_results
from msnet_d2.damage_map.buildings.placement import part_height, place
from msnet_d2.damage_map.geometry.flight import Flight, FlightOptions
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.output.folder import FORMAT, MARKER, check_folder, whole_folder
from msnet_d2.damage_map.output.gpkg import import_pyogrio, write_gpkg
from msnet_d2.damage_map.output.kmz import write_kmz
from msnet_d2.damage_map.output.page import build_page
from msnet_d2.damage_map.output.photos import plan_mosaics, take_pictures
from msnet_d2.damage_map.output.records import (
    BUILDING_COLUMNS,
    PART_COLUMNS,
    MapGrid,
    building_record,
    part_records,
)
from msnet_d2.damage_map.output.table import write_csv, write_geojson
from msnet_d2.damage_map.telemetry.telemetry import find_telemetry
from msnet_d2.errors import InputError, VideoError
from msnet_d2.utils.file_io import write_json, write_text
from msnet_d2.utils.redact import redact_paths
from msnet_d2.utils.text import natural_key
from msnet_d2.utils.video_io import VIDEO_SUFFIXES, open_video

__all__ = ["MapSummary", "find_videos", "make_map"]

logger = logging.getLogger(__name__)


class Detector(Protocol):
    """What finds damage in a video, such as :class:`msnet_d2.video.detector.VideoDetector`."""

    def detect(
        self,
        source: Path,
        *,
        out: Path,
        results: Path,
        results_min_score: float,
        progress: bool,
    ) -> Any:
        """Write the results of a video and, if it draws, the annotated video ``out``.

        Returns:
            What has a ``status``, or None.
        """


@dataclass
class MapSummary:
    """What became of a map.

    Attributes:
        out: its folder.
        buildings: number by level's name, "not assessed" among them.
        parts: number of damaged parts.
        to_review: number of buildings that a person should look at.
        placed: number of buildings with a place.
        videos: names of those that are in it.
        notes: what to know, a line each.
        problems: what could not be used, a line each; the map is incomplete if there is any.
        seconds: time for each step.
    """

    out: Path
    buildings: dict[str, int]
    parts: int
    to_review: int
    placed: int
    videos: list[str]
    notes: list[str]
    problems: list[str]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of buildings."""
        return sum(self.buildings.values())


@dataclass
class _Source:
    """A video that can be used."""

    path: Path
    results: VideoResults
    flight: Flight | None
    notes: list[str]


def find_videos(names: Sequence[str | Path]) -> list[Path]:
    """Videos named by ``names``: each itself, or all videos of a folder that holds some.

    A folder without videos is one itself: of frames.
    """
    found: list[Path] = []
    for path in map(Path, names):
        inside = []
        if path.is_dir():
            inside = sorted(
                (p for p in path.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()),
                key=natural_key,
            )
        found += inside or [path]
    return found


def make_map(
    videos: Sequence[str | Path],
    results: Sequence[str | Path] | None = None,
    out: str | Path = "map",
    *,
    telemetry: Sequence[str | Path] | None = None,
    use_telemetry: bool = True,
    options: FlightOptions | None = None,
    rules: Rules | None = None,
    min_score: float = 0.3,
    detector: Detector | None = None,
    progress: bool = False,
) -> MapSummary:
    """Map the damaged buildings of one or more videos.

    Args:
        videos: files or folders of frames.
        results: what ``msnet video --results`` wrote for each; None: ``detector`` finds it.
        out: folder to make; an earlier map there is replaced.
        telemetry: flight log of each video, or one for all; None: those beside the videos.
        use_telemetry: False: no log is looked for, and nothing gets a place.
        options: how logs are read.
        rules: what it takes for a building to be assessed.
        min_score: detections that score less are left out.
        detector: where there are no results, such as
            :class:`msnet_d2.video.detector.VideoDetector`.
        progress: show a progress bar of the detection.

    Returns:
        The summary. With several videos, those that cannot be used are among its problems.

    Raises:
        InputError: over the arguments, or over the only video; then nothing is written.
        VideoError: if the only video cannot be read.
        DependencyError: without pyproj or pyogrio.
    """
    videos = [Path(v) for v in videos]
    options, rules = options or FlightOptions(), rules or Rules()
    logs = _check_arguments(videos, results, telemetry, options, min_score, detector)
    import_pyogrio()
    out = Path(out)
    inputs = [*videos, *(results or []), *(telemetry or []), *options.files()]
    check_folder(out, inputs)
    seconds: dict[str, float] = {}
    with whole_folder(out, inputs) as folder:
        clock = _Clock(seconds)
        sources, problems = [], []
        for k, video in enumerate(videos):
            try:
                given = None if results is None else Path(results[k])
                if given is None:
                    # Videos of different folders may share a name.
                    stem = video.stem if len(videos) == 1 else f"{k + 1}_{video.stem}"
                    given = _detect(detector, video, folder, stem, min_score, progress)
                clock.lap("detection")
                log = logs[k] or (find_telemetry(video) if use_telemetry else None)
                number = len(sources)
                sources.append(_open(video, given, log, number, min_score, options))
            except (InputError, VideoError) as error:
                if len(videos) == 1:
                    raise
                logger.warning("%s is left out: %s", video.name, error)
                reason = redact_paths(str(error), video)
                problems.append(f"{video.name} is left out: {reason}")
        if not sources:
            raise InputError(f"none of the {len(videos)} videos can be used; {problems[0]}")
        clock.lap("reading")
        summary = _map(sources, folder, out, rules, problems, clock)
        write_json(folder / MARKER, _summary_json(summary, sources, options))
    return summary


def _check_arguments(videos, results, telemetry, options, min_score, detector) -> list[Path | None]:
    """The log of each video, None where none was named."""
    if not videos:
        raise InputError("no video to map; name at least one")
    if results is not None and len(results) != len(videos):
        raise InputError(
            f"{len(videos)} videos but {len(results)} results; give one results file for each "
            "video, in the same order"
        )
    if results is None and detector is None:
        raise InputError("neither results nor a detector")
    if not 0 <= min_score <= 1:
        raise InputError(f"--min-score is a score from 0 to 1, got {min_score}")
    if options.control is not None and len(videos) > 1:
        raise InputError("--control belongs to the frames of one video; map that one by itself")
    if len({v.resolve() for v in videos}) < len(videos):
        raise InputError("the same video is named twice")
    if not telemetry:
        return [None] * len(videos)
    logs = [Path(t) for t in telemetry]
    if len(logs) not in (1, len(videos)):
        raise InputError(
            f"{len(videos)} videos but {len(logs)} flight logs; give one for all, or one for each "
            "in the same order"
        )
    return logs if len(logs) == len(videos) else logs * len(videos)


def _detect(
    detector: Detector, video: Path, folder: Path, stem: str, min_score: float, progress: bool
) -> Path:
    target = folder / "videos"
    target.mkdir(exist_ok=True)
    found, marked = target / f"{stem}.json", target / f"{stem}.mp4"
    try:
        done = detector.detect(
            video, out=marked, results=found, results_min_score=min_score, progress=progress
        )
    except BaseException:
        for path in (found, marked):
            path.unlink(missing_ok=True)
        raise
    if done is not None and done.status == "interrupted":
        raise KeyboardInterrupt
    return found


def _open(
    video: Path,
    results: Path,
    log: Path | None,
    number: int,
    min_score: float,
    options: FlightOptions,
) -> _Source:
    from msnet_d2.video.reader import VideoReader

    with VideoReader(video) as reader:
        info = reader.info
        duration = info.duration_s
    found = read_results(results, video=number, min_score=min_score)
    last = found.frames[-1][0] if found.frames else -1
    if info.frame_count is not None and last >= info.frame_count:
        raise InputError(
            f"{results}: the results of another video? They go to frame {last}, and {video.name} "
            f"has {info.frame_count} frames"
        )
    if sorted(found.size) != sorted((info.width, info.height)):
        raise InputError(
            f"{results}: the results of another video? They are of frames of {found.size[0]:.0f} "
            f"x {found.size[1]:.0f}, and {video.name} has {info.width} x {info.height}"
        )
    found.name = video.name
    notes = [f"incomplete: {p}" for p in found.problems]
    if log is None:
        notes.append("no flight log: its buildings have no place")
        return _Source(video, found, None, notes)
    flight = Flight.read(
        log,
        duration_s=duration or found.duration_s,
        size=found.size,
        fps=found.fps,
        start=_start_of(video),
        options=options,
    )
    notes += [f"{log.name}: {n}" for n in flight.notes]
    return _Source(video, found, flight, notes)


def _start_of(video: Path) -> datetime | None:
    """When recording began, as the file says; None if it does not."""
    if not video.is_file():
        return None
    try:
        with open_video(video) as container:
            return datetime.fromisoformat(container.metadata["creation_time"])
    except (KeyError, ValueError, OSError):
        return None


def _map(
    sources: list[_Source],
    folder: Path,
    out: Path,
    rules: Rules,
    problems: list[str],
    clock: _Clock,
) -> MapSummary:
    videos = [s.results for s in sources]
    flights = [s.flight for s in sources]
    local = next((EnuFrame(*f.telemetry.home) for f in flights if f is not None), None)
    tracks = []
    for source in sources:
        if source.flight is not None:
            unplaced = place(source.flight, source.results.observations, local)
            source.notes += [
                f"{n} observations have no place: {why}" for why, n in unplaced.items()
            ]
        tracks += link(source.results.observations)
    clock.lap("linking")
    buildings = find_buildings(tracks, _placer(flights, local), rules)
    grid = MapGrid([b.point for b in buildings if b.point is not None])
    records = [building_record(b, videos, local, grid) for b in buildings]
    parts = [p for b in buildings for p in part_records(b, videos, local)]
    clock.lap("merging")
    mosaics = plan_mosaics(flights, videos, local)
    crops = take_pictures([s.path for s in sources], buildings, videos, mosaics, problems)
    clock.lap("pictures")
    write_geojson(folder / "damage.geojson", records, parts)
    write_gpkg(folder / "damage.gpkg", records, parts, BUILDING_COLUMNS, PART_COLUMNS)
    write_csv(folder / "buildings.csv", records, BUILDING_COLUMNS)
    write_kmz(folder / "damage.kmz", records, parts, crops)
    page = build_page(
        buildings,
        records,
        parts,
        local=local,
        grid=grid,
        videos=[_about(s) for s in sources],
        tracks=[None if f is None else _flight_line(f, local) for f in flights],
        crops=crops,
        mosaics=list(mosaics.values()),
        problems=problems,
    )
    write_text(folder / "index.html", page)
    clock.lap("writing")
    return MapSummary(
        out=out,
        buildings=_counts(buildings),
        parts=len(parts),
        to_review=sum(b.needs_review for b in buildings),
        placed=sum(b.point is not None for b in buildings),
        videos=[v.name for v in videos],
        notes=[f"{s.results.name}: {n}" for s in sources for n in s.notes],
        problems=problems,
        seconds=clock.seconds,
    )


def _placer(flights: list[Flight | None], local: EnuFrame | None):
    def to_ground(observation, part, pixels: np.ndarray) -> np.ndarray | None:
        flight = flights[observation.video]
        if flight is None:
            return None
        projector = flight.projector(observation.time_s, observation.size)
        height = part_height(part, flight.options)
        found = projector.to_ground(pixels, height_m=height)
        return None if found.failure.any() else local.to_xy(found.lat_lon)

    return to_ground


def _flight_line(flight: Flight, local: EnuFrame) -> np.ndarray:
    """The log's places (N, 2) in local metres while the video runs; all of them if none is."""
    track = flight.telemetry.track
    during = (track[:, 0] >= -1) & (track[:, 0] <= flight.duration_s + 1)
    return local.to_xy(track[during if during.any() else slice(None), 1:3])


def _counts(buildings: list[Building]) -> dict[str, int]:
    return {
        level.name: sum(b.level is level for b in buildings)
        for level in sorted(LEVELS, key=lambda lv: -lv.number)
    }


def _about(source: _Source) -> dict[str, Any]:
    return {
        "name": source.results.name,
        "duration_s": round(source.results.duration_s, 3),
        "frames": len(source.results.frames),
        "flight_log": None if source.flight is None else source.flight.telemetry.source,
        "weights_sha256": source.results.weights_sha256,
        "notes": source.notes,
    }


def _summary_json(summary: MapSummary, sources: list[_Source], options: FlightOptions) -> dict:
    """What ``summary.json`` holds; without paths and times, so that equal runs give equal files."""
    return {
        "format": FORMAT,
        "version": __version__,
        "buildings": summary.buildings,
        "parts": summary.parts,
        "to_review": summary.to_review,
        "placed": summary.placed,
        "building_height_m": options.building_height,
        "roof_height_m": options.roof_height,
        "videos": [_about(s) for s in sources],
        "problems": summary.problems,
    }


class _Clock:
    """Adds up the time of steps."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """The time since the last call was for ``step``."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now
