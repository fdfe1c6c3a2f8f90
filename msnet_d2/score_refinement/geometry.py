"""The rule of refinement by geometry: scores are averaged along what lies at one place of the
ground. Beyond the paper; it needs no embedding and no training.

Shape letters: N detections of a frame P, M of an adjacent frame Q.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor

from msnet_d2.score_refinement.matching import Match, Matches, best_matches, mutual_matches
from msnet_d2.structures.mask_crop import MaskCropper, as_numpy, box_pixels

__all__ = ["GeometryRule", "RunningScore", "warp_boxes"]


@dataclass(frozen=True)
class RunningScore:
    """Scores summed over a frame and those on one side of it, which count less the further away
    they are.

    Attributes:
        total: (N,) float64, weighted sum of scores.
        weight: (N,) float64, sum of the weights; at least 1, that of the frame's own score.
    """

    total: Tensor
    weight: Tensor

    @classmethod
    def of(cls, scores: Tensor) -> RunningScore:
        """Of a frame alone, with scores (N,)."""
        return cls(scores.double(), torch.ones_like(scores, dtype=torch.float64))


@dataclass(frozen=True)
class GeometryRule:
    """Match boxes after the motion of the picture; a part that is missed where its place is in view
    counts as a score of 0.

    The defaults were fixed on rendered flights of 1/15 to 1/2 s between frames; from 0.5 to 0.8
    ``carry`` makes little difference.

    Attributes:
        carry: weight of the adjacent frame's running score; the frame's own has 1.
        miss_weight: how much of a frame a miss counts.
        min_iou: boxes match from this IoU on. Roofs stand above the plane that the homography is
            for, and small boxes miss each other by parallax.
        min_visible: a place is in view if this share of the mask lies inside of the other frame.
    """

    carry: float = 0.65
    miss_weight: float = 0.75
    min_iou: float = 0.15
    min_visible: float = 0.7

    def match(self, p: Instances, q: Instances, homography: np.ndarray) -> Matches:
        """Detections of one class that are each other's best match by the IoU of their boxes.

        Args:
            p: N detections with ``pred_boxes``, ``scores`` and ``pred_classes``.
            q: M detections in a frame of the same size.
            homography: (3, 3), from pixels of P to those of Q.
        """
        q = q.to(p.scores.device)
        warped = warp_boxes(p.pred_boxes.tensor, homography, p.image_size)
        iou = pairwise_iou(Boxes(warped), q.pred_boxes)
        same = p.pred_classes[:, None] == q.pred_classes[None, :]
        forward = best_matches(iou, q.scores, same, self.min_iou)
        backward = best_matches(iou.T, p.scores, same.T, self.min_iou)
        return Matches(iou, mutual_matches(forward, backward), mutual_matches(backward, forward))

    def missed(self, p: Instances, match: Match, homography: np.ndarray) -> Tensor:
        """Which detections of P were missed in Q: (N,) bool.

        Args:
            p: N detections; their ``pred_masks`` may have any form that
                :class:`msnet_d2.structures.mask_crop.MaskCropper` takes, and are the boxes without.
            match: of P's detections in Q.
            homography: (3, 3), from pixels of P to those of Q.
        """
        missed = match.index < 0
        masks = p.pred_masks if p.has("pred_masks") else None
        cropper = MaskCropper(masks, len(p), p.image_size)
        boxes = as_numpy(p.pred_boxes).astype(np.float64)
        for i in missed.nonzero().squeeze(1).tolist():
            share = _visible_share(cropper, i, boxes[i], homography)
            missed[i] = share >= self.min_visible
        return missed

    def extend(
        self, scores: Tensor, match: Match, missed: Tensor, adjacent: RunningScore
    ) -> RunningScore:
        """The running score of a frame from that of the adjacent one.

        Args:
            scores: (N,) of the frame, unrefined.
            match: of the frame's detections in the adjacent one.
            missed: (N,) bool, which of them the adjacent frame missed.
            adjacent: of the M detections there.
        """
        alone = RunningScore.of(scores)
        found = match.index >= 0
        total, weight = torch.zeros_like(alone.total), missed * self.miss_weight
        index = match.index[found]
        total[found] = adjacent.total.to(total)[index]
        weight = weight.to(total)
        weight[found] = adjacent.weight.to(total)[index]
        return RunningScore(alone.total + self.carry * total, alone.weight + self.carry * weight)

    @staticmethod
    def refine(scores: Tensor, past: RunningScore, future: RunningScore) -> Tensor:
        """The mean (N,) of both running scores, in which the frame's own score (N,) counts once."""
        total = past.total + future.total - scores.double()
        return (total / (past.weight + future.weight - 1)).to(scores)


def warp_boxes(boxes: Tensor, homography: np.ndarray, size: tuple[int, int]) -> Tensor:
    """The upright boxes around boxes (N, 4) that a homography took along, clipped to the frame.

    Args:
        boxes: XYXY in pixels.
        homography: (3, 3).
        size: height and width of the frame.
    """
    x0, y0, x1, y1 = boxes.double().unbind(dim=1)
    corners = torch.stack([x0, y0, x1, y0, x1, y1, x0, y1], dim=1).reshape(-1, 4, 2)
    matrix = torch.as_tensor(homography, dtype=torch.float64, device=boxes.device)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    moved = moved[..., :2] / moved[..., 2:]
    upright = Boxes(torch.cat([moved.amin(dim=1), moved.amax(dim=1)], dim=1).to(boxes))
    upright.clip(size)
    return upright.tensor


def _visible_share(
    cropper: MaskCropper, index: int, box: np.ndarray, homography: np.ndarray
) -> float:
    """The share of a mask, or of its box without masks, that lies in the other frame."""
    height, width = cropper.size
    x0, y0, x1, y1 = box_pixels(box, width, height)
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)
    if _inside(corners, homography, cropper.size).all():
        return 1.0
    crop = cropper.crop(index, box)
    if crop is None:
        pixels = np.mgrid[y0:y1, x0:x1].reshape(2, -1)[::-1].T
    else:
        pixels = np.argwhere(crop.mask)[:, ::-1] + [crop.x, crop.y]
    inside = _inside(pixels + 0.5, homography, cropper.size)
    return float(inside.mean()) if len(inside) else 0.0


def _inside(points: np.ndarray, homography: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which points (K, 2) a homography takes to pixels of the frame."""
    moved = points @ homography[:, :2].T + homography[:, 2]
    x, y = moved[:, 0] / moved[:, 2], moved[:, 1] / moved[:, 2]
    return (x >= 0) & (x <= size[1]) & (y >= 0) & (y <= size[0])
