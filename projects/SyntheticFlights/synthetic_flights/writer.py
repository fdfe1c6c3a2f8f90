"""Writes a data set of rendered flights in ISBDA's layout, one process a flight."""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2

from msnet_d2.errors import InputError
from msnet_d2.utils.file_io import write_text
from msnet_d2.utils.output_folder import replaced_folder
from synthetic_flights.config import GENERATOR_VERSION, SceneConfig
from synthetic_flights.encode import VideoSink, write_json, write_picture
from synthetic_flights.labels import CATEGORIES, annotate
from synthetic_flights.scene import Flight
from synthetic_flights.telemetry import srt_text
from synthetic_flights.truth import flight_truth
from synthetic_flights.truth_files import FlightTruth, TruthOptions, write_truth_annotations

__all__ = ["DatasetPlan", "default_val_videos", "write_dataset"]

MARKER = ".msnet-synth.json"  # says that a folder is ours, and by which settings
FOLDERS = ("train", "val", "annotations", "videos")
_KIND = "synthetic data set"

log = logging.getLogger(__name__)


def default_val_videos(videos: int) -> int:
    """Return how many of ``videos`` are for validation: a fifth, at least one unless there is one
    only.
    """
    return 0 if videos < 2 else max(1, round(0.2 * videos))


@dataclass(frozen=True)
class DatasetPlan:
    """What to write and where.

    Attributes:
        out: the folder.
        scene: size, length and seed of every flight; its ``video`` is not used.
        videos: number of flights.
        val_videos: how many of them, the last ones, are for validation; None: about a fifth.
        every: one frame of so many is annotated and written as a picture. ISBDA: 10.
        write_videos: whether ``videos/`` is written.
        workers: processes. The files do not depend on it.
        overwrite: replace what is in ``out`` even if another program wrote it, or this one with
            other settings. What others wrote is kept: in ``out`` where its name is free, else in
            ``OUT.before``.
        truth: what is written beside ISBDA's files.
    """

    out: Path
    scene: SceneConfig
    videos: int
    val_videos: int | None = None
    every: int = 10
    write_videos: bool = True
    workers: int = 1
    overwrite: bool = False
    truth: TruthOptions = field(default_factory=TruthOptions)

    def __post_init__(self):
        if self.videos < 1:
            raise InputError(f"{self.videos} videos: expected at least 1")
        if self.every < 1:
            raise InputError(f"--every {self.every}: expected at least 1")
        if self.workers < 1:
            raise InputError(f"{self.workers} workers: expected at least 1")
        if self.val_videos is not None and not 0 <= self.val_videos <= self.videos:
            raise InputError(
                f"{self.val_videos} validation videos of {self.videos}: expected 0..{self.videos}"
            )

    def settings(self) -> dict:
        """What the files depend on, as JSON gives it back."""
        scene = {k: v for k, v in asdict(self.scene).items() if k != "video"}
        # The name that data sets of generator version 1 hold it under.
        scene["ppm"] = scene.pop("texels_per_meter")
        # Options that came later are told where they are used.
        for key in ("trees", "flood"):
            if scene[key] == getattr(SceneConfig, key):
                del scene[key]
        own = {key: getattr(self, key) for key in ("videos", "every", "write_videos")}
        own["val_videos"] = sum(self.side(v) == "val" for v in range(1, self.videos + 1))
        if self.truth:
            own["truth"] = asdict(self.truth)
        return json.loads(json.dumps({"version": GENERATOR_VERSION, **own, "scene": scene}))

    def side(self, video: int) -> str:
        """Return ``train`` or ``val`` for video 1..videos."""
        val = default_val_videos(self.videos) if self.val_videos is None else self.val_videos
        return "val" if video > self.videos - val else "train"


def write_dataset(plan: DatasetPlan, progress: Callable[[int], None] | None = None) -> dict:
    """Render all flights and write the data set, whole or not at all.

    Args:
        plan: what to write.
        progress: called with a number of frames done, now and then.

    Returns:
        Counts by side: ``{"train": {"videos", "images", "annotations", "levels"}, "val": …,
        "codec"}``.

    Raises:
        InputError: if the folder holds something else, or a whole data set of other settings, and
            ``plan.overwrite`` is not set.
        OutputError: if another run writes to it.
    """
    _check(plan)
    with replaced_folder(plan.out, _KIND, overwrite=plan.overwrite) as folder:
        return _write(replace(plan, out=folder), progress)


