"""Triplets of frames from unlabelled videos, for the Score Refinement Network (paper, section
4.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import transforms as T
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from torch.utils.data import Dataset

from msnet_d2.data.loading.frame_sources import FrameSource, find_frame_sources
from msnet_d2.data.loading.training_loader import TrainingLoader
from msnet_d2.errors import ConfigError, DatasetError
from msnet_d2.utils.image_layout import checked_depth

__all__ = [
    "Triplet",
    "TripletDataset",
    "build_joint_loader",
    "build_triplet_loader",
]

# The paper's ranges in seconds: a positive is at most half a second away, a negative at least ten.
_POSITIVE_SECONDS = 0.5
_NEGATIVE_SECONDS = 10.0


@dataclass(frozen=True)
class Triplet:
    """Which frames belong together; positions in their source, not yet read.

    Attributes:
        source: number of the video.
        anchor: X.
        positive: X⁺.
        negatives: X⁻, several.
        place: where a patch is cut, each from 0 (left, top) to 1.
    """

    source: int
    anchor: int
    positive: int
    negatives: tuple[int, ...]
    place: tuple[float, float]


class TripletDataset(Dataset):
    """Pairs (X, X⁺) from videos with several X⁻ each.

    At a video's frame rate r: X is frame t, X⁺ another frame at most 0.5 r away, X⁻ frames of the
    same video at least 10 r away. X is drawn from the frames of all videos that have both, each as
    likely as any other, so that a video has a share of the pairs according to its length. Which
    frames make pair i depends on ``seed`` and ``i`` alone, in any process and any order.
    """

    @configurable
    def __init__(
        self,
        sources: Sequence[FrameSource],
        *,
        num_pairs: int = 1000,
        num_negatives: int = 5,
        seed: int = 0,
        patch_size: int = 0,
        align_patches: bool = False,
        resize: T.Augmentation | None = None,
        image_format: str = "BGR",
    ) -> None:
        """Draw from ``sources``, or ``TripletDataset(cfg)``: from DATASETS.SRN_VIDEOS.

        Args:
            sources: the videos.
            num_pairs: number of items. Paper: 1000.
            num_negatives: negatives of each; a video with fewer candidates gives some twice. Paper:
                5.
            seed: of the draw.
            patch_size: side in pixels of the square cut from the resized frames, at one place of
                all frames of a triplet; 0, or larger than the frame: no cut.
            align_patches: cut X⁺ where it looks most like X's patch (normalised correlation)
                instead of at the same place, so that both show the same ground although the camera
                moved. Beyond the paper.
            resize: applied to each frame, deterministic; None: frames stay as they are.
            image_format: "BGR" or "RGB", the order of the channels given.

        Raises:
            DatasetError: if there is no video, or one is too short for a negative, or too slow for
            a positive.
            ConfigError: if an argument is out of range.
        """
        if num_pairs < 1 or num_negatives < 1 or patch_size < 0:
            raise ConfigError(
                "triplets need MODEL.SRN.NUM_PAIRS and NUM_NEGATIVES of 1 at least and PATCH_SIZE "
                f"not below 0, but got {num_pairs}, {num_negatives} and {patch_size}"
            )
        if image_format not in ("BGR", "RGB"):
            raise ConfigError(f"INPUT.FORMAT is {image_format!r}: triplets come as BGR or RGB")
        if not sources:
            raise DatasetError("triplets need videos, but there are none")
        self.sources = list(sources)
        self.num_negatives = num_negatives
        self.patch_size = patch_size
        self.align_patches = align_patches
        self._num_pairs = num_pairs
        self._seed = seed
        self._resize = resize
        self._image_format = image_format
        self._anchors = [_anchors(source) for source in self.sources]
        self._ends = np.cumsum([len(anchors) for anchors in self._anchors])

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        """Translate MODEL.SRN, INPUT and DATASETS.SRN_VIDEOS; frames are resized as in
        inference."""
        srn = cfg.MODEL.SRN
        return {
            "sources": find_frame_sources(
                cfg.DATASETS.SRN_VIDEOS, cfg.DATASETS.SRN_FRAME_RATE, checked_depth(cfg)
            ),
            "num_pairs": srn.NUM_PAIRS,
            "num_negatives": srn.NUM_NEGATIVES,
            "seed": max(
                cfg.SEED, 0
            ),  # Detectron2's -1 means any; the pairs shall be the same on every rank
            "patch_size": srn.PATCH_SIZE,
            "align_patches": srn.ALIGN_PATCHES,
            "resize": T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
            if cfg.INPUT.MIN_SIZE_TEST > 0
            else None,
            "image_format": cfg.INPUT.FORMAT,
        }

    def __len__(self) -> int:
        return self._num_pairs

    def triplet(self, index: int) -> Triplet:
        """Which frames make pair ``index``; reads nothing.

        Raises:
            IndexError: if ``index`` is not from 0 to ``len(self) - 1``.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} pairs, but number {index} was asked for")
        rng = np.random.default_rng([self._seed, index])
        draw = int(rng.integers(self._ends[-1]))
        source = int(np.searchsorted(self._ends, draw, side="right"))
        anchors = self._anchors[source]
        anchor = int(anchors[draw - (self._ends[source] - len(anchors))])
        near, far = _candidates(self.sources[source], anchor)
        negatives = rng.choice(far, self.num_negatives, replace=len(far) < self.num_negatives)
        return Triplet(
            source,
            anchor,
            int(rng.choice(near)),
            tuple(int(n) for n in negatives),
            (float(rng.random()), float(rng.random())),
        )

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read the frames of a pair.

        Returns:
            "triplet": (2 + num_negatives, 3, H, W) uint8, X, X⁺ and the X⁻ in this order;
            "file_name": the video's; "frames": their numbers in it.
        """
        triplet = self.triplet(index)
        source = self.sources[triplet.source]
        positions = [triplet.anchor, triplet.positive, *triplet.negatives]
        frames = source.read(positions)
        if len({frame.shape for frame in frames}) > 1:
            raise DatasetError(
                f"the frames of a video have one size, but those of {source.name} have "
                f"{sorted({(f.shape[1], f.shape[0]) for f in frames})} (width, height)"
            )
        if self._image_format == "RGB":
            frames = [frame[:, :, ::-1] for frame in frames]
        if self._resize is not None:
            transform = self._resize.get_transform(frames[0])
            frames = [transform.apply_image(np.ascontiguousarray(frame)) for frame in frames]
        patches = [self._patch(frame, triplet.place) for frame in frames]
        if self.align_patches:
            patches[1] = _most_alike(frames[1], patches[0])
        stack = np.stack(patches)
        return {
            "triplet": torch.from_numpy(np.ascontiguousarray(stack.transpose(0, 3, 1, 2))),
            "file_name": source.name,
            "frames": source.numbers[positions].tolist(),
        }

    def _patch(self, frame: np.ndarray, place: tuple[float, float]) -> np.ndarray:
        if self.patch_size == 0:
            return frame
        height, width = (min(self.patch_size, side) for side in frame.shape[:2])
        x0 = round(place[0] * (frame.shape[1] - width))
        y0 = round(place[1] * (frame.shape[0] - height))
        return frame[y0 : y0 + height, x0 : x0 + width]


def _most_alike(frame: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """The part of a frame (H, W, 3) that correlates best with a patch (h, w, 3), of its size."""
    gray = [cv2.cvtColor(np.ascontiguousarray(x), cv2.COLOR_BGR2GRAY) for x in (frame, patch)]
    _, _, _, (x0, y0) = cv2.minMaxLoc(cv2.matchTemplate(*gray, cv2.TM_CCOEFF_NORMED))
    return frame[y0 : y0 + patch.shape[0], x0 : x0 + patch.shape[1]]


def _candidates(source: FrameSource, anchor: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the frames that may be X⁺ and X⁻ of a frame."""
    distance = np.abs(source.numbers - source.numbers[anchor])
    near = (distance > 0) & (distance <= _POSITIVE_SECONDS * source.fps)
    return near.nonzero()[0], (distance >= _NEGATIVE_SECONDS * source.fps).nonzero()[0]


