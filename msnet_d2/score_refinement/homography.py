"""How the picture moves between two frames of a video: a homography from points of interest.

Ground seen from the air is nearly a plane, and the homography carries boxes from frame to frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

__all__ = ["Keypoints", "estimate_homography", "find_keypoints", "gray_image"]

# Chosen on rendered flights. Frames half a second apart agree in 50 points and more, frames of
# different flights by chance in 10 at most (88 and 156 pairs).
_SIDE = 480
_FEATURES = 1200
_RANSAC_PX = 2.0
_LEAST_INLIERS = 12


@dataclass(frozen=True)
class Keypoints:
    """Points of interest of a frame.

    Attributes:
        points: (K, 2) float32 x, y in pixels of the small picture, the corner pixel's centre at
            0.5, 0.5.
        descriptors: (K, 32) uint8, ORB's.
        size: height and width of the small picture.
    """

    points: np.ndarray
    descriptors: np.ndarray
    size: tuple[int, int]


def gray_image(image: Tensor) -> Tensor:
    """What :func:`find_keypoints` looks at: a frame's green, its longer side at most 480 pixels.

    Args:
        image: (C, H, W), values 0 to 255, green in the middle.

    Returns:
        (h, w) uint8, on the CPU.
    """
    # Green is most of what the eye calls bright, and one channel a third of the work.
    gray = np.array(image[len(image) // 2].to(torch.uint8).cpu().numpy())
    height, width = gray.shape
    scale = _SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(gray)


def find_keypoints(gray: Tensor) -> Keypoints:
    """ORB's points of interest in a picture (h, w) of :func:`gray_image`."""
    found, descriptors = cv2.ORB_create(nfeatures=_FEATURES).detectAndCompute(gray.numpy(), None)
    points = np.array([point.pt for point in found], dtype=np.float32).reshape(-1, 2) + 0.5
    if descriptors is None:
        descriptors = np.zeros((0, 32), dtype=np.uint8)
    return Keypoints(points, descriptors, tuple(gray.shape))


def estimate_homography(a: Keypoints, b: Keypoints, size: tuple[int, int]) -> np.ndarray | None:
    """The homography that takes pixels of frame a to those of frame b.

    Args:
        a: of one frame.
        b: of another frame of the same size.
        size: height and width of the pixels that the homography is for.

    Returns:
        (3, 3) float64; None if fewer than 12 pairs of points agree on one, or if it turns the
        picture over: the frames do not show the same ground.
    """
    if min(len(a.points), len(b.points)) < _LEAST_INLIERS or a.size != b.size:
        return None
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(a.descriptors, b.descriptors)
    if len(matches) < _LEAST_INLIERS:
        return None
    start = a.points[[match.queryIdx for match in matches]]
    end = b.points[[match.trainIdx for match in matches]]
    matrix, inliers = cv2.findHomography(start, end, cv2.USAC_MAGSAC, _RANSAC_PX)
    if matrix is None or inliers.sum() < _LEAST_INLIERS:
        return None
    scale = np.diag([size[1] / a.size[1], size[0] / a.size[0], 1.0])
    matrix = scale @ matrix @ np.linalg.inv(scale)
    return matrix if _keeps_sides(matrix, size) else None


def _keeps_sides(matrix: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether all of a frame stays before the camera, and is not mirrored."""
    height, width = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]])
    depth = corners @ matrix[2]
    return bool(
        np.isfinite(matrix).all() and np.linalg.det(matrix) > 0 and depth.min() > math.ulp(1)
    )
