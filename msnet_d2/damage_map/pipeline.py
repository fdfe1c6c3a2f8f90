"""From videos and flight logs to the folder of a damage map."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from msnet_d2 import __version__
from msnet_d2.damage_map.buildings.assessment import Rules, find_buildings
from msnet_d2.damage_map.buildings.association import Track, link
from msnet_d2.damage_map.buildings.levels import LEVELS
from msnet_d2.damage_map.buildings.observations import (
    MapVideo,
    Observation,
    UnplacedObservation,
    observations_of,
)
from msnet_d2.damage_map.buildings.placement import place
from msnet_d2.damage_map.buildings.urgency import rank_by_urgency
from msnet_d2.damage_map.geometry.flight import Flight, FlightOptions
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.output.folder import FORMAT, MARKER, check_folder, whole_folder
from msnet_d2.damage_map.output.gpkg import import_pyogrio, write_gpkg
from msnet_d2.damage_map.output.grid import MapGrid
from msnet_d2.damage_map.output.kmz import write_kmz
from msnet_d2.damage_map.output.page import build_page, photos_beside
from msnet_d2.damage_map.output.photos import Pictures, take_pictures
from msnet_d2.damage_map.output.records import (
    MapContent,
    VideoRecord,
    building_record,
    part_records,
)
from msnet_d2.damage_map.output.table import write_csv, write_geojson
from msnet_d2.damage_map.reviews import Review, apply_reviews
from msnet_d2.damage_map.telemetry.embedded import read_embedded
from msnet_d2.damage_map.telemetry.telemetry import find_telemetry
from msnet_d2.damage_map.videos import Detector, detect, open_video
from msnet_d2.errors import (
    ConfigError,
    DependencyError,
    InputError,
    MSNetError,
    OutputError,
    WeightsError,
)
from msnet_d2.utils.file_io import write_bytes, write_json, write_text
from msnet_d2.utils.redact import redact_paths
from msnet_d2.utils.text import printable

__all__ = ["MapSummary", "make_map"]

logger = logging.getLogger(__name__)

# What the page links to.
_LINKED = ("buildings.csv", "damage.geojson", "damage.gpkg", "damage.kmz")


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
        doubts: why places may be wrong, a line each; the map is doubtful if there is any.
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
    doubts: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of buildings."""
        return sum(self.buildings.values())


def make_map(
    videos: Sequence[str | Path],
    out: str | Path,
    *,
    detector: Detector | None = None,
    results: Sequence[str | Path] | None = None,
    telemetry: Sequence[str | Path] | None = None,
    use_telemetry: bool = True,
    options: FlightOptions | None = None,
    rules: Rules | None = None,
    min_score: float = 0.3,
    reviews: Sequence[Review] = (),
    left_out: Sequence[str] = (),
    progress: bool = False,
) -> MapSummary:
    """Map the damaged buildings of one or more videos.

    Args:
        videos: files or folders of frames.
        out: folder to make; an earlier map there is replaced.
        detector: finds the damage, such as :class:`msnet_d2.video.detector.VideoDetector`.
        results: files that ``msnet video`` wrote for each video, instead of a detector.
        telemetry: flight log of each video, or one for all; None: those beside or inside them.
        use_telemetry: False: no log is looked for, and nothing gets a place.
        options: how logs are read.
        rules: what it takes for a building to be assessed.
        min_score: detections that score less are left out.
        reviews: what people said of an earlier map of the place; those that fit no building are
            among the problems.
        left_out: what :func:`.videos.find_videos` left out; among the problems.
        progress: show a progress bar of the detection.

    Returns:
        The summary. With several videos, those that cannot be used are among its problems.

    Raises:
        InputError: over the arguments, or over the only video; then nothing is written.
        VideoError: if the only video cannot be read.
        DependencyError: without pyproj or pyogrio.
    """
    paths = [Path(v) for v in videos]
    options, rules = options or FlightOptions(), rules or Rules()
    logs = _check_arguments(paths, results, telemetry, options, min_score, detector)
    import_pyogrio()
    out = Path(out)
    inputs = [*paths, *(results or []), *(telemetry or []), *options.files()]
    check_folder(out, inputs)
    clock = _Clock()
    with whole_folder(out, inputs) as folder:
        seen: dict[MapVideo, list[Observation]] = {}
        problems = list(left_out)
        for k, path in enumerate(paths):
            try:
                if results is not None:
                    found, info = Path(results[k]), None
                else:
                    # Videos of different folders may share a name.
                    stem = path.stem if len(paths) == 1 else f"{k + 1}_{path.stem}"
                    target = folder / "videos" / stem
                    found, info = detect(
                        detector, path, target, min_score=min_score, progress=progress
                    )
                clock.lap("detection")
                log = logs[k]
                if log is None and use_telemetry:
                    log = find_telemetry(path) or read_embedded(path)
                video = open_video(path, found, log, order=len(seen), info=info, options=options)
                seen[video] = observations_of(video, min_score=min_score)
            except (ConfigError, DependencyError, OutputError, WeightsError):
                raise  # of all videos
            except Exception as error:
                if len(paths) == 1:
                    raise
                known = isinstance(error, MSNetError)
                logger.warning("%s is left out: %s", path.name, error, exc_info=not known)
                reason = str(error) if known else f"a defect of msnet_d2 ({type(error).__name__})"
                reason = redact_paths(reason, path)
                problems.append(printable(f"{path.name} is left out: {reason}"))
        if not seen:
            raise InputError(f"none of the {len(paths)} videos can be used; {problems[-1]}")
        clock.lap("reading")
        content = _find(seen, rules, clock)
        records, lost = apply_reviews(content.records, reviews, content.enu)
        problems += lost
        pictures = take_pictures(list(seen), content.buildings, content.enu)
        problems += [*pictures.problems, *_nothing_placed(content)]
        content = replace(content, records=records, problems=tuple(problems))
        clock.lap("pictures")
        _write(folder, content, pictures)
        summary = _summary(out, content, clock)
        write_json(folder / MARKER, _summary_json(summary, content, options))
        clock.lap("writing")
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
    if (results is None) == (detector is None):
        raise InputError("give `detector` or `results`, and not both")
    if not 0 <= min_score <= 1:
        raise InputError(f"`min_score` is a score from 0 to 1, got {min_score}")
    if options.gcp is not None and len(videos) > 1:
        raise InputError("`gcp` belongs to the frames of one video; map that one by itself")
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