def _anchors(source: FrameSource) -> np.ndarray:
    """Positions of the frames that have both an X⁺ and an X⁻."""
    numbers, reach = source.numbers, _NEGATIVE_SECONDS * source.fps
    length = int(numbers[-1] - numbers[0]) + 1 if len(numbers) else 0
    needed = math.ceil(reach) + 1
    if length < needed:
        raise DatasetError(
            f"{source.name} is too short for a negative: it has {length} frames "
            f"({length / source.fps:.1f} s at {source.fps:g} a second), but two frames "
            f"{_NEGATIVE_SECONDS:g} s apart need {needed} ({needed / source.fps:.1f} s); leave it "
            "out of DATASETS.SRN_VIDEOS"
        )
    far = (numbers - numbers[0] >= reach) | (numbers[-1] - numbers >= reach)
    gap = np.diff(numbers) <= _POSITIVE_SECONDS * source.fps  # its nearest frame decides
    near = np.append(gap, False) | np.insert(gap, 0, False)
    anchors = (far & near).nonzero()[0]
    if len(anchors) == 0:
        raise DatasetError(
            f"no frame of {source.name} has another within {_POSITIVE_SECONDS:g} s (at "
            f"{source.fps:g} frames a second) and one {_NEGATIVE_SECONDS:g} s away: it needs more "
            "frames a second, or DATASETS.SRN_FRAME_RATE is wrong"
        )
    return anchors


def build_triplet_loader(cfg, *, total_batch_size: int | None = None):
    """Endless training batches of triplets, shuffled; SOLVER.IMS_PER_BATCH of them over all ranks.

    Args:
        cfg: see :meth:`TripletDataset.from_config`.
        total_batch_size: another number of them.
    """
    dataset = TripletDataset(cfg)
    return TrainingLoader(
        dataset,
        # All ranks take turns in one sequence.
        lambda seed: TrainingSampler(len(dataset), seed=seed),
        (total_batch_size or cfg.SOLVER.IMS_PER_BATCH) // comm.get_world_size(),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.SEED if cfg.SEED >= 0 else None,
    )


class _Joint:
    """Batches of annotated images, each with a batch of triplets behind it."""

    def __init__(self, images, triplets) -> None:
        self._loaders = images, triplets

    def start_at(self, iteration: int, seed: int) -> None:
        """Let the next iteration begin with batch ``iteration`` of the run of this seed."""
        for loader in self._loaders:
            loader.start_at(iteration, seed)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for images, triplets in zip(*self._loaders):
            yield [*images, *triplets]


def build_joint_loader(cfg, image_loader):
    """Training batches for MODEL.SRN.FREEZE_DETECTOR False: those of ``image_loader`` and a triplet
    on each rank."""
    return _Joint(image_loader, build_triplet_loader(cfg, total_batch_size=comm.get_world_size()))
