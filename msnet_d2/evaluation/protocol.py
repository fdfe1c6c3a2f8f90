"""What is measured: the protocols of COCO and of ISBDA, as pure functions of a precision table.

Shape letters: T IoU thresholds, R = 101 recall levels, K categories, A = 4 area ranges. A precision
table is a float array (T, R, K, A) in [0, 1]; -1 stands where there is no ground truth (no value is
defined there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "AREA_RANGES",
    "COCO_PROTOCOL",
    "ISBDA_PROTOCOL",
    "MAX_DETECTIONS",
    "RECALL_LEVELS",
    "EvalProtocol",
    "summarize",
    "union_of_thresholds",
]

# Name in the metrics -> area in pixels, both ends included (COCO).
AREA_RANGES = {
    "": (0.0, 1e5**2),
    "s": (0.0, 32.0**2),
    "m": (32.0**2, 96.0**2),
    "l": (96.0**2, 1e5**2),
}
RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
# Best detections of an image and a category that count.
MAX_DETECTIONS = 100


@dataclass(frozen=True)
class EvalProtocol:
    """IoU thresholds over which AP is the mean, and those that are reported by themselves.

    Attributes:
        name: for people.
        iou_thresholds: ascending.
        singled_out: metric -> threshold, such as ``{"AP50": 0.5}``; every threshold is one of
            ``iou_thresholds``.
    """

    name: str
    iou_thresholds: tuple[float, ...]
    singled_out: dict[str, float]


# linspace, as in pycocotools: arange's values lie a rounding error above the true ones.
COCO_PROTOCOL = EvalProtocol(
    "COCO, IoU 0.50:0.05:0.95",
    tuple(np.linspace(0.5, 0.95, 10).tolist()),
    {"AP50": 0.5, "AP75": 0.75},
)
# The paper prints no thresholds, and its AP lies above its AP50. Its authors' code takes these six.
ISBDA_PROTOCOL = EvalProtocol(
    "ISBDA, IoU 0.25:0.05:0.50",
    tuple(np.linspace(0.25, 0.5, 6).tolist()),
    {"AP25": 0.25, "AP50": 0.5},
)


def union_of_thresholds(protocols: Sequence[EvalProtocol]) -> list[float]:
    """All IoU thresholds, ascending, each once: one matching serves all ``protocols``."""
    return sorted({threshold for protocol in protocols for threshold in protocol.iou_thresholds})


def summarize(
    precision: np.ndarray,
    iou_thresholds: Sequence[float],
    protocol: EvalProtocol,
    class_names: Sequence[str] = (),
) -> dict[str, float]:
    """Metrics of one task, in percent.

    Args:
        precision: table (T, R, K, A), see the module.
        iou_thresholds: the T thresholds of the table; a superset of the protocol's.
        protocol: which of them count.
        class_names: K names; with more than one, each gets its own ``AP-name``.

    Returns:
        ``AP``, the protocol's singled out metrics, ``APs``, ``APm``, ``APl``, ``AP-…``, in this
        order. A metric is NaN where there is no ground truth it could be taken over, 0 where there
        is some and none of it was found.

    Raises:
        ValueError: if a threshold of the protocol is missing in ``iou_thresholds``.
    """
    columns = list(iou_thresholds)
    rows = [columns.index(threshold) for threshold in protocol.iou_thresholds]
    areas = list(AREA_RANGES)
    everything = precision[rows][..., areas.index("")]

    metrics = {"AP": _mean(everything)}
    for name, threshold in protocol.singled_out.items():
        metrics[name] = _mean(precision[columns.index(threshold), ..., areas.index("")])
    for name in ("s", "m", "l"):
        metrics[f"AP{name}"] = _mean(precision[rows][..., areas.index(name)])
    if len(class_names) > 1:
        for index, name in enumerate(class_names):
            metrics[f"AP-{name}"] = _mean(everything[:, :, index])
    return metrics


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean() * 100) if defined.size else float("nan")
