"""A confusion matrix as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msnet_d2.utils.file_io import write_bytes

__all__ = ["draw_confusion"]


def draw_confusion(matrix: np.ndarray, class_names: Sequence[str], path: str | Path) -> None:
    """Draw the share of each true class's pixels that is predicted as each class.

    Args:
        matrix: of :func:`msnet_d2.evaluation.semantic.confusion_matrix`.
        class_names: by class.
        path: of the PNG, written whole or not at all.
    """
    # The object interface draws without a display and leaves pyplot's global state alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    true = matrix.sum(axis=1, keepdims=True)
    missed = bool(matrix[:, -1].any())
    shares = np.divide(matrix, true, out=np.full(matrix.shape, np.nan), where=true > 0)
    shares = 100 * shares[:, : matrix.shape[1] if missed else -1]
    columns = [*class_names, *(["(none)"] if missed else [])]
    side = 1.5 + 0.8 * len(columns)
    figure = Figure(figsize=(side + 1, side), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for (row, column), share in np.ndenumerate(shares):
        text = "" if np.isnan(share) else f"{share:.1f} %"
        color = "white" if share > 55 else "black"
        axes.text(column, row, text, ha="center", va="center", color=color)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())
