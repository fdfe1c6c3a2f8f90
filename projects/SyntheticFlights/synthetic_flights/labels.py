"""From the id buffers of a frame to annotations in ISBDA's JSON layout."""

from __future__ import annotations

import cv2
import numpy as np

from synthetic_flights.buildings import BuildingPlan, block_faces, to_world_faces
from synthetic_flights.camera import Intrinsics, Pose, project
from synthetic_flights.scene import Flight, Frame

__all__ = ["CATEGORIES", "annotate", "building_box", "mask_polygons"]

# As ISBDA ships them: the names are numbers.
CATEGORIES = [{"id": i, "name": str(i), "supercategory": "damage"} for i in (1, 2, 3)]

# Seen parts below so many pixels of a frame 1280 wide are slivers that nobody would outline, by
# level: of a large part one must see more to tell what it is.
FEWEST_PIXELS = {1: 120, 2: 300, 3: 300}
PIECE_SHARE = 0.04  # pieces smaller than this share of the largest are dropped


def annotate(flight: Flight, frame: Frame) -> list[dict]:
    """Return the annotations of one frame, without ``id`` and ``image_id``, ordered by part.

    ``segmentation`` are the visible pixels' outlines, ``damage_bbox`` (XYWH) their box,
    ``house_bbox`` the box of the building's walls and roofs (or of its rubble) within the frame,
    whether trees hide some of it or not. An image without visible damage has an empty list.
    """
    if frame.part_ids is None:
        raise ValueError(f"frame {frame.index} was rendered without id buffers")
    # The scale of what is too small follows the frame's size.
    unit = frame.part_ids.shape[1] / 1280
    counts = np.bincount(frame.part_ids.ravel(), minlength=1)
    found = []
    for part_index in np.nonzero(counts[1:])[0] + 1:
        building, part = flight.parts[int(part_index)]
        fewest = max(FEWEST_PIXELS[part.level] * unit * unit, 12)
        if counts[part_index] < fewest:
            continue
        mask = (frame.part_ids == part_index).view(np.uint8)
        polygons = mask_polygons(
            mask, closing=5 if part.kind == "rubble" else 3, least=0.4 * fewest
        )
        if not polygons:
            continue
        points = np.concatenate(polygons)
        low, high = points.min(0), points.max(0)
        area = sum(cv2.contourArea(p.astype(np.float32)) for p in polygons)
        found.append(
            {
                "category_id": part.level,
                "segmentation": [p.round(2).reshape(-1).tolist() for p in polygons],
                "area": round(float(area), 2),
                "iscrowd": 0,
                "damage_bbox": _xywh(low, high),
                "house_bbox": None,
                "building_id": building.id,
                "parent_id": building.id,
                "part_id": part.id,
                "kind": part.kind,
            }
        )
    # All parts of a building share its box, which holds them all.
    for number in {a["building_id"] for a in found}:
        parts = [a for a in found if a["building_id"] == number]
        boxes = [building_box(flight, flight.by_id[number], frame.pose)]
        boxes += [
            np.array([x, y, x + w, y + h]) for x, y, w, h in (a["damage_bbox"] for a in parts)
        ]
        boxes = np.stack(boxes)
        for annotation in parts:
            annotation["house_bbox"] = _xywh(boxes[:, :2].min(0), boxes[:, 2:].max(0))
    return found


def _xywh(low: np.ndarray, high: np.ndarray) -> list[float]:
    return [round(float(v), 2) for v in (*low, *(high - low))]


def building_box(flight: Flight, plan: BuildingPlan, pose: Pose) -> np.ndarray:
    """Return a building's box x0, y0, x1, y1 in the frame, cut at the frame's edge; all infinite
    if it is outside.
    """
    points = _solid_points(flight, plan)
    intrinsics: Intrinsics = flight.intrinsics
    pixels, depth = project(points, pose, intrinsics)
    pixels = pixels[depth > 1]
    if not len(pixels):
        return np.array([np.inf, np.inf, -np.inf, -np.inf])
    size = (intrinsics.width, intrinsics.height)
    low, high = np.maximum(pixels.min(0), 0), np.minimum(pixels.max(0), size)
    if (low >= high).any():
        return np.array([np.inf, np.inf, -np.inf, -np.inf])
    return np.concatenate([low, high])


def _solid_points(flight: Flight, plan: BuildingPlan) -> np.ndarray:
    if plan.level == 3:
        faces, _ = flight.build(flight.buildings.index(plan))
        corners = [f.corners[:, :] * 0.92 + f.corners.mean(0) * 0.08 for f in faces]
        return np.concatenate([*corners])
    faces = [f for i, b in enumerate(plan.blocks) for f in block_faces(b, i)]
    return np.concatenate([f.corners for f in to_world_faces(faces, plan)])


def mask_polygons(mask: np.ndarray, closing: int = 3, least: float = 12) -> list[np.ndarray]:
    """Return the outlines of a mask (H, W) of 0 and 1: polygons (N, 2) in continuous image
    coordinates.

    Scraps smaller than ``least`` pixels are left out, gaps narrower than ``closing`` pixels are
    bridged. Outlines run along the outer edges of the pixels, not through their centres, so that
    areas and boxes are not half a pixel short.
    """
    ys, xs = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if not len(xs):
        return []
    pad = closing + 1
    x0, y0 = int(xs[0]), int(ys[0])
    window = cv2.copyMakeBorder(
        mask[y0 : ys[-1] + 1, x0 : xs[-1] + 1], pad, pad, pad, pad, cv2.BORDER_CONSTANT
    )
    if closing > 1:
        window = cv2.morphologyEx(window, cv2.MORPH_CLOSE, np.ones((closing, closing), np.uint8))
    # Four cells a pixel; their border lies an eighth of a pixel within the pixel's.
    fine = cv2.resize(window, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    areas = [cv2.contourArea(c) / 16 for c in contours]
    limit = max(least, PIECE_SHARE * max(areas))
    height, width = mask.shape
    polygons = []
    for contour, area in zip(contours, areas):
        if area < limit:
            continue
        outline = cv2.approxPolyDP(contour, 2.6, True)[:, 0]
        if len(outline) < 3:
            continue
        points = (outline + 0.5) / 4 - pad + (x0, y0)
        polygons.append(np.clip(points, 0, (width, height)))
    return polygons
