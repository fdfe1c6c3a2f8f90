"""Hooks of training: seeds of each step, and a check of the weights before they are saved."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from msnet_d2.errors import TrainingError
from msnet_d2.modeling.output_guard import first_non_finite

__all__ = ["FiniteWeights", "SeededSteps", "check_gradients", "describe_step"]


class SeededSteps(HookBase):
    """Let the random numbers of a step depend on the run's seed and the iteration alone.

    So a resumed training draws the same as one that was never interrupted.
    """

    def before_step(self) -> None:
        """Seed Python, NumPy and torch, the GPUs included."""
        entropy = (self.trainer.seed, comm.get_rank(), self.trainer.iter)
        seeds = np.random.SeedSequence(entropy).generate_state(3)
        random.seed(int(seeds[0]))
        np.random.seed(seeds[1])  # noqa: NPY002
        torch.manual_seed(int(seeds[2]))


class FiniteWeights(HookBase):
    """Stop before weights, or a state of the optimiser, that are not numbers are saved.

    Loss and gradient are checked in every step. This is for what spoils the weights all the same:
    an update that overflows, a moment of the optimiser, a hook of somebody else.
    """

    def __init__(self, period: int):
        """See the class.

        Args:
            period: iterations between checkpoints; the last iteration is checked too.
        """
        self._period = period

    def after_step(self) -> None:
        """Check before each checkpoint.

        Raises:
            TrainingError: with the name of the first broken tensor.
        """
        step = self.trainer.iter + 1
        if step != self.trainer.max_iter and (self._period <= 0 or step % self._period):
            return
        name = first_non_finite(self.trainer.model)
        if name is None:
            name = _first_non_finite_moment(self.trainer.optimizer)
        if name is not None:
            raise TrainingError(
                f"training diverged at iteration {self.trainer.iter}: {name} is not finite any "
                f"more; {describe_step(self.trainer)}; no checkpoint was written of it; lower "
                "SOLVER.BASE_LR or set SOLVER.CLIP_GRADIENTS.ENABLED True"
            )


def check_gradients(trainer) -> None:
    """Stop before a step that would break the weights.

    Args:
        trainer: an :class:`msnet_d2.engine.MSNetTrainer` between backward and step.

    Raises:
        TrainingError: with the iteration, the first parameter whose gradient is not finite, the
            losses and the images.
    """
    model = trainer.model
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients:
        return
    # The maximum, since a sum of squares may overflow where no gradient does; one read from a GPU.
    largest = torch.stack([norm.float() for norm in torch._foreach_norm(gradients, math.inf)])
    if torch.isfinite(largest.max()):
        return
    name = next(
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
    )
    raise TrainingError(
        f"training diverged at iteration {trainer.iter}: the gradient of {name} is not finite; "
        f"{describe_step(trainer)}; lower SOLVER.BASE_LR, or check the data with msnet check"
    )


def describe_step(trainer) -> str:
    """The losses and the images of the step in hand, for a message."""
    losses = ", ".join(
        f"{name} {value:.4g}"
        for name, (value, _) in sorted(trainer.storage.latest().items())
        if "loss" in name
    )
    return f"losses: {losses or 'unknown'}; images: {trainer.data_loader.describe()}"


def _first_non_finite_moment(optimizer: torch.optim.Optimizer) -> str | None:
    for number, (parameter, state) in enumerate(optimizer.state.items()):
        for name, value in state.items():
            if torch.is_tensor(value) and not torch.isfinite(value).all():
                shape = "x".join(map(str, parameter.shape))
                return f"the optimiser's {name} of parameter {number} ({shape})"
    return None