def _write(plan: DatasetPlan, progress: Callable[[int], None] | None) -> dict:
    write_json(
        plan.out / MARKER,
        {
            "generator": "msnet synth",
            "generator_version": GENERATOR_VERSION,
            "settings": plan.settings(),
        },
    )
    jobs = [(plan, video) for video in range(1, plan.videos + 1)]
    if plan.workers == 1:
        results = [_write_flight(*job, progress) for job in jobs]
    else:
        results = _in_processes(plan, jobs, progress)
    summary: dict = {}
    for side in ("train", "val"):
        images, annotations = [], []
        for video, result in enumerate(results, start=1):
            if plan.side(video) != side:
                continue
            for image, found in result["images"]:
                image_id = len(images) + 1
                images.append({"id": image_id, **image})
                for annotation in found:
                    annotations.append(
                        {"id": len(annotations) + 1, "image_id": image_id, **annotation}
                    )
        info = {
            "description": "Rendered drone flights over damaged buildings",
            "generator_version": GENERATOR_VERSION,
            "seed": plan.scene.seed,
        }
        document = {
            "info": info,
            "images": images,
            "annotations": annotations,
            "categories": CATEGORIES,
        }
        (plan.out / side).mkdir(exist_ok=True)
        flights = [r["more"] for v, r in enumerate(results, start=1) if plan.side(v) == side]
        write_truth_annotations(plan.out, side, plan.truth, info, images, flights)
        write_json(plan.out / "annotations" / f"instances_{side}.json", document)
        summary[side] = {
            "videos": sum(plan.side(v) == side for v in range(1, plan.videos + 1)),
            "images": len(images),
            "annotations": len(annotations),
            "levels": [sum(a["category_id"] == c["id"] for a in annotations) for c in CATEGORIES],
        }
    summary["codec"] = results[0]["codec"]
    # Last: a folder with a ground truth is complete.
    write_json(
        plan.out / "ground_truth.json",
        {
            "generator": "msnet synth",
            "generator_version": GENERATOR_VERSION,
            "seed": plan.scene.seed,
            "conventions": "local metres: x east, y north, z up from the origin on the ground; yaw "
            "clockwise from north, pitch negative downwards, roll positive right side down, "
            "degrees; image (0, 0) is the upper left corner",
            "videos": [
                {"split": plan.side(v), **r["truth"]} for v, r in enumerate(results, start=1)
            ],
        },
    )
    return summary


def _check(plan: DatasetPlan) -> None:
    """Say what a folder is that is not to be replaced; what is not ours in it is found later."""
    out = plan.out
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; expected a folder, or a name that is free")
    taken = out.is_dir() and any(out.iterdir())
    if taken and not (out / MARKER).is_file() and not plan.overwrite:
        raise InputError(
            f"{out} is not empty and was not written by `msnet synth`; choose another folder, or "
            f"let it put {', '.join((*FOLDERS, *plan.truth.folders))} and ground_truth.json in "
            "there with --overwrite"
        )
    whole = taken and (out / "ground_truth.json").exists()
    if whole and not plan.overwrite and _settings_of(out) != plan.settings():
        raise InputError(
            f"{out} holds a data set that was made with other settings; choose another folder, or "
            "replace it with --overwrite"
        )


def _settings_of(out: Path) -> dict | None:
    """Settings of the data set in ``out``; None if they cannot be told."""
    try:
        return json.loads((out / MARKER).read_bytes()).get("settings")
    except (ValueError, AttributeError, RecursionError):
        return None


def _write_flight(
    plan: DatasetPlan, video: int, progress: Callable[[int], None] | None = None
) -> dict:
    """Render and write one flight; return its records."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        config = replace(plan.scene, video=video)
        flight = Flight(config)
        side = plan.side(video)
        more = FlightTruth(plan.out, side, plan.truth, flight)
        stem = plan.out / "videos" / str(video)
        if not plan.write_videos:
            images = _frames(plan, flight, side, None, more, progress)
            codec = None
        else:
            with VideoSink(
                stem.with_suffix(".mp4"), config.width, config.height, config.fps
            ) as sink:
                images = _frames(plan, flight, side, sink, more, progress)
                codec = sink.codec
            poses = (flight.pose(i) for i in range(config.num_frames))
            text = srt_text(poses, config.fps, flight.appearance, flight.intrinsics)
            write_text(stem.with_suffix(".srt"), text)
        return {
            "images": images,
            "truth": flight_truth(flight),
            "codec": codec,
            "more": more.records,
        }
    finally:
        cv2.setNumThreads(threads)


def _frames(
    plan: DatasetPlan,
    flight: Flight,
    side: str,
    sink: VideoSink | None,
    more: FlightTruth,
    progress: Callable[[int], None] | None,
) -> list:
    config = flight.config
    step = 1 if sink is not None else plan.every
    images = []
    for index in range(0, config.num_frames, step):
        kept = index % plan.every == 0
        frame = flight.frame(
            index,
            with_ids=kept,
            with_truth=kept and bool(plan.truth),
            with_clean=kept and plan.truth.clean,
        )
        if sink is not None:
            sink.write(frame.image)
        if kept:
            name = f"{config.video}_{index}.jpg"
            write_picture(plan.out / side / name, frame.image, flight.appearance.quality)
            record = {
                "file_name": name,
                "width": config.width,
                "height": config.height,
                "video_id": str(config.video),
                "frame_index": index,
                "fps": config.fps,
            }
            images.append((record, annotate(flight, frame)))
            if plan.truth:
                more.add(frame, name.removesuffix(".jpg"))
        if progress is not None:
            progress(min(step, config.num_frames - index))
    return images


_queue = None


def _start_worker(queue) -> None:
    global _queue
    _queue = queue
    cv2.setNumThreads(1)


def _worker(plan: DatasetPlan, video: int) -> dict:
    return _write_flight(plan, video, _queue.put)


def _in_processes(plan: DatasetPlan, jobs: list, progress) -> list[dict]:
    # Fresh processes: a fork of one that has run OpenCV's or torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    workers = min(plan.workers, len(jobs))
    with ProcessPoolExecutor(
        workers, context, initializer=_start_worker, initargs=(queue,)
    ) as pool:
        futures = [pool.submit(_worker, *job) for job in jobs]
        try:
            while not all(f.done() for f in futures):
                _drain(queue, progress)
                wait(futures, timeout=0.2)
                if any(f.done() and f.exception() for f in futures):
                    break
            _drain(queue, progress)
            return [f.result() for f in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _drain(queue, progress) -> None:
    while not queue.empty():
        count = queue.get()
        if progress is not None:
            progress(count)
