"""The videos of a map: finding them, detecting in them, and what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from msnet_d2.damage_map.alignment.flight import align_flight
from msnet_d2.damage_map.buildings.observations import MapVideo
from msnet_d2.damage_map.geometry.flight import Flight, FlightOptions
from msnet_d2.damage_map.telemetry.telemetry import Telemetry
from msnet_d2.errors import InputError
from msnet_d2.utils.file_io import leads_out
from msnet_d2.utils.text import natural_key, printable
from msnet_d2.utils.video_io import VIDEO_SUFFIXES
from msnet_d2.video.reader import VideoReader
from msnet_d2.video.results import VideoResults, read_results
from msnet_d2.video.stream import VideoInfo

__all__ = ["Detector", "detect", "find_videos", "open_video"]


# Sides of a frame by the longer one of the video's, where the size changes in between.
_MAX_GROWTH = 4


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
            A :class:`msnet_d2.video.pipeline.VideoSummary`, or None where the video was not read
            as a whole.
        """


def find_videos(names: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """Videos named by ``names``: each itself, or all videos of a folder that holds some.

    A folder without videos is one itself: of frames. Links that lead out of a folder are not
    followed.

    Returns:
        The videos, and what was left out and why, a line each.

    Raises:
        InputError: if nothing is left.
    """
    found: list[Path] = []
    left_out: list[str] = []
    for path in map(Path, names):
        inside = []
        if path.is_dir():
            inside = sorted(
                (p for p in path.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()),
                key=natural_key,
            )
        outside = [p for p in inside if leads_out(p, path)]
        left_out += [
            f"{printable(p.name)} is left out: it is a link that leads out of its folder; name the "
            "video that it leads to"
            for p in outside
        ]
        found += [p for p in inside if p not in outside] if inside else [path]
    if not found and left_out:
        raise InputError(f"no video to map; {left_out[0]}")
    return found, left_out


def detect(
    detector: Detector, video: Path, target: Path, *, min_score: float, progress: bool
) -> tuple[Path, VideoInfo | None]:
    """Detect in a video.

    Args:
        detector: that writes the results.
        video: to look at.
        target: results file and annotated video, without a suffix; its folder is made.
        min_score: detections that score less are left out.
        progress: show a progress bar.

    Returns:
        The results file, and what is known of the video if the detector says so.

    Raises:
        KeyboardInterrupt: if the user interrupted it.
    """
    target.parent.mkdir(exist_ok=True)
    found, marked = (target.with_name(target.name + suffix) for suffix in (".json", ".mp4"))
    try:
        done = detector.detect(
            video, out=marked, results=found, results_min_score=min_score, progress=progress
        )
    except BaseException:
        for path in (found, marked):
            path.unlink(missing_ok=True)
        raise
    if done is None:
        return found, None
    if done.status == "interrupted":
        raise KeyboardInterrupt
    return found, done.info


def open_video(
    path: Path,
    results: Path,
    log: Path | Telemetry | None,
    *,
    order: int,
    info: VideoInfo | None = None,
    options: FlightOptions | None = None,
) -> MapVideo:
    """What is known of a video: its results and its flight.

    Args:
        path: of the video.
        results: of the detection in it.
        log: its flight log, on disk or read, or None.
        order: its place among the videos of the map.
        info: what is known of the video; None: it is opened.
        options: how the log is read.

    Raises:
        InputError: if results or log cannot be read, or are of another video.
        VideoError: if the video cannot be opened.
    """
    if info is None:
        with VideoReader(path) as reader:
            info = reader.info
    found = read_results(results)
    _check_same(found, results, path, info)
    notes = [f"incomplete: {p}" for p in found.summary.problems]
    if log is None:
        notes.append("no flight log: its buildings have no place")
        return MapVideo(path, order, found, None, tuple(notes), info.created)
    flight = Flight.read(
        log,
        duration_s=info.duration_s or found.duration_s,
        size=(float(found.video.width), float(found.video.height)),
        fps=found.video.fps,
        start=info.created,
        options=options or FlightOptions(),
    )
    align_flight(flight, path)
    notes += [f"{flight.telemetry.source}: {n}" for n in flight.notes]
    return MapVideo(path, order, found, flight, tuple(notes), info.created)


def _check_same(found: VideoResults, source: Path, video: Path, info: VideoInfo) -> None:
    """See that results are of this video."""
    last = found.frames[-1].index if found.frames else -1
    if info.frame_count is not None and last >= info.frame_count:
        raise InputError(
            f"{source}: the results of another video? They go to frame {last}, and {video.name} "
            f"has {info.frame_count} frames"
        )
    if sorted((found.video.width, found.video.height)) != sorted((info.width, info.height)):
        raise InputError(
            f"{source}: the results of another video? They are of frames of {found.video.width} "
            f"x {found.video.height}, and {video.name} has {info.width} x {info.height}"
        )
    longest = _MAX_GROWTH * max(info.width, info.height)
    for frame in found.frames:
        if max(found.frame_size(frame)) > longest:
            width, height = found.frame_size(frame)
            raise InputError(
                f"{source}: the results of another video? Frame {frame.index} has {width} x "
                f"{height} pixels, and {video.name} {info.width} x {info.height}"
            )
