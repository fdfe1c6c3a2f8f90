"""Loading weights to use a model with, where a half-loaded model would be worse than an error."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from msnet_d2.checkpoint.checkpointer import MSNetCheckpointer
from msnet_d2.checkpoint.classes import ModelClasses
from msnet_d2.errors import WeightsError
from msnet_d2.modeling.output_guard import first_non_finite, guard_outputs

__all__ = ["LoadedWeights", "load_trained_weights"]


class LoadedWeights(NamedTuple):
    """What is known of weights beside their numbers.

    Attributes:
        sha256: digest of the file; None if the weights stay random.
        classes: the classes that the file names.
    """

    sha256: str | None = None
    classes: ModelClasses = ModelClasses()


def load_trained_weights(
    model: nn.Module, path: str, *, allow_random: bool = False, allow_partial: bool = False
) -> LoadedWeights:
    """Load a trained model's weights, and let it refuse to compute what is not finite.

    See :func:`msnet_d2.modeling.output_guard.guard_outputs`.

    Args:
        model: receives them.
        path: file or URL.
        allow_random: whether ``path`` may be empty; the weights stay random then.
        allow_partial: whether some of the model's weights may be missing in the file, and stay
            random or are derived from others.

    Raises:
        WeightsError: if there is no such file, it does not fit the model, or it holds numbers that
            are not finite.
    """
    guard_outputs(model)
    if not path:
        if allow_random:
            return LoadedWeights()
        raise WeightsError(
            "no weights: MODEL.WEIGHTS is empty, and a model of random weights finds nothing; give "
            "a checkpoint"
        )
    checkpointer = MSNetCheckpointer(model, allow_partial=allow_partial)
    checkpointer.load(path, checkpointables=[])
    report = checkpointer.report
    assert report is not None, "a path was given"
    lacking = [
        difference
        for difference in (*report.suspicious, *report.expected)
        if difference.what != "unused"
    ]
    names = [*(f"{d.name} ({d.what})" for d in lacking), *report.initialized]
    if names and not allow_partial:
        raise WeightsError(
            f"{path} lacks {len(names)} of the model's {report.total} tensors, {names[0]} for one; "
            "it was trained with another config, or must be trained first"
        )
    broken = first_non_finite(model)
    if broken is not None:
        raise WeightsError(
            f"{path}: {broken} holds numbers that are not finite (did the training diverge?)"
        )
    return LoadedWeights(checkpointer.sha256, checkpointer.loaded_classes)
