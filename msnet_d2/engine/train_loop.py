"""The training step in each precision, and a data loader that remembers its last batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn

from msnet_d2.errors import MSNetError
from msnet_d2.utils.devices import computes_bfloat16
from msnet_d2.utils.worker_errors import error_of_worker

__all__ = ["CPUAutocastTrainer", "RememberLastBatch", "build_loop"]


logger = logging.getLogger(__name__)


class RememberLastBatch:
    """A data loader that can tell what its last batch was, for the message when a step fails."""

    def __init__(self, loader: Iterable[list[dict]]):
        self.loader = loader
        self.last: list[dict] = []

    def __iter__(self) -> Iterator[list[dict]]:
        try:
            for batch in self.loader:
                self.last = batch
                yield batch
        except MSNetError as error:
            raise error_of_worker(error) or error from None

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str):
        # Only what is not found here; without the test, unpickling would look for `loader` forever.
        if name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)

    def describe(self) -> str:
        """Files of the last batch, or their ids."""
        names = [
            str(item.get("file_name", item.get("image_id", "?"))) if isinstance(item, dict) else "?"
            for item in self.last
        ]
        return ", ".join(names) or "none"


class CPUAutocastTrainer(SimpleTrainer):
    """Training steps whose forward pass runs in bfloat16 where torch deems it safe, on a CPU.

    Detectron2's AMPTrainer insists on CUDA. bfloat16 has float32's range, so no scaler is needed.
    """

    def run_step(self) -> None:
        """Run one step; the counterpart of :meth:`detectron2.engine.SimpleTrainer.run_step`."""
        assert self.model.training, "the model was left in evaluation mode"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = self.model(data)
        losses = {name: loss.float() for name, loss in losses.items()}
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.optimizer.step()


def build_loop(
    cfg: CfgNode,
    model: nn.Module,
    loader: Iterable[list[dict]],
    optimizer: torch.optim.Optimizer,
) -> SimpleTrainer:
    """The loop for ``SOLVER.AMP.ENABLED`` and ``MODEL.DEVICE``: float32, or mixed precision.

    Arguments but the config are those of Detectron2's ``SimpleTrainer``.

    A CPU that would only emulate bfloat16, which is slower than float32, trains in float32.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        loop = SimpleTrainer
    elif torch.device(cfg.MODEL.DEVICE).type == "cuda":
        loop = AMPTrainer
    elif computes_bfloat16(torch.device("cpu")):
        loop = CPUAutocastTrainer
    else:
        logger.info("SOLVER.AMP: this processor has no bfloat16 arithmetic; training in float32")
        loop = SimpleTrainer
    return loop(model, loader, optimizer)
