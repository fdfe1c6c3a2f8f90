"""End-point error of optical flow."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog

from msnet_d2.data.kinds.flow import read_flow
from msnet_d2.errors import DatasetError, InputError

__all__ = ["endpoint_error", "score_flow_folder"]

OUTLIER_PX = 3.0


def endpoint_error(predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Distances (N,) in pixels between two flows (H, W, 2) where ``valid`` (H, W), N places."""
    return np.linalg.norm((predicted - truth)[valid].astype(np.float64), axis=-1)


def score_flow_folder(dataset_name: str, predictions: str | Path) -> OrderedDict:
    """Score flow of any tool.

    Args:
        dataset_name: of a registered data set of the kind flow.
        predictions: folder of .npz files, named and shaped as those of the truth, with ``flow`` and
            ``valid`` (where it is given; the truth's places without it count as an error of the
            whole motion).

    Returns:
        ``flow`` and a row for each gap: ``EPE`` (mean, pixels), ``median`` (pixels), ``outliers``
        (share above 3 px, percent), and ``zero_EPE`` of no motion at all, over all valid pixels.

    Raises:
        InputError: if a prediction is missing or has another shape.
    """
    by_gap: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for record in DatasetCatalog.get(dataset_name):
        truth, valid = read_flow(record["flow_file_name"])
        path = Path(predictions, Path(record["flow_file_name"]).name)
        if not path.is_file():
            raise InputError(f"{predictions} has no {path.name}")
        try:
            flow, given = read_flow(str(path))
        except DatasetError as error:
            raise InputError(str(error)) from error
        if flow.shape != truth.shape:
            raise InputError(f"{path} is of shape {flow.shape}, the truth of {truth.shape}")
        flow = np.where(given[..., None], flow, 0)
        gap = record["to_frame_index"] - record["frame_index"]
        still = np.zeros_like(truth)
        errors = endpoint_error(flow, truth, valid), endpoint_error(still, truth, valid)
        by_gap.setdefault(gap, []).append(errors)
    rows = OrderedDict(flow=_row([pair for pairs in by_gap.values() for pair in pairs]))
    for gap, pairs in sorted(by_gap.items()):
        rows[f"gap {gap}"] = _row(pairs)
    return rows


def _row(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    errors, still = (np.concatenate([p[n] for p in pairs] or [np.zeros(0)]) for n in (0, 1))
    if not len(errors):
        return dict.fromkeys(("EPE", "median", "outliers", "zero_EPE"), float("nan"))
    return {
        "EPE": float(errors.mean()),
        "median": float(np.median(errors)),
        "outliers": float(100 * (errors > OUTLIER_PX).mean()),
        "zero_EPE": float(still.mean()),
    }
