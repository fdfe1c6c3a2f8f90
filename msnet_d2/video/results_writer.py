"""Writing the results file of a video: from detections to the types of :mod:`.results`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from msnet_d2.errors import InputError, VideoError
from msnet_d2.utils.file_io import PendingFile
from msnet_d2.video.detections import Detections
from msnet_d2.video.results import (
    Box,
    FrameResults,
    ParentDetection,
    PartDetection,
    ResultsHeader,
    ResultsSummary,
    VideoResults,
)
from msnet_d2.video.stream import Frame

__all__ = ["ResultsWriter", "frame_results", "write_results"]


def frame_results(
    frame: Frame,
    detections: Detections,
    category_ids: list[int],
    *,
    source_size: tuple[int, int],
    min_score: float = 0.0,
) -> FrameResults:
    """What was found in a frame, as the results file has it.

    Args:
        frame: the frame.
        detections: N.
        category_ids: the data set's id of each class.
        source_size: width and height that the header gives.
        min_score: detections and buildings with a lower score are left out.
    """
    height, width = frame.image.shape[:2]
    other_size = (width, height) != tuple(source_size)
    parents = None
    if detections.parents is not None:
        parents = [
            ParentDetection(_xywh(box), round(float(score), 6))
            for box, score in zip(detections.parents.pred_boxes, detections.parents.scores)
            if score >= min_score
        ]
    return FrameResults(
        index=frame.index,
        time_s=round(frame.time_s, 6),
        damaged=frame.damaged,
        width=width if other_size else None,
        height=height if other_size else None,
        instances=[
            _part(detections, int(i), category_ids, (height, width))
            for i in np.flatnonzero(detections.scores >= min_score)
        ],
        parents=parents,
    )


def _part(
    detections: Detections, i: int, category_ids: list[int], size: tuple[int, int]
) -> PartDetection:
    fields: dict[str, Any] = {}
    if detections.scores_raw is not None:
        fields["score_raw"] = round(float(detections.scores_raw[i]), 6)
    if detections.pred_masks is not None and detections.pred_masks[i] is not None:
        fields["segmentation"] = detections.pred_masks[i].to_rle(*size)
    if detections.pred_parent_boxes is not None and detections.pred_parent_boxes[i].any():
        fields["parent_bbox"] = _xywh(detections.pred_parent_boxes[i])
        if detections.parent_scores is not None:
            fields["parent_score"] = round(float(detections.parent_scores[i]), 6)
    if detections.track_id is not None and detections.track_id[i] >= 0:
        fields["track_id"] = int(detections.track_id[i])
    return PartDetection(
        category_id=category_ids[int(detections.pred_classes[i])],
        bbox=_xywh(detections.pred_boxes[i]),
        score=round(float(detections.scores[i]), 6),
        **fields,
    )


def _xywh(box: Any) -> Box:
    x0, y0, x1, y1 = (float(v) for v in box)
    return round(x0, 2), round(y0, 2), round(x1 - x0, 2), round(y1 - y0, 2)


class ResultsWriter:
    """Writes a results file, a line a frame, to a temporary that gets its name when complete.

    No path is in it, names of files only. Memory does not grow with the number of frames.
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
        self._file = open(self._pending.path, "wb")  # noqa: SIM115
        self._frames = 0

    def start(self, header: ResultsHeader) -> None:
        """Write what stands before the frames."""
        self._write(msgspec.json.encode(header)[:-1] + b',\n"frames": [')

    def write(self, frame: FrameResults) -> None:
        """Write a frame."""
        self._write((b",\n" if self._frames else b"\n") + msgspec.json.encode(frame))
        self._frames += 1

    def close(self, summary: ResultsSummary) -> None:
        """Write the summary and give the file its name.

        Raises:
            VideoError: if it cannot be written.
        """
        self._write(b'\n],\n"summary": ' + msgspec.json.encode(summary) + b"}\n")
        try:
            self._file.close()
            self._pending.commit()
        except OSError as error:
            raise VideoError(f"cannot write the results {self._path.name}: {error}") from error

    def abort(self) -> None:
        """Remove what was written; harmless to repeat, and after :meth:`close` without effect."""
        self._file.close()
        self._pending.discard()

    def _write(self, content: bytes) -> None:
        try:
            self._file.write(content)
        except OSError as error:
            raise VideoError(f"cannot write the results {self._path.name}: {error}") from error


def write_results(path: str | Path, results: VideoResults) -> None:
    """Write a whole results file.

    Raises:
        InputError: if the folder does not exist.
        VideoError: if it cannot be written.
    """
    writer = ResultsWriter(path)
    try:
        header = {name: getattr(results, name) for name in ResultsHeader.__struct_fields__}
        writer.start(ResultsHeader(**header))
        for frame in results.frames:
            writer.write(frame)
        writer.close(results.summary)
    finally:
        writer.abort()
