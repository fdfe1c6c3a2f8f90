"""The two sides of the speed comparison: a model with its inputs, detecting and training."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from torch import nn

from msnet_benchmark.memory import peak_mib
from msnet_benchmark.stages import REFINEMENT, REST, StageClock, staged
from msnet_d2.config.refinement import detector_name
from msnet_d2.engine.optimizer import build_optimizer
from msnet_d2.engine.train_loop import build_loop
from msnet_d2.errors import InputError
from msnet_d2.inference.acceleration import InferenceOptions
from msnet_d2.inference.predictor import Predictor
from msnet_d2.score_refinement import build_score_refiner
from msnet_d2.score_refinement.refined_detector import detector_of

__all__ = ["InferenceSide", "TrainingSide", "make_pictures", "measure_peak", "read_pictures"]

# Of a fixed detection: within the range of scores that are refined.
_SCORE = 0.5


class InferenceSide:
    """A model that detects in frame after frame of a video.

    Attributes:
        model: in evaluation mode.
        network_size: (height, width) of the last frame as the network saw it.
        found: number of detections of the last frame.
    """

    def __init__(
        self,
        cfg: CfgNode,
        pictures: Sequence[np.ndarray],
        detections: int | None,
        acceleration: InferenceOptions | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Build the model.

        Args:
            cfg: with ``MODEL.WEIGHTS``, which may be empty for random weights.
            pictures: BGR frames of one video, taken in turn.
            detections: so many boxes, the same for every model, take the place of what the box head
                finds (which is computed all the same); None: what it finds.
            acceleration: see :class:`Predictor`.
            clock: gives seconds.
        """
        self._predictor = Predictor(cfg, allow_random_weights=True, acceleration=acceleration)
        self._time = clock
        self.model = self._predictor.model
        self._pictures = pictures
        self._refiner = build_score_refiner(cfg)
        self._clock = StageClock(self.model.device, clock)
        self._next = 0
        self.found = 0
        if not cfg.MODEL.WEIGHTS:
            _expect_nothing(detector_of(self.model))
        if detections is not None:
            _fix_detections(detector_of(self.model), detections)

    @property
    def resident_bytes(self) -> int:
        """Of parameters and buffers."""
        return _bytes(self.model)

    def frame(self) -> float:
        """Detect in the next frame; return milliseconds."""
        _synchronise(self.model.device)
        start = self._time()
        self._step()
        _synchronise(self.model.device)
        return 1000 * (self._time() - start)

    def frame_by_stage(self) -> dict[str, float]:
        """The same; milliseconds by stage."""
        with staged(self.model, self._clock), self._clock.stage(REST):
            self._step(self._clock)
        return self._clock.take()

    def _step(self, clock: StageClock | None = None) -> None:
        picture = self._pictures[self._next % len(self._pictures)]
        extra = {"video_id": "benchmark", "frame_index": self._next}
        self._next += 1
        (output,) = self._predictor.predict_batch([picture], [extra])
        if self._refiner is not None:
            with clock.stage(REFINEMENT) if clock else nullcontext():
                (output,) = self._refiner.update(output, **extra) or (output,)
        self.found = len(output["instances"])


