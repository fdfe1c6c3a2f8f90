"""Exact optical flow between frames: one .npz a pair.

The JSON has ``images`` and ``pairs``: {id, image_id, flow_file_name, frame_index, to_frame_index}.
A file holds ``flow`` (h, w, 2) float16, in pixels of the whole frame, and ``valid`` (h, w) bool, of
every ``step``-th pixel of every ``step``-th row.
"""

from __future__ import annotations

import zipfile
from functools import partial

import numpy as np

from msnet_d2.data.isbda.issues import Issue
from msnet_d2.data.isbda.reading import is_id
from msnet_d2.data.kinds.report import KindReport, check_files, start_report
from msnet_d2.errors import DatasetError
from msnet_d2.utils.text import brief

__all__ = ["describe", "find_pixel_issues", "read", "read_flow"]

MAX_STEP = 64
MAX_BYTES = 1 << 30  # of the arrays of one file


def read(json_file: str, image_root: str, truth_root: str, table: str | None) -> KindReport:
    """Read a data set of flow.

    Args:
        json_file: see the module.
        image_root: folder of the images.
        truth_root: folder of the .npz files.
        table: none is known.

    Returns:
        One record a pair: ``file_name``, ``image_id``, ``height``, ``width``, ``video_id``,
        ``frame_index``, ``to_frame_index``, ``flow_file_name`` and ``step``.
    """
    if table is not None:
        raise DatasetError(f"flow has no label tables, so none named {table!r}")
    report, content, images = start_report(json_file, image_root, truth_root, ("images", "pairs"))
    if content is None:
        return report
    step = content.get("step", 1)
    if type(step) is not int or not 1 <= step <= MAX_STEP:
        report.report("fatal", "step", f"step is {brief(step)}, not a number from 1 to {MAX_STEP}")
        step = 1
    report.records = []
    for index, raw in enumerate(content["pairs"]):
        image_id = raw.get("image_id") if isinstance(raw, dict) else None
        image = images.get(image_id) if is_id(image_id) else None
        if image is None:
            message = f"pairs[{index}] has the image_id {brief(image_id)}, of no image"
            report.report("fatal", "unknown-image", message)
            continue
        frames = raw.get("frame_index"), raw.get("to_frame_index")
        if not all(type(f) is int and f >= 0 for f in frames):
            message = f"pairs[{index}] goes from frame {brief(frames[0])} to {brief(frames[1])}"
            report.report("fatal", "frame-index", message, image_id)
            continue
        path = report.resolve(raw.get("flow_file_name"), "flow_file_name", image_id)
        report.records.append(
            {
                **image,
                "frame_index": frames[0],
                "to_frame_index": frames[1],
                "flow_file_name": path,
                "step": step,
            }
        )
    return report


def read_flow(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Flow (h, w, 2) float32, in pixels, and where it is valid (h, w) bool, of a file.

    Raises:
        DatasetError: if it cannot be read, or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise DatasetError(f"{path} holds more than {MAX_BYTES} bytes")
        with np.load(path, allow_pickle=False) as file:
            flow, valid = file["flow"], file["valid"]
    except DatasetError:
        raise
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} cannot be read as flow: {error}") from error
    shapes = flow.ndim == 3 and flow.shape[2] == 2 and valid.shape == flow.shape[:2]
    if not shapes or flow.dtype.kind != "f" or valid.dtype != bool:
        raise DatasetError(
            f"{path} holds flow {flow.shape} {flow.dtype} and valid {valid.shape} {valid.dtype}; "
            "expected (h, w, 2) of floats and (h, w) of bool"
        )
    flow = flow.astype(np.float32)
    if not np.isfinite(flow[valid]).all():
        raise DatasetError(f"{path} has valid flow that is not a finite number")
    return flow, valid


def find_pixel_issues(
    report: KindReport, workers: int | None = None, progress: bool = False
) -> list[Issue]:
    """Open every file: it must hold flow of the frame's size."""
    todo = [r for r in report.records if r["flow_file_name"] and r["width"] and r["height"]]
    return check_files(todo, partial(_check), workers, progress, "flow file")


def _check(record: dict) -> list[Issue]:
    path, step = record["flow_file_name"], record["step"]
    try:
        _, valid = read_flow(path)
    except DatasetError as error:
        return [Issue("fatal", "flow-file", record["image_id"], None, str(error))]
    expected = -(-record["height"] // step), -(-record["width"] // step)
    if valid.shape != expected:
        message = f"{path} is {valid.shape[1]}x{valid.shape[0]}, expected "
        message += f"{expected[1]}x{expected[0]} for a step of {step}"
        return [Issue("fatal", "flow-size", record["image_id"], None, message)]
    if not valid.any():
        message = f"{path} has no valid pixel"
        return [Issue("kept", "no-valid-flow", record["image_id"], None, message)]
    return []


def describe(report: KindReport) -> str:
    """Pairs and motion by gap, as a table for people."""
    from tabulate import tabulate

    by_gap: dict[int, list[tuple[float, float, float]]] = {}
    for record in report.records:
        flow, valid = read_flow(record["flow_file_name"])
        length = np.linalg.norm(flow[valid], axis=-1)
        if not len(length):
            length = np.full(1, np.nan)
        gap = record["to_frame_index"] - record["frame_index"]
        figures = float(valid.mean()), float(np.median(length)), float(length.max())
        by_gap.setdefault(gap, []).append(figures)
    rows = [
        [gap, len(values), f"{shares.mean():.1%}", medians.mean(), longest.max()]
        for gap, values in sorted(by_gap.items())
        for shares, medians, longest in [np.array(values).T]
    ]
    heads = ["frames on", "pairs", "valid", "median px", "most px"]
    return tabulate(rows, heads, "simple", floatfmt=".1f") + f"\n\n{len(report.records):,} pairs"
