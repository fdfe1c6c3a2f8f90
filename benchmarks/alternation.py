"""What the scripts in this folder share: two ways of doing a thing, measured by turns.

Whatever else the machine does meets both alike. Time is that of the processor, of one thread unless
told otherwise, so that other programs on the machine do not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from msnet_benchmark.provenance import describe_run, provenance_lines

__all__ = ["Comparison", "alternate", "print_table", "spread", "use_threads"]


@dataclass(frozen=True)
class Comparison:
    """Milliseconds of processor time of both sides, round by round."""

    theirs: np.ndarray
    ours: np.ndarray

    def cells(self, digits: int = 1) -> list[str]:
        """Both sides and the ratio of each round, median (10th to 90th percentile)."""
        return [
            spread(self.theirs, digits),
            spread(self.ours, digits),
            f"**{spread(self.theirs / self.ours, 2)}×**",
        ]


def use_threads(count: int = 1) -> None:
    """Let torch and OpenCV compute in so many threads."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def alternate(
    theirs: Callable[[], object],
    ours: Callable[[], object],
    rounds: int,
    *,
    warmup: int = 1,
    repeat: int = 1,
) -> Comparison:
    """Run both by turns; who goes first changes from round to round.

    Args:
        theirs: what there was before, or is elsewhere.
        ours: what stands in its place.
        rounds: how often each is measured.
        warmup: rounds before, not measured.
        repeat: how often ``ours`` runs in a measurement, where once is too short for the clock.
    """
    taken: tuple[list, list] = ([], [])
    for number in range(-warmup, rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            times = repeat if side else 1
            start = time.process_time()
            for _ in range(times):
                (theirs, ours)[side]()
            if number >= 0:
                taken[side].append((time.process_time() - start) * 1e3 / times)
    return Comparison(*map(np.asarray, taken))


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median (10th to 90th percentile)."""
    low, middle, high = np.percentile(values, [10, 50, 90])
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown, and of what run it is."""
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(map(str, row)) + " |")
    print("\n" + "\n".join(provenance_lines(describe_run())))
