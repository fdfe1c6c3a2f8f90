"""Where the time of a frame goes: a clock that stages of a model are wound up on from outside."""

from __future__ import annotations

import functools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from torch import nn

from msnet_d2.projects import installed_projects
from msnet_d2.score_refinement import RefinedDetector

__all__ = ["REST", "STAGES", "StageClock", "staged"]

BACKBONE, PARENT, SAMPLING = "backbone + FPN", "parent RPN", "anchor sampling"
PART, BOX, MASK = "part RPN", "box head", "mask head"
REFINEMENT, PASTE, REST = "refinement", "paste", "the rest"
# In the order in which a frame goes through them. A stock RPN counts as the part RPN.
STAGES = (BACKBONE, PARENT, SAMPLING, PART, BOX, MASK, REFINEMENT, PASTE, REST)

# Packages whose modules may have imported Detectron2's post-processing by name.
_PACKAGES = ("detectron2.", "msnet_d2.")


class StageClock:
    """Adds up time by stage. A stage inside another stops the outer one's clock meanwhile."""

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """On CUDA each change of stage waits for the device, which costs time itself."""
        self._clock = clock
        self._on_cuda = device.type == "cuda"
        self._device = device
        self._running: list[str] = []
        self._since = 0.0
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside to ``name``."""
        self._turn()
        self._running.append(name)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def take(self) -> dict[str, float]:
        """Milliseconds by stage since the last call."""
        taken = {name: 1000 * seconds for name, seconds in self._seconds.items()}
        self._seconds.clear()
        return taken

    def _turn(self) -> None:
        if self._on_cuda:
            torch.cuda.synchronize(self._device)
        now = self._clock()
        if self._running:
            self._seconds[self._running[-1]] += now - self._since
        self._since = now


@contextmanager
def staged(model: nn.Module, clock: StageClock) -> Iterator[None]:
    """Inside, what ``model`` does is counted by ``clock``; afterwards it is as it was.

    A model of other parts than Detectron2's R-CNN is counted as far as it has them, and the rest of
    it as the rest.
    """
    with ExitStack() as stack:
        for owner, name, stage in _parts(model):
            if hasattr(owner, name):
                stack.enter_context(_replaced(owner, name, _timed(clock, stage)))
        packages = tuple(p.package for p in installed_projects())
        for module_name, module in list(sys.modules.items()):
            if not module_name.startswith((*_PACKAGES, *packages)) or module is None:
                continue
            if vars(module).get("detector_postprocess") is detector_postprocess:
                stack.enter_context(_replaced(module, "detector_postprocess", _timed(clock, PASTE)))
        yield


def _parts(model: nn.Module) -> Iterator[tuple[Any, str, str]]:
    if isinstance(model, RefinedDetector):
        yield model, "_embed", REFINEMENT
        model = model.detector
    yield getattr(model, "backbone", None), "forward", BACKBONE
    generator = getattr(model, "proposal_generator", None)
    yield generator, "forward", PART
    yield generator, "forward_with_parents", PART
    yield generator, "_keep_anchors", SAMPLING
    parent = getattr(generator, "parent_rpn", None)
    yield getattr(parent, "rpn_head", None), "forward", PARENT
    yield getattr(parent, "anchor_generator", None), "forward", PARENT
    yield parent, "predict_proposals", PARENT
    heads = getattr(model, "roi_heads", None)
    yield heads, "_forward_box", BOX
    yield heads, "_forward_mask", MASK


def _timed(clock: StageClock, stage: str) -> Callable[[Callable], Callable]:
    def wrap(function: Callable) -> Callable:
        @functools.wraps(function)
        def timed(*args, **kwargs):
            with clock.stage(stage):
                return function(*args, **kwargs)

        return timed

    return wrap


@contextmanager
def _replaced(owner: Any, name: str, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """Wrap a function of a module or a method of one object for a while."""
    own = name in vars(owner)
    original = getattr(owner, name)
    setattr(owner, name, wrap(original))
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)
