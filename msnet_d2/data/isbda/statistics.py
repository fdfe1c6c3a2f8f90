"""What a data set consists of: levels by sizes (paper, table 1) and areas (figure 3)."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msnet_d2.utils.file_io import write_bytes

__all__ = ["SIZES", "Statistics", "collect_statistics", "draw_area_histogram", "merge_statistics"]

# COCO's sizes, by the area of the mask: small is below 32² pixels, medium below 96².
SIZES = ("small", "medium", "large")
_BOUNDS = (32**2, 96**2)
_PERCENTILE = 90  # the paper draws the areas below it
_BINS = 40


@dataclass(frozen=True)
class Statistics:
    """Counts of one data set. Crowds are not counted.

    Attributes:
        classes: names of the levels.
        areas: for each level the areas of its masks in pixels, (N,) float64, in no order.
        images: number of images, and of those without annotations.
        empty_images: see ``images``.
        videos: number of scenes; images that belong to none are not counted.
        parents: number of buildings, each once an image; 0 where the data set has none.
    """

    classes: list[str]
    areas: list[np.ndarray]
    images: int
    empty_images: int
    videos: int
    parents: int

    def table(self) -> np.ndarray:
        """Counts (levels + 1, sizes + 1): the last row and the last column are totals."""
        counts = np.zeros((len(self.classes) + 1, len(SIZES) + 1), dtype=np.int64)
        for level, areas in enumerate(self.areas):
            size = np.digitize(areas, _BOUNDS)
            counts[level, :-1] = np.bincount(size, minlength=len(SIZES))
        counts[:, -1] = counts.sum(axis=1)
        counts[-1] = counts.sum(axis=0)
        return counts

    def as_text(self) -> str:
        """Return the table and the other counts, for people."""
        from tabulate import tabulate

        rows = [[name, *map(int, row)] for name, row in zip([*self.classes, "total"], self.table())]
        head = ["level", *SIZES, "total"]
        # Columns of numbers read best when set to the right, names to the left.
        align = ("left", *["right"] * (len(head) - 1))
        lines = tabulate(rows, head, "simple", colalign=align).splitlines()
        lines.insert(len(lines) - 1, lines[1])  # a rule above the totals
        instances = sum(map(len, self.areas))
        lines.append("")
        lines.append(
            f"{_count(self.images, 'image')} ({self.empty_images} without annotations), "
            f"{_count(self.videos, 'video')}, {_count(instances, 'instance')}, "
            f"{_count(self.parents, 'building')}"
        )
        return "\n".join(lines)


def collect_statistics(dataset_dicts: Sequence[dict], classes: Sequence[str]) -> Statistics:
    """Count what dataset dicts hold.

    Args:
        dataset_dicts: as :func:`msnet_d2.data.load_isbda_json` returns them; may be empty.
        classes: names by contiguous class number.
    """
    areas: list[list[float]] = [[] for _ in classes]
    parents = empty = 0
    for record in dataset_dicts:
        annotations = [a for a in record["annotations"] if not a.get("iscrowd", 0)]
        empty += not annotations
        parents += len({a["parent_id"] for a in annotations if "parent_id" in a})
        for annotation in annotations:
            areas[annotation["category_id"]].append(annotation["area"])
    return Statistics(
        classes=list(classes),
        areas=[np.asarray(values, dtype=np.float64) for values in areas],
        images=len(dataset_dicts),
        empty_images=empty,
        videos=len({r["video_id"] for r in dataset_dicts if "video_id" in r}),
        parents=parents,
    )


def merge_statistics(parts: Sequence[Statistics]) -> Statistics:
    """Sum of the statistics of several data sets with the same classes; videos are added up."""
    return Statistics(
        classes=parts[0].classes,
        areas=[np.concatenate(areas) for areas in zip(*(part.areas for part in parts))],
        images=sum(part.images for part in parts),
        empty_images=sum(part.empty_images for part in parts),
        videos=sum(part.videos for part in parts),
        parents=sum(part.parents for part in parts),
    )


def draw_area_histogram(
    statistics: Statistics,
    path: str | os.PathLike,
    colors: Sequence[Sequence[int]] | None = None,
) -> None:
    """Draw the areas below the 90th percentile, stacked and coloured by level (paper, figure 3).

    Args:
        statistics: of the data set; with no instance the picture says so.
        path: of the PNG, written whole or not at all.
        colors: RGB of each level, 0 to 255; None: matplotlib's.
    """
    # The object interface draws without a display and leaves pyplot's global state alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel("area of the mask (pixels)")
    axes.set_ylabel("instances")
    everything = np.concatenate([np.zeros(0), *statistics.areas])
    if everything.size == 0:
        axes.text(0.5, 0.5, "no instances", ha="center", va="center", transform=axes.transAxes)
    else:
        limit = float(np.percentile(everything, _PERCENTILE))
        shown = [areas[areas <= limit] for areas in statistics.areas]
        labels = [
            f"{name} ({len(part)} of {len(areas)})"
            for name, part, areas in zip(statistics.classes, shown, statistics.areas)
        ]
        paint = [tuple(value / 255 for value in color) for color in colors] if colors else None
        axes.hist(
            shown,
            bins=np.linspace(0, limit, _BINS + 1),
            stacked=True,
            color=paint,
            label=labels,
            edgecolor="white",
            linewidth=0.4,
        )
        for bound in _BOUNDS:
            if bound < limit:
                axes.axvline(bound, color="0.35", linestyle="--", linewidth=0.8)
                axes.text(
                    bound, 0.99, f" {int(bound**0.5)}²", transform=axes.get_xaxis_transform(),
                    color="0.35", fontsize=8, va="top",
                )  # fmt: skip
        axes.set_xlim(0, limit)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
        axes.set_title(f"Areas up to the {_PERCENTILE}th percentile ({limit:,.0f} pixels)")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
