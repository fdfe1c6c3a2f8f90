"""Progress bars of training and evaluation."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from detectron2.engine import HookBase
from tqdm import tqdm

from msnet_d2.errors import MSNetError
from msnet_d2.utils.worker_errors import error_of_worker

__all__ = ["ProgressBar", "ProgressLoader", "on_terminal"]


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
        assert self._bar is not None
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


class ProgressLoader:
    """``loader`` with a progress bar on a terminal; it keeps its length."""

    def __init__(self, loader: Iterable, description: str, visible: bool = True):
        self._loader = loader
        self._description = description
        self._visible = visible and on_terminal()

    def __len__(self) -> int:
        return len(self._loader)  # type: ignore[arg-type]

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
