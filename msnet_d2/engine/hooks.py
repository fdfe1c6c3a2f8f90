"""Hooks of training: a bar that shows how far it is, and a guard against broken weights."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import torch
from detectron2.engine import HookBase
from torch import nn
from tqdm import tqdm

from msnet_d2.engine.worker_errors import error_of_worker
from msnet_d2.errors import MSNetError, TrainingError

__all__ = ["FiniteWeights", "ProgressBar", "ProgressLoader", "first_non_finite", "on_terminal"]


def on_terminal() -> bool:
    """Whether somebody may be watching: a progress bar in a log file would only be in the way."""
    return sys.stderr.isatty()


class ProgressBar(HookBase):
    """Iterations, seconds left, total loss and learning rate on one line of the terminal."""

    def __init__(self, disable: bool = False):
        self._disable = disable
        self._bar: tqdm | None = None

    def before_train(self) -> None:
        """Open the bar."""
        self._bar = tqdm(
            total=self.trainer.max_iter,
            initial=self.trainer.start_iter,
            desc="training",
            unit="step",
            disable=self._disable,
            dynamic_ncols=True,
        )

    def after_step(self) -> None:
        """Move the bar on."""
        latest = self.trainer.storage.latest()
        shown = {
            short: f"{latest[name][0]:.3g}"
            for name, short in (("total_loss", "loss"), ("lr", "lr"))
            if name in latest
        }
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


class FiniteWeights(HookBase):
    """Stop before weights that are not numbers are saved.

    A gradient may overflow although the loss did not: the weights are then broken, and the loss
    tells so one step later, when the checkpoint may have been written.
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
        if name is not None:
            raise TrainingError(
                f"training diverged at iteration {self.trainer.iter}: {name} is not finite any "
                "more; no checkpoint was written of it; lower SOLVER.BASE_LR or set "
                "SOLVER.CLIP_GRADIENTS.ENABLED True"
            )


def first_non_finite(model: nn.Module) -> str | None:
    """Name of the first parameter or buffer of ``model`` that holds NaN or infinity; None: none."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


class ProgressLoader:
    """``loader`` with a progress bar on a terminal; it keeps its length."""

    def __init__(self, loader: Iterable, description: str, visible: bool = True):
        self._loader = loader
        self._description = description
        self._visible = visible and on_terminal()

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator:
        bar = tqdm(
            self._loader,
            desc=self._description,
            unit="batch",
            disable=not self._visible,
            dynamic_ncols=True,
        )
        try:
            yield from bar
        except MSNetError as error:
            raise error_of_worker(error) or error from None
