"""Pictures about the data set: labels drawn over frames, contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

__all__ = ["contact_sheet", "draw_labels"]

# BGR by category id: Slight green, Severe amber, Debris red, as everywhere in this project.
COLOURS = {1: (80, 200, 60), 2: (0, 176, 255), 3: (48, 48, 235)}


def draw_labels(image: np.ndarray, annotations: Sequence[dict], fill: float = 0.35) -> np.ndarray:
    """Return a copy of a BGR picture with masks, damage boxes and (white) building boxes of ISBDA
    annotations.
    """
    out = image.copy()
    layer = image.copy()
    outlines = []
    for annotation in annotations:
        polygons = [
            np.round(np.array(s).reshape(-1, 2) * 16 - 8).astype(np.int32)
            for s in annotation["segmentation"]
        ]
        cv2.fillPoly(layer, polygons, COLOURS[annotation["category_id"]], cv2.LINE_AA, 4)
        outlines.append((polygons, COLOURS[annotation["category_id"]]))
    cv2.addWeighted(layer, fill, out, 1 - fill, 0, out)
    for polygons, colour in outlines:
        cv2.polylines(out, polygons, True, colour, 1, cv2.LINE_AA, 4)
    houses = sorted({tuple(a["house_bbox"]) for a in annotations})
    boxes = [(b, (255, 255, 255)) for b in houses] + [
        (a["damage_bbox"], COLOURS[a["category_id"]]) for a in annotations
    ]
    for (x, y, w, h), colour in boxes:
        cv2.rectangle(out, (round(x), round(y)), (round(x + w) - 1, round(y + h) - 1), colour, 1)
    return out


def contact_sheet(
    images: Sequence[np.ndarray], columns: int = 3, width: int = 1200, gap: int = 4
) -> np.ndarray:
    """Return BGR pictures of one shape as a sheet ``width`` pixels wide, row by row on white.

    Raises:
        ValueError: if there is no picture.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one picture")
    columns = min(columns, len(images))
    cell_width = (width - gap * (columns + 1)) // columns
    cell_height = round(cell_width * images[0].shape[0] / images[0].shape[1])
    rows = (len(images) + columns - 1) // columns
    sheet = np.full((gap + rows * (cell_height + gap), width, 3), 255, np.uint8)
    for k, image in enumerate(images):
        y, x = gap + (k // columns) * (cell_height + gap), gap + (k % columns) * (cell_width + gap)
        small = cv2.resize(image, (cell_width, cell_height), interpolation=cv2.INTER_AREA)
        sheet[y : y + cell_height, x : x + cell_width] = small
    return sheet
