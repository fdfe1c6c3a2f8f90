"""Paired bootstrap: is the difference of two methods more than the luck of these images?

Images (or whole scenes) of each split are drawn with replacement, the same ones for every method,
and the metrics are taken again. The difference of two methods, averaged over the splits, has a
distribution over such draws, whose middle 95% are the interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from msnet_d2.errors import InputError

__all__ = ["Difference", "draw_weights", "paired_difference"]

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """A method's metric minus another's, mean over splits, in percentage points.

    Attributes:
        value: on the images themselves; NaN if either metric is undefined there.
        low, high: ends of the 95% interval.
        positive: share of draws in which the difference is above 0 (ties count half).
    """

    value: float
    low: float
    high: float
    positive: float

    @property
    def significant(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def draw_weights(
    num_images: int, samples: int, seed: Sequence[int], groups: Sequence | None = None
) -> np.ndarray:
    """How often each draw takes each image; the first row is every image once.

    Args:
        num_images: I.
        samples: number of draws, B.
        seed: the same one gives the same draws.
        groups: I names; images of one name are drawn together. None: each image by itself.

    Returns:
        (1 + B, I) float.

    Raises:
        InputError: if there is nothing to draw.
    """
    if num_images < 1 or samples < 1:
        raise InputError(f"cannot draw {samples} times from {num_images} images")
    rng = np.random.default_rng(list(seed))
    names = list(range(num_images)) if groups is None else list(groups)
    group_of = np.unique([str(name) for name in names], return_inverse=True)[1]
    count = group_of.max() + 1
    draws = rng.multinomial(count, np.full(count, 1 / count), size=samples)
    return np.concatenate([np.ones((1, num_images)), draws[:, group_of]])


def paired_difference(
    ours: Sequence[Mapping[str, np.ndarray]],
    theirs: Sequence[Mapping[str, np.ndarray]],
    metric: str,
) -> Difference:
    """Difference of two methods on the same draws.

    Args:
        ours: for each split the metrics of all draws, of
            :func:`~msnet_benchmark.matches.metrics_of_choices` with :func:`draw_weights`.
        theirs: the same of the other method, in the same order.
        metric: which one.

    Returns:
        All NaN if it is undefined on the images themselves. Draws without any ground truth for
        the metric are left out.
    """
    difference = np.mean([a[metric] - b[metric] for a, b in zip(ours, theirs)], axis=0)
    value, draws = float(difference[0]), difference[1:]
    draws = draws[~np.isnan(draws)]
    if np.isnan(value) or len(draws) == 0:
        return Difference(value, float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    positive = float((draws > 0).mean() + (draws == 0).mean() / 2)
    return Difference(value, float(low), float(high), positive)
