"""From polygons to the masks that Detectron2's evaluators take."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from detectron2.structures import BitMasks, PolygonMasks
from detectron2.structures.masks import polygons_to_bitmask

__all__ = ["contours_of", "rasterize"]


def rasterize(polygons: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Masks of one polygon each.

    Args:
        polygons: (N, R, 2), x and y in pixels; may reach out of the image.
        height: of the image.
        width: of the image.

    Returns:
        (N, height, width) boolean, on the device of ``polygons``: pixels whose centres are inside.
    """
    masks = torch.zeros((len(polygons), height, width), dtype=torch.bool)
    for mask, points in zip(masks, polygons.detach().cpu().double().numpy()):
        # Only inside the polygon's box, which is most of the time a small part of the image.
        left, top = np.floor(points.min(axis=0)).clip(0, (width, height)).astype(int)
        right, bottom = np.ceil(points.max(axis=0)).clip(0, (width, height)).astype(int)
        if right > left and bottom > top:
            shifted = (points - (left, top)).reshape(-1)
            inside = polygons_to_bitmask([shifted], bottom - top, right - left)
            mask[top:bottom, left:right] = torch.from_numpy(inside)
    return masks.to(polygons.device)


def contours_of(masks: PolygonMasks | BitMasks) -> list[list[np.ndarray]]:
    """The polygons of each instance, each an array x0, y0, x1, y1, …; holes are left out.

    Bitmasks are traced through the centres of their outermost pixels, so their contours lie half a
    pixel inside.
    """
    if isinstance(masks, PolygonMasks):
        return masks.polygons
    contours = []
    for mask in masks.tensor.cpu().numpy().astype(np.uint8):
        found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        contours.append([line.reshape(-1) + 0.5 for line in found if len(line) >= 3])
    return contours