class TrainingSide:
    """A model that is trained, step after step, on the same pictures with made-up damage."""

    def __init__(
        self,
        cfg: CfgNode,
        pictures: Sequence[np.ndarray],
        batch: int,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Build model and optimiser; the detector's, without score refinement."""
        self._time = clock
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.META_ARCHITECTURE = detector_name(cfg)
        cfg.MODEL.WEIGHTS = ""
        self.model = build_model(cfg).train()
        self.optimizer = build_optimizer(cfg, self.model)
        # Random weights diverge at rates meant for trained ones. A rate of 0 takes the same time,
        # and every step the same work.
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        inputs = [_training_input(cfg, pictures[i % len(pictures)], seed=i) for i in range(batch)]
        # The trainer's own step, in mixed precision where SOLVER.AMP says so.
        self._loop = build_loop(cfg, self.model, itertools.repeat(inputs), self.optimizer)

    @property
    def resident_bytes(self) -> int:
        """Of parameters, buffers and the optimiser's state."""
        state = [
            value
            for of_parameter in self.optimizer.state.values()
            for value in of_parameter.values()
            if isinstance(value, torch.Tensor)
        ]
        return _bytes(self.model) + sum(x.numel() * x.element_size() for x in state)

    def step(self) -> float:
        """One step of training; return milliseconds."""
        from detectron2.utils.events import EventStorage

        _synchronise(self.model.device)
        start = self._time()
        with EventStorage():
            self._loop.run_step()
        _synchronise(self.model.device)
        return 1000 * (self._time() - start)


def measure_peak(side: InferenceSide | TrainingSide, action: Callable[[], object]) -> float | None:
    """Peak memory in MiB of ``action``: what it needs at most, and what the model holds anyway.

    On CUDA torch's own count. On a CPU the rise of the process's peak, which Linux can reset; None
    where it cannot.
    """
    device = side.model.device
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        action()
        torch.cuda.synchronize(device)
        rise = torch.cuda.max_memory_allocated(device) - before
        return (rise + side.resident_bytes) / 2**20
    try:
        return peak_mib(action) + side.resident_bytes / 2**20
    except OSError:
        return None


def read_pictures(files: Sequence[str]) -> list[np.ndarray]:
    """Pictures as BGR arrays.

    Raises:
        InputError: if one cannot be read.
    """
    pictures = []
    for file in files:
        picture = cv2.imread(file, cv2.IMREAD_COLOR)
        if picture is None:
            raise InputError(f"--image {file} cannot be read as a picture")
        pictures.append(picture)
    return pictures


def make_pictures(width: int, height: int, count: int = 4) -> list[np.ndarray]:
    """Frames of a made-up flight: a smooth random ground that moves by a few pixels a frame."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (height // 16 + 3, width // 16 + 3, 3), dtype=np.uint8)
    reach = 4 * count
    ground = cv2.resize(coarse, (width + reach, height + reach), interpolation=cv2.INTER_CUBIC)
    fine = rng.integers(-12, 13, (height + reach, width + reach, 1), dtype=np.int16)
    ground = np.clip(ground + fine, 0, 255).astype(np.uint8)
    starts = range(0, reach, 4)
    return [np.ascontiguousarray(ground[i : i + height, i : i + width]) for i in starts]


def _expect_nothing(model: nn.Module) -> None:
    """Let random weights take everything for background, as a trained model takes nearly all.

    Otherwise each of a thousand proposals would go into the suppression of every class.
    """
    predictor = getattr(getattr(model, "roi_heads", None), "box_predictor", None)
    score = getattr(predictor, "cls_score", None)
    if score is not None and score.bias is not None:
        with torch.no_grad():
            score.bias[-1] += 10


def _fix_detections(model: nn.Module, count: int) -> None:
    heads = getattr(model, "roi_heads", None)
    if heads is None or not hasattr(heads, "_forward_box"):
        # A detector of one stage: at most so many.
        if hasattr(model, "max_detections_per_image"):
            model.max_detections_per_image = count
        return
    original = heads._forward_box

    def forward_box(features, proposals):
        found = original(features, proposals)
        if heads.training:
            return found
        return [_fixed(x, count) for x in found]

    heads._forward_box = forward_box


def _fixed(like: Instances, count: int) -> Instances:
    """``count`` boxes of 3 to 40% of the frame's height, in place of ``like``."""
    height, width = like.image_size
    rng = np.random.default_rng(count)
    sides = height * np.exp(rng.uniform(np.log(0.03), np.log(0.4), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * np.maximum([width, height] - sides, 0)
    boxes = torch.as_tensor(np.concatenate([corner, corner + sides], axis=1))
    device = like.scores.device
    fixed = Boxes(boxes.to(device, torch.float32))
    fixed.clip(like.image_size)
    return Instances(
        like.image_size,
        pred_boxes=fixed,
        scores=torch.full((count,), _SCORE, device=device),
        pred_classes=torch.zeros(count, dtype=torch.int64, device=device),
    )


def _training_input(cfg: CfgNode, picture: np.ndarray, seed: int) -> dict:
    """A picture in test size with four buildings and two damaged parts in each."""
    import detectron2.data.transforms as T

    resize = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
    image = resize.get_transform(picture).apply_image(picture)
    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    boxes, parents, classes = [], [], []
    for _ in range(4):
        w, h = rng.uniform(0.2, 0.35, 2) * (width, height)
        x, y = rng.uniform(0, 1, 2) * (width - w, height - h)
        building = [x, y, x + w, y + h]
        for share in (0.1, 0.5):
            part = [x + share * w, y + share * h, x + (share + 0.35) * w, y + (share + 0.35) * h]
            boxes.append(part)
            parents.append(building)
            classes.append(int(rng.integers(3)))
        if cfg.MODEL.ROI_HEADS.PARENT_CLASS >= 0:
            boxes.append(building)
            parents.append(building)
            classes.append(cfg.MODEL.ROI_HEADS.PARENT_CLASS)
    outlines = [[np.array([a, b, c, b, c, d, a, d])] for a, b, c, d in boxes]
    instances = Instances(
        (height, width),
        gt_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)),
        gt_classes=torch.tensor(classes),
        gt_masks=PolygonMasks(outlines),
        gt_parent_boxes=Boxes(torch.tensor(parents, dtype=torch.float32)),
    )
    tensor = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return {"image": tensor, "instances": instances}


def _bytes(model: nn.Module) -> int:
    return sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers()))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
