"""The results file of a video: what was found in each frame, written as the frames come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from msnet_d2.errors import InputError, VideoError
from msnet_d2.utils.file_io import PendingFile
from msnet_d2.video.detections import Detections
from msnet_d2.video.stream import Frame, VideoInfo

__all__ = ["FORMAT", "VERSION", "ResultsWriter", "detections_to_json"]

FORMAT = "msnet video results"
VERSION = 1


class ResultsWriter:
    """Writes one JSON object, a line a frame, to a temporary that gets its name when complete.

    The object has ``format``, ``version``, ``video`` (name, size, rate …), ``model``,
    ``categories``, ``frames`` (see :func:`detections_to_json`) and ``summary`` (``status``
    "complete", "incomplete", "interrupted" or "limited", frames read and lost, problems). No path
    is in it, names of files only. Memory does not grow with the number of frames.
    """

    def __init__(self, path: str | Path):
        """Open the temporary file beside ``path``.

        Raises:
            InputError: if the folder does not exist.
        """
        self._path = Path(path)
        if not self._path.parent.is_dir():
            raise InputError(f"the folder {self._path.parent} for the results does not exist")
        self._pending = PendingFile(self._path, ".part")
        self._file = open(self._pending.path, "w", encoding="utf-8")  # noqa: SIM115
        self._frames = 0
        self._size: tuple[int, int] | None = None

    def start(self, info: VideoInfo, model: dict, categories: list[dict]) -> None:
        """Write what stands before the frames.

        Args:
            info: of the source.
            model: what to say of the model, as JSON: weights, architecture, refinement.
            categories: of COCO's form (``id``, ``name``).
        """
        self._size = (info.width, info.height)
        video = {
            "name": info.name,
            "kind": info.kind,
            "width": info.width,
            "height": info.height,
            "fps": round(float(info.fps), 6),
            "frame_count": info.frame_count,
            "duration_s": info.duration_s,
            "codec": info.codec or None,
            "pixel_format": info.pixel_format or None,
            "rotation": info.rotation,
        }
        head = {
            "format": FORMAT,
            "version": VERSION,
            "video": video,
            "model": model,
            "categories": categories,
        }
        self._file.write(_dump(head)[:-1] + ',\n"frames": [')

    def write(self, frame: Frame, entry: dict) -> None:
        """Write a frame; ``entry`` as :func:`detections_to_json` makes it."""
        line: dict[str, Any] = {"index": frame.index, "time_s": round(frame.time_s, 6)}
        if frame.damaged:
            line["damaged"] = True
        size = frame.image.shape[1::-1]
        if size != self._size:
            line["width"], line["height"] = size
        try:
            self._file.write((",\n" if self._frames else "\n") + _dump({**line, **entry}))
        except OSError as error:
            raise VideoError(f"cannot write the results {self._path.name}: {error}") from error
        self._frames += 1

    def close(self, summary: dict) -> None:
        """Write the summary and give the file its name.

        Raises:
            VideoError: if it cannot be written.
        """
        try:
            self._file.write(f'\n],\n"summary": {_dump(summary)}}}\n')
            self._file.close()
            self._pending.commit()
        except OSError as error:
            raise VideoError(f"cannot write the results {self._path.name}: {error}") from error

    def abort(self) -> None:
        """Remove what was written; harmless to repeat, and after :meth:`close` without effect."""
        self._file.close()
        self._pending.discard()


def detections_to_json(
    detections: Detections,
    size: tuple[int, int],
    category_ids: list[int],
    min_score: float = 0.0,
) -> dict:
    """What was found in a frame, in the terms of COCO's results files.

    Args:
        detections: N.
        size: (H, W) of the frame.
        category_ids: the data set's id of each class.
        min_score: detections and buildings with a lower score are left out.

    Returns:
        ``instances``: a dict each with ``category_id``, ``bbox`` (XYWH in pixels of the frame),
        ``score``, and where there are such ``score_raw``, ``segmentation`` (RLE), ``parent_bbox``,
        ``parent_score``, ``track_id``. ``parents``: a dict each with ``bbox`` and ``score``.
    """
    instances = []
    for i in np.flatnonzero(detections.scores >= min_score):
        entry: dict[str, Any] = {
            "category_id": category_ids[int(detections.pred_classes[i])],
            "bbox": _xywh(detections.pred_boxes[i]),
            "score": _rounded(detections.scores[i], 6),
        }
        if detections.scores_raw is not None:
            entry["score_raw"] = _rounded(detections.scores_raw[i], 6)
        if detections.pred_masks is not None:
            crop = detections.pred_masks[i]
            entry["segmentation"] = None if crop is None else crop.to_rle(*size)
        if detections.pred_parent_boxes is not None and detections.pred_parent_boxes[i].any():
            entry["parent_bbox"] = _xywh(detections.pred_parent_boxes[i])
            if detections.parent_scores is not None:
                entry["parent_score"] = _rounded(detections.parent_scores[i], 6)
        if detections.track_id is not None and detections.track_id[i] >= 0:
            entry["track_id"] = int(detections.track_id[i])
        instances.append(entry)
    result: dict[str, Any] = {"instances": instances}
    if detections.parents is not None:
        result["parents"] = [
            {"bbox": _xywh(box), "score": _rounded(score, 6)}
            for box, score in zip(detections.parents.pred_boxes, detections.parents.scores)
            if score >= min_score
        ]
    return result


def _dump(content: Any) -> str:
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def _rounded(value: Any, digits: int) -> float:
    return round(float(value), digits)


def _xywh(box: Any) -> list[float]:
    x0, y0, x1, y1 = (float(v) for v in box)
    return [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)]
