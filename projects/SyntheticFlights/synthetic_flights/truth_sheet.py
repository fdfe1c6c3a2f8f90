"""A sheet of every truth: ``python -m synthetic_flights.truth_sheet OUT.jpg [SEED]``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from synthetic_flights.amodal import amodal_annotations, building_views
from synthetic_flights.config import SceneConfig
from synthetic_flights.encode import write_picture
from synthetic_flights.flow import frame_flow
from synthetic_flights.materials import Material
from synthetic_flights.panoptic import CATEGORIES, panoptic_segments
from synthetic_flights.scene import Flight, Frame

__all__ = ["truth_sheet"]

SIZE = (426, 240)  # of a picture on the sheet
FRAME, GAP = 20, 5
# BGR by fine label.
MATERIAL_COLORS = np.array(
    [
        (0, 0, 0), (130, 190, 170), (110, 100, 100), (190, 190, 185), (160, 120, 60),
        (50, 110, 50), (60, 140, 120), (150, 90, 80), (120, 160, 210), (70, 80, 160),
        (50, 60, 220), (60, 150, 230), (220, 80, 200), (200, 200, 60), (80, 110, 150), (40, 40, 60),
    ],
    np.uint8,
)  # fmt: skip


def truth_sheet(seed: int) -> np.ndarray:
    """Return nine pictures (BGR) of one frame of flight ``seed``, three a row, with titles."""
    config = SceneConfig(width=960, height=540, seconds=2.0, seed=seed)
    flight = Flight(config)
    frame = flight.frame(FRAME, with_truth=True, with_clean=True)
    later = flight.frame(FRAME + GAP, with_truth=True, with_image=False)
    depth = frame.truth.depth
    scaled = (255 * (depth - depth.min()) / np.ptp(depth)).astype(np.uint8)
    panels = {
        "frame": frame.image,
        "without trees": frame.clean,
        f"{len(Material) - 1} materials": MATERIAL_COLORS[frame.truth.materials],
        "panoptic segments": _draw_segments(flight, frame),
        "visible and hidden of each building": _draw_amodal(flight, frame),
        f"depth, {depth.min():.0f} to {depth.max():.0f} m": cv2.applyColorMap(
            scaled, cv2.COLORMAP_VIRIDIS
        ),
        f"flow to {GAP} frames on (black: not seen there)": _draw_flow(flight, frame, later),
        "the same with --trees 6": Flight(replace(config, trees=6.0)).frame(FRAME).image,
        "the same with --flood 0.4": Flight(replace(config, flood=0.4)).frame(FRAME).image,
    }
    cells = [_titled(picture, title) for title, picture in panels.items()]
    return np.vstack([np.hstack(cells[i : i + 3]) for i in range(0, len(cells), 3)])


def _titled(picture: np.ndarray, title: str) -> np.ndarray:
    small = cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA)
    cell = cv2.copyMakeBorder(small, 20, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(cell, title, (4, 14), font, 0.45, (20, 20, 20), 1, cv2.LINE_AA)
    return cell


def _draw_segments(flight: Flight, frame: Frame) -> np.ndarray:
    ids, segments = panoptic_segments(flight, frame)
    colors = {c["id"]: np.array(c["color"][::-1]) for c in CATEGORIES}
    out = np.zeros((*ids.shape, 3), np.uint8)
    for number, segment in enumerate(segments):
        shade = 0.75 + 0.25 * (number % 3) / 2
        out[ids == segment["id"]] = colors[segment["category_id"]] * shade
    return out


def _draw_amodal(flight: Flight, frame: Frame) -> np.ndarray:
    from pycocotools import mask as mask_util

    out = cv2.addWeighted(frame.image, 0.5, np.full_like(frame.image, 255), 0.5, 0)
    palette = np.random.default_rng(4).integers(40, 220, (64, 3))
    views = building_views(flight, frame.index)
    buildings = [a for a in amodal_annotations(flight, frame, views) if a["part_id"] is None]
    stripes = np.add.outer(np.arange(out.shape[0]), np.arange(out.shape[1])) % 12 < 6
    for annotation, color in zip(buildings, palette):
        seen = mask_util.decode(annotation["segmentation"]) > 0
        hidden = mask_util.decode(annotation["occluder_segmentation"]) > 0
        out[seen] = 0.5 * out[seen] + 0.5 * color
        out[hidden & stripes] = color
    return out


def _draw_flow(flight: Flight, frame: Frame, later: Frame) -> np.ndarray:
    flow, valid = frame_flow(flight.intrinsics, frame, later)
    # The common motion is large: colors show what differs from it.
    apart = flow - np.median(flow[valid], axis=0)
    length, angle = cv2.cartToPolar(apart[..., 0], apart[..., 1])
    hue = (angle * 90 / np.pi).astype(np.uint8)
    strength = np.clip(255 * length / np.quantile(length[valid], 0.98), 0, 255).astype(np.uint8)
    out = cv2.cvtColor(cv2.merge([hue, strength, np.full_like(hue, 255)]), cv2.COLOR_HSV2BGR)
    out[~valid] = 0
    return out


if __name__ == "__main__":
    write_picture(Path(sys.argv[1]), truth_sheet(int(sys.argv[2]) if sys.argv[2:] else 1), 82)
