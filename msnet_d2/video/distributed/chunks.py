"""Detection in pieces of videos that can be done anywhere, in any order, and more than once.

A chunk is a range of frames. Score refinement looks at neighbours, and so a chunk is detected with
some frames more on both sides, which are dropped when the chunks of a video are joined. What comes
out is byte by byte what one pass over the video gives, track numbers included.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from msnet_d2.errors import InputError, VideoError
from msnet_d2.utils.file_io import write_text

__all__ = ["Chunk", "DetectorSettings", "detect_chunk", "join_chunks", "plan_chunks"]

# Where scores are carried on (MODEL.SRN.CARRY) a frame depends on all before it, on each half as
# much as on the next: on one so far away by 2^-64, when single precision ends at 2^-24.
CARRY_FRAMES = 64
# Detections from this score on count in a video's summary, as in `msnet video`.
_COUNTED_SCORE = 0.5


@dataclass(frozen=True)
class DetectorSettings:
    """All that a process needs to detect as another one does.

    Attributes:
        config: the whole configuration, as YAML.
        weights: checkpoint, where every worker finds it.
        batch_size: frames at once.
        stride: every so many frames.
        allow_partial_weights: whether the checkpoint may lack parts of the model.
        acceleration: :class:`.acceleration.Acceleration`, its precision resolved:
            workers that choose for themselves would differ; None: as Detectron2 computes.
    """

    config: str
    weights: str
    batch_size: int = 1
    stride: int = 1
    allow_partial_weights: bool = False
    acceleration: Any = None

    @property
    def overlap(self) -> int:
        """How many frames, by index, a chunk needs on both sides."""
        srn = _load(self.config).MODEL.SRN
        if not srn.ENABLED:
            return 0
        return int(srn.MAX_GAP) + (CARRY_FRAMES * self.stride if srn.CARRY else 0)


@dataclass(frozen=True)
class Chunk:
    """A piece of a video.

    Attributes:
        first: index of its first frame.
        end: index after its last frame; None: to the end of the video.
        overlap: frames more on both sides.
    """

    first: int = 0
    end: int | None = None
    overlap: int = 0


def plan_chunks(video: str | Path, settings: DetectorSettings, seconds: float) -> list[Chunk]:
    """Split a video into chunks of about ``seconds``, the last one up to half longer.

    Raises:
        VideoError: if it cannot be opened.
    """
    from msnet_d2.video.reader import VideoReader

    with VideoReader(video) as reader:
        info = reader.info
    overlap = settings.overlap
    count = info.frame_count or round((info.duration_s or 0) * info.fps)
    length = max(1, round(seconds * float(info.fps)), 2 * overlap)
    length = -(-length // settings.stride) * settings.stride
    if count < 1.5 * length:
        return [Chunk()]
    pieces = max(1, round(count / length))
    starts = [k * length for k in range(pieces)]
    return [Chunk(a, b, overlap) for a, b in zip(starts, [*starts[1:], None])]


@lru_cache(maxsize=2)
def _load(config: str) -> Any:
    from msnet_d2.config import get_msnet_cfg

    cfg = get_msnet_cfg()
    cfg.merge_from_other_cfg(cfg.load_cfg(config))
    cfg.freeze()
    return cfg


@lru_cache(maxsize=1)
def _predictor(settings: DetectorSettings) -> Any:
    from msnet_d2.inference.predictor import Predictor

    cfg = _load(settings.config).clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = settings.weights
    return Predictor(
        cfg,
        allow_partial_weights=settings.allow_partial_weights,
        acceleration=settings.acceleration,
    )


def detect_chunk(settings: DetectorSettings, video: str, chunk: Chunk) -> str:
    """Detect in a chunk; the model is built once a process.

    Returns:
        What ``msnet video --results`` would write for its frames and the overlap, detections of
        all scores in it.

    Raises:
        VideoError: if the video cannot be decoded.
    """
    from msnet_d2.score_refinement.refiner import ScoreRefiner
    from msnet_d2.video.detections import StreamDetector, describe_model
    from msnet_d2.video.pipeline import VideoSummary, process_video
    from msnet_d2.video.reader import VideoReader

    cfg = _load(settings.config)
    start = max(0, chunk.first - chunk.overlap)
    most = None
    if chunk.end is not None:
        most = -(-(chunk.end + chunk.overlap - start) // settings.stride)
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoReader(video, stride=settings.stride, start=start) as reader,
    ):
        model = _predictor(settings)
        refiner = ScoreRefiner(cfg) if cfg.MODEL.SRN.ENABLED else None
        path = Path(folder) / "chunk.json"
        try:
            process_video(
                reader,
                StreamDetector(model, refiner, video_id=reader.info.name),
                metadata=model.metadata,
                results=path,
                batch_size=settings.batch_size,
                stride=settings.stride,
                max_frames=most,
                model=describe_model(model, refiner),
            )
        except VideoError:
            # The header promised more frames than there are: what is left is the reader's report.
            if not chunk.first or not reader.report.frames_read:
                raise
            summary = VideoSummary("complete", 0, {}, reader.report, 0.0).to_json()
            return _dump({"frames": [], "summary": summary})
        return path.read_text(encoding="utf-8")


def join_chunks(
    texts: Sequence[str], chunks: Sequence[Chunk], target: Path, min_score: float = 0.0
) -> None:
    """Write one results file from those of a video's chunks.

    Args:
        texts: what :func:`detect_chunk` returned, in order.
        chunks: of them.
        target: file to write.
        min_score: detections and buildings that score less are left out.

    Raises:
        InputError: if the chunks do not continue each other.
    """
    pieces = [json.loads(text) for text in texts]
    head = {k: v for k, v in pieces[0].items() if k not in ("frames", "summary")}
    names = {c["id"]: c["name"] for c in head["categories"]}
    counts = dict.fromkeys(names.values(), 0)
    lines: list[str] = []
    shown: dict[int, list[int]] = {}  # tracks of the frames that the next chunk has too
    tracks = 0
    for piece, chunk in zip(pieces, chunks, strict=True):
        renamed, fresh = _continue_tracks(piece["frames"], chunk, shown, tracks)
        kept: dict[int, list[int]] = {}
        for frame in piece["frames"]:
            index = frame["index"]
            if index < chunk.first or (chunk.end is not None and index >= chunk.end):
                continue
            ids = []
            for item in frame["instances"]:
                if item.get("track_id") is not None:
                    old = item["track_id"]
                    item["track_id"] = renamed[old] if old in renamed else old - fresh + tracks
                    ids.append(item["track_id"])
                counts[names[item["category_id"]]] += item["score"] >= _COUNTED_SCORE
            kept[index] = ids
            for key in ("instances", "parents"):
                if key in frame:
                    frame[key] = [i for i in frame[key] if i["score"] >= min_score]
            lines.append(_dump(frame))
        tracks = max([tracks, *(t + 1 for ids in kept.values() for t in ids)])
        shown = kept
    summary = pieces[-1]["summary"]
    summary.update(frames_processed=len(lines), instances=counts)
    # As ResultsWriter writes it: a frame a line.
    text = _dump(head)[:-1] + ',\n"frames": [' + ",".join("\n" + line for line in lines)
    write_text(target, f'{text}\n],\n"summary": {_dump(summary)}}}\n')


def _continue_tracks(
    frames: Sequence[dict], chunk: Chunk, shown: dict[int, list[int]], tracks: int
) -> tuple[dict[int, int], int]:
    """New numbers of tracks that began before the chunk, and how many numbers those took."""
    renamed: dict[int, int] = {}
    fresh = 0
    for frame in frames:
        if frame["index"] >= chunk.first:
            break
        ids = [i["track_id"] for i in frame["instances"] if i.get("track_id") is not None]
        fresh = max([fresh, *(i + 1 for i in ids)])
        known = shown.get(frame["index"])
        if known is None:
            continue
        if len(known) != len(ids):
            raise InputError(
                f"frame {frame['index']} has {len(known)} detections in one chunk and {len(ids)} "
                "in the next; were they detected on machines that differ?"
            )
        renamed.update(zip(ids, known))
    return renamed, fresh


def _dump(content: Any) -> str:
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def settings_key(settings: DetectorSettings, weights_sha256: str) -> dict[str, Any]:
    """What of the settings decides what is found; not where the weights lie."""
    return {**asdict(settings), "weights": weights_sha256}