def _find(
    seen: Mapping[MapVideo, Sequence[Observation]], rules: Rules, clock: _Clock
) -> MapContent:
    """From what was seen in each video to buildings and their records."""
    enu = next((EnuFrame(*v.flight.telemetry.home) for v in seen if v.flight is not None), None)
    tracks: list[Track] = []
    notes: dict[MapVideo, list[str]] = {}
    for video, observations in seen.items():
        if enu is not None and video.flight is not None:
            observations = place(observations, enu)
        notes[video] = [*video.notes, *_unplaced_notes(observations)]
        tracks += link(observations)
    clock.lap("linking")
    buildings = find_buildings(tracks, enu, rules)
    grid = MapGrid([b.point for b in buildings if b.point is not None])
    ranks = rank_by_urgency(buildings)
    records = tuple(building_record(b, enu, grid, ranks[b.number]) for b in buildings)
    parts = tuple(p for b in buildings for p in part_records(b, enu))
    clock.lap("merging")
    return MapContent(
        enu=enu,
        grid=grid,
        buildings=tuple(buildings),
        records=records,
        parts=parts,
        videos=tuple(_video_record(v, notes[v]) for v in seen),
        flight_lines=tuple(_flight_line(v.flight, enu) for v in seen),
        problems=(),
    )


def _nothing_placed(content: MapContent) -> list[str]:
    """A problem if there are logs and buildings, but not one place."""
    if content.enu is None or not content.buildings:
        return []
    if any(b.point is not None for b in content.buildings):
        return []
    return [f"none of the {len(content.buildings)} buildings has a place; the notes say why"]


def _unplaced_notes(observations: Sequence[Observation]) -> list[str]:
    reasons = Counter(o.reason for o in observations if isinstance(o, UnplacedObservation))
    return [f"{count} observations have no place: {reason}" for reason, count in reasons.items()]


def _flight_line(flight: Flight | None, enu: EnuFrame | None) -> np.ndarray | None:
    """The log's places (N, 2) in metres east and north while the video runs; all of them if none
    is."""
    if flight is None or enu is None:
        return None
    track = flight.telemetry.track
    during = (track[:, 0] >= -1) & (track[:, 0] <= flight.duration_s + 1)
    return enu.to_xy(track[during if during.any() else slice(None), 1:3])


def _video_record(video: MapVideo, notes: Sequence[str]) -> VideoRecord:
    return VideoRecord(
        name=video.name,
        duration_s=round(video.results.duration_s, 3),
        frames=len(video.results.frames),
        flight_log=None if video.flight is None else video.flight.telemetry.source,
        weights_sha256=video.weights_sha256,
        start=None if video.start is None else video.start.isoformat(timespec="seconds"),
        notes=tuple(notes),
        doubts=() if video.flight is None else tuple(video.flight.doubts),
    )


def _write(folder: Path, content: MapContent, pictures: Pictures) -> None:
    """Write all files of a map but the summary."""
    write_geojson(folder / "damage.geojson", content.records, content.parts, content.doubts)
    write_gpkg(folder / "damage.gpkg", content.records, content.parts)
    write_csv(folder / "buildings.csv", content.records)
    write_kmz(folder / "damage.kmz", content.records, content.parts, pictures.crops, content.doubts)
    for name, photo in photos_beside(pictures).items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_bytes(folder / name, photo)
    write_text(folder / "index.html", build_page(content, pictures, _LINKED))


def _summary(out: Path, content: MapContent, clock: _Clock) -> MapSummary:
    buildings = content.buildings
    return MapSummary(
        out=out,
        buildings={
            level.name: sum(b.level is level for b in buildings)
            for level in sorted(LEVELS, key=lambda level: -level.number)
        },
        parts=len(content.parts),
        to_review=sum(b.needs_review for b in buildings),
        placed=sum(b.point is not None for b in buildings),
        videos=[v.name for v in content.videos],
        notes=[f"{v.name}: {n}" for v in content.videos for n in v.notes],
        problems=list(content.problems),
        seconds=clock.seconds,
        doubts=list(content.doubts),
    )


def _summary_json(summary: MapSummary, content: MapContent, options: FlightOptions) -> dict:
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
        "videos": [asdict(v) for v in content.videos],
        "problems": summary.problems,
        "doubts": summary.doubts,
    }


class _Clock:
    """Adds up the time of steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """The time since the last call was for ``step``."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now
