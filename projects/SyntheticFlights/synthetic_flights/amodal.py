"""Whole masks of buildings and damaged parts, what hides them, and who stands in front of whom.

An amodal mask is what would be seen if only this building stood, within the frame: its own faces
still hide each other, rubble has its gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from msnet_d2.structures.mask_crop import MaskCrop
from synthetic_flights.labels import FEWEST_PIXELS
from synthetic_flights.raster import Raster
from synthetic_flights.scene import Flight, Frame
from synthetic_flights.surfaces import sample_indices

__all__ = ["BuildingView", "amodal_annotations", "building_views", "occlusion_order", "track_id"]

BUILDING_CATEGORY = 4
BUILDING_PIXELS = 400  # of the amodal mask, in a frame 1280 wide; smaller ones are left out
VISIBLE_PIXELS = 12  # of an instance that is annotated; below that nobody can tell what it is


@dataclass
class BuildingView:
    """One building as it would be seen alone.

    Attributes:
        number: index of the building in the flight.
        mask: of the building.
        parts: masks of its damaged parts by ``part_index``, cropped as ``mask`` is.
    """

    number: int
    mask: MaskCrop
    parts: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the frame that the masks cover."""
        height, width = self.mask.mask.shape
        return slice(self.mask.y, self.mask.y + height), slice(self.mask.x, self.mask.x + width)


def building_views(flight: Flight, index: int) -> list[BuildingView]:
    """Return the buildings of frame ``index``, each as if it stood alone, ordered by number."""
    config = flight.config
    raster = Raster(
        flight.intrinsics,
        flight.pose(index),
        config.supersample,
        with_ids=True,
        with_color=False,
    )
    # The samples that the frame takes of a raster.
    rows = sample_indices(raster.height, config.height)
    columns = sample_indices(raster.width, config.width)
    views = []
    for number in flight.visible_buildings(raster):
        flight.draw_building(raster, number, index)
        drawn = cv2.boundingRect((raster.building_ids > 0).view(np.uint8))
        if not drawn[2]:
            continue
        x, y, w, h = drawn
        y0, y1 = np.searchsorted(rows, (y, y + h))
        x0, x1 = np.searchsorted(columns, (x, x + w))
        samples = np.ix_(rows[y0:y1], columns[x0:x1])
        there = raster.building_ids[samples] > 0
        if there.any():
            parts = raster.part_ids[samples]
            indices = np.unique(parts[parts > 0]).tolist()
            mask = MaskCrop(there, int(x0), int(y0))
            views.append(BuildingView(number, mask, {i: parts == i for i in indices}))
        for buffer in (raster.building_ids, raster.part_ids, raster.nearness):
            buffer[y : y + h, x : x + w] = 0
    return sorted(views, key=lambda view: view.number)


def track_id(building_id: int, part_number: int = 0) -> int:
    """Number of a track, unique in the data set: of a part it is the ``part_id``, of a building ten
    times its id.
    """
    return building_id * 10 + part_number


def amodal_annotations(flight: Flight, frame: Frame, views: list[BuildingView]) -> list[dict]:
    """Return annotations of buildings and damaged parts, without ``id`` and ``image_id``.

    ``segmentation`` is what is seen, ``amodal_segmentation`` all of it within the frame,
    ``occluder_segmentation`` what of it other things hide, each as RLE; ``visible_share`` is the
    first by the second. Buildings are annotated whether they are damaged or not.

    Args:
        flight: the flight.
        frame: one of its frames, with truth.
        views: the frame's, of :func:`building_views`.
    """
    unit = (flight.config.width / 1280) ** 2
    found = []
    for view in views:
        building = flight.buildings[view.number]
        seen = frame.building_mask(view.number)[view.window]
        if np.count_nonzero(view.mask.mask) >= BUILDING_PIXELS * unit:
            ids = {"building_id": building.id, "part_id": None, "parent_id": None}
            ids["track_id"] = track_id(building.id)
            _add(found, frame, view, view.mask.mask, seen, BUILDING_CATEGORY, building.kind, ids)
        for part_index, mask in view.parts.items():
            _, part = flight.parts[part_index]
            if np.count_nonzero(mask) < max(FEWEST_PIXELS[part.level] * unit, VISIBLE_PIXELS):
                continue
            ids = {"building_id": building.id, "part_id": part.id, "parent_id": building.id}
            ids["track_id"] = part.id
            seen = frame.part_ids[view.window] == part_index
            _add(found, frame, view, mask, seen, part.level, part.kind, ids)
    return found


def _add(found, frame, view: BuildingView, whole, seen, category: int, kind: str, ids) -> None:
    pixels, visible = np.count_nonzero(whole), np.count_nonzero(seen)
    if visible < VISIBLE_PIXELS:
        return
    height, width = frame.building_ids.shape

    def rle(mask: np.ndarray) -> dict:
        return MaskCrop(mask, view.mask.x, view.mask.y).to_rle(height, width)

    found.append(
        {
            "category_id": category,
            "segmentation": rle(seen),
            "amodal_segmentation": rle(whole),
            "occluder_segmentation": rle(whole & ~seen),
            "area": int(visible),
            "amodal_area": int(pixels),
            "visible_share": round(float(visible / pixels), 4),
            "bbox": _box(seen, view),
            "amodal_bbox": _box(whole, view),
            "iscrowd": 0,
            "kind": kind,
            **ids,
        }
    )


def _box(mask: np.ndarray, view: BuildingView) -> list[int]:
    """XYWH, in pixels of the frame."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    return [x + view.mask.x, y + view.mask.y, w, h]


def occlusion_order(flight: Flight, frame: Frame, views: list[BuildingView]) -> list[dict]:
    """Return who hides whom: dicts of ``front`` and ``back`` (track ids) and ``pixels``.

    ``pixels`` are those of the back's amodal mask at which the front is seen. The front may be a
    tree, which has the negative of its number in ``tree_ids`` for a track id; cars, fences and
    water are in no order.
    """
    order = []
    for view in views:
        back = track_id(flight.buildings[view.number].id)
        trees = frame.truth.tree_ids[view.window]
        in_front = np.where(trees > 0, 0, frame.building_ids[view.window])
        for front, pixels in _counts(in_front[view.mask.mask]):
            if front != view.number + 1:
                front_id = track_id(flight.buildings[front - 1].id)
                order.append({"front": front_id, "back": back, "pixels": pixels})
        for tree, pixels in _counts(trees[view.mask.mask]):
            order.append({"front": -tree, "back": back, "pixels": pixels})
    return order


def _counts(values: np.ndarray) -> list[tuple[int, int]]:
    """The values above 0 and how often each is there."""
    counts = np.bincount(values)
    return [(int(n), int(counts[n])) for n in np.nonzero(counts)[0] if n]
