"""Draw predictions and ground truth on images, pairs of images, contact sheets.

Drawing is done by OpenCV, each mask inside its box alone: tens of times faster than Detectron2's
Matplotlib-based visualizer. All images are BGR, uint8, (H, W, 3); colours
in the metadata are RGB, as Detectron2 keeps them. All sizes follow the shorter side of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from msnet_d2.errors import InputError
from msnet_d2.structures.annotation_mask import annotation_mask
from msnet_d2.structures.duplicates import distinct_objects
from msnet_d2.structures.mask_crop import MaskCrop, MaskCropper, as_numpy, box_pixels
from msnet_d2.visualization.brushes import (
    Layout,
    blend_mask,
    corner_marks,
    dashed_outline,
    legend_sprite,
    paste,
    render_text,
    text_sprite,
)

__all__ = [
    "MaskCrop",
    "contact_sheet",
    "draw_dataset_dict",
    "draw_instance_predictions",
    "level_colors",
    "side_by_side",
]

# Colours (RGB) of metadata without `thing_colors`, by class index.
_FALLBACK_COLORS = [(64, 200, 64), (255, 176, 0), (230, 50, 50), (60, 140, 255), (200, 90, 230)]
# A change of score that the two shown digits cannot show gets no arrow.
_SHOWN_CHANGE = 0.005


@dataclass
class _Item:
    """One object to draw: pixels x0, y0, x1, y1 of its box, class index, text, arrow (-1, 0, 1)."""

    box: tuple[int, int, int, int]
    level: int
    text: str
    short_text: str
    arrow: int = 0
    mask: MaskCrop | None = None
    hidden: MaskCrop | None = None


def level_colors(metadata: Any) -> list[tuple[int, int, int]]:
    """Colours (BGR, 0 to 255) by class index, from ``metadata.thing_colors`` (RGB).

    Classes without a colour get one of a fixed palette, so that a class looks the same in every
    frame of every video.
    """
    given = list(getattr(metadata, "thing_colors", None) or [])
    count = len(getattr(metadata, "thing_classes", None) or given)
    rest = [_FALLBACK_COLORS[i % len(_FALLBACK_COLORS)] for i in range(len(given), count)]
    return [(int(b), int(g), int(r)) for r, g, b in [*given, *rest]]


def draw_instance_predictions(
    image_bgr: np.ndarray,
    instances: Any,
    *,
    metadata: Any,
    parents: Any = None,
    min_score: float = 0.5,
    max_overlap: float = 0.7,
    scores_raw: Any = None,
    legend: bool = True,
    caption: str = "",
    in_place: bool = False,
) -> np.ndarray:
    """Draw predicted instances: translucent masks with outlines, boxes, labels, buildings, legend.

    Nothing but the pixels inside boxes, labels, legend and caption changes.

    Args:
        image_bgr: (H, W, 3) uint8, the frame.
        instances: ``pred_boxes`` (N, 4) XYXY in pixels of the frame, ``scores`` (N,),
            ``pred_classes`` (N,), and optionally ``pred_masks``, ``pred_parent_boxes`` (N, 4) and
            ``scores_raw``. Masks are (N, H, W) bool or uint8, or (N, h, w) or (N, 1, h, w)
            probabilities inside the boxes (as a mask head gives, any h and w), or a list of N
            :class:`MaskCrop`. ``pred_hidden_masks``, of any of these forms, are what of the masks
            is not seen: it is not filled, and outlined by dashes. Tensors on any device, or numpy.
            N may be 0.
        metadata: with ``thing_classes`` and ``thing_colors`` (RGB). With ``regions`` the instances
            are regions of classes: they get no boxes, and the legend has their share in percent.
        parents: buildings, ``pred_boxes`` (M, 4) and optionally ``scores`` (M,). None: the distinct
            ``pred_parent_boxes`` of the instances that are drawn. Where the instances have
            ``pred_parent_boxes``, buildings without a drawn instance are left out: a model finds
            dozens of them, and ISBDA labels damaged buildings alone.
        min_score: instances and parents with a lower score are left out.
        max_overlap: an instance most of which (more than this share) lies in a better one of its
            class that is drawn is left out, as is a building: detectors leave duplicates nested in
            one another that their NMS, which asks for IoU, does not see. Masks decide, and boxes
            where there are none. 1: all are drawn.
        scores_raw: (N,) scores before refinement; where None, ``instances.scores_raw`` if there.
            A label gets an arrow up or down where the refined score differs visibly.
        legend: draw colours, names and counts in the upper left corner.
        caption: a line of text for the lower left corner, such as the time.
        in_place: draw on ``image_bgr`` itself.

    Returns:
        A new (H, W, 3) uint8 image (or ``image_bgr`` itself if ``in_place``).

    Raises:
        InputError: if the image is no (H, W, 3) uint8, a box is not finite, or lengths differ.
    """
    canvas = _canvas(image_bgr, in_place)
    boxes, scores, classes, raw = _columns(instances, scores_raw)
    kept = np.flatnonzero(scores >= min_score)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    masks = MaskCropper(getattr(instances, "pred_masks", None), len(scores), canvas.shape[:2])
    hidden = MaskCropper(
        getattr(instances, "pred_hidden_masks", None), len(scores), canvas.shape[:2]
    )
    names = _names(metadata, classes)
    height, width = canvas.shape[:2]
    crops = [masks.crop(int(i), boxes[i]) for i in kept]
    distinct = distinct_objects(boxes[kept], classes[kept], crops, max_overlap)
    kept, crops = kept[distinct], [crops[i] for i in distinct]
    items = []
    for i, crop in zip(kept, crops):
        score = f"{scores[i]:.2f}"
        arrow = 0
        if raw is not None and abs(scores[i] - raw[i]) >= _SHOWN_CHANGE:
            arrow = 1 if scores[i] > raw[i] else -1
        level = int(classes[i])
        items.append(
            _Item(
                box_pixels(boxes[i], width, height),
                level,
                f"{names[level]} {score}",
                score,
                arrow,
                crop,
                hidden.crop(int(i), boxes[i]),
            )
        )
    parent_boxes = _parent_boxes(instances, parents, kept, min_score)
    parent_boxes = parent_boxes[distinct_objects(parent_boxes, max_overlap=max_overlap)]
    _draw(canvas, items, parent_boxes, metadata, legend, caption, arrows=raw is not None)
    return canvas


def draw_dataset_dict(
    image_bgr: np.ndarray,
    dataset_dict: dict,
    *,
    metadata: Any,
    legend: bool = True,
    caption: str = "",
) -> np.ndarray:
    """Draw the annotations of a dataset dict, as :func:`draw_instance_predictions` draws.

    Args:
        image_bgr: (H, W, 3) uint8. If its size differs from the dict's ``width`` and ``height``,
            the annotations are scaled to it.
        dataset_dict: with ``annotations`` (``bbox``, ``bbox_mode``, ``category_id``, and optionally
            polygon or RLE ``segmentation``, ``parent_bbox``, ``parent_id``); may be empty.
        metadata: with ``thing_classes`` and ``thing_colors`` (RGB).
        legend: draw colours, names and counts.
        caption: a line of text for the lower left corner.

    Returns:
        A new (H, W, 3) uint8 image.

    Raises:
        InputError: if the image is no (H, W, 3) uint8 or a box is not finite.
    """
    from detectron2.structures import BoxMode

    canvas = _canvas(image_bgr, in_place=False)
    height, width = canvas.shape[:2]
    scale = np.array(
        [width / dataset_dict.get("width", width), height / dataset_dict.get("height", height)]
    )

    def to_xyxy(box: Sequence[float], mode: int) -> np.ndarray:
        xyxy = BoxMode.convert([float(v) for v in box], mode, BoxMode.XYXY_ABS)
        return np.asarray(xyxy, dtype=np.float64) * np.tile(scale, 2)

    annotations = dataset_dict.get("annotations") or []
    classes = np.array([a["category_id"] for a in annotations], dtype=np.int64)
    names = _names(metadata, classes)
    items, parents = [], {}
    for annotation in annotations:
        mode = annotation["bbox_mode"]
        level = int(annotation["category_id"])
        box = _finite(to_xyxy(annotation["bbox"], mode), "annotation")
        mask = annotation_mask(annotation.get("segmentation"), scale, (height, width))
        pixels = box_pixels(box, width, height)
        items.append(_Item(pixels, level, names[level], names[level], 0, mask))
        if annotation.get("parent_bbox") is not None:
            parent = _finite(to_xyxy(annotation["parent_bbox"], mode), "building")
            parents[annotation.get("parent_id", tuple(parent))] = parent
    _draw(canvas, items, list(parents.values()), metadata, legend, caption, arrows=False)
    return canvas


def side_by_side(
    left: np.ndarray,
    right: np.ndarray,
    titles: tuple[str, str] = ("Ground truth", "Prediction"),
) -> np.ndarray:
    """Two pictures beside one another under their titles, scaled to the height of the left one.

    Args:
        left, right: (H, W, 3) uint8 each; sizes may differ.
        titles: text above each; empty strings leave the title line out.

    Returns:
        An image of the left one's height plus the title line, both widths and a gap.
    """
    left, right = _canvas(left, True), _canvas(right, True)
    height = left.shape[0]
    if right.shape[0] != height:
        width = max(1, round(right.shape[1] * height / right.shape[0]))
        right = cv2.resize(right, (width, height), interpolation=cv2.INTER_AREA)
    layout = Layout.for_image(left)
    gap = np.full((height, layout.pad * 2, 3), 255, np.uint8)
    sheet = np.concatenate([left, gap, right], axis=1)
    if not any(titles):
        return sheet
    cap = layout.text * 3 // 2
    sprites = [text_sprite(t, cap, (255, 255, 255), 0, (0, 0, 0)) for t in titles]
    bar = np.full((sprites[0].shape[0] + 2 * layout.pad, sheet.shape[1], 3), 255, np.uint8)
    paste(bar, sprites[0], layout.pad, layout.pad)
    paste(bar, sprites[1], left.shape[1] + gap.shape[1] + layout.pad, layout.pad)
    return np.concatenate([bar, sheet], axis=0)


def contact_sheet(
    images: Sequence[np.ndarray],
    columns: int,
    *,
    cell_width: int | None = None,
    captions: Sequence[str] | None = None,
) -> np.ndarray:
    """Pictures in rows of ``columns``, on white.

    Args:
        images: at least one (H, W, 3) uint8. Cells take the aspect ratio of the first; others are
            fitted inside.
        columns: images per row, at least 1.
        cell_width: width of a cell in pixels; None: that of the first image.
        captions: a line over each picture's lower left corner.

    Raises:
        InputError: if there is no image, or ``columns`` is below 1.
    """
    if not images:
        raise InputError("a contact sheet needs at least one image, and got none")
    if columns < 1:
        raise InputError(f"columns of a contact sheet must be at least 1, and are {columns}")
    columns = min(columns, len(images))
    first = _canvas(images[0], True)
    width = cell_width or first.shape[1]
    height = max(1, round(first.shape[0] * width / first.shape[1]))
    gap = max(2, width // 100)
    rows = -(-len(images) // columns)
    sheet = np.full(
        (rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, dtype=np.uint8
    )
    for i, image in enumerate(images):
        image = _canvas(image, True)
        factor = min(width / image.shape[1], height / image.shape[0])
        size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        cell = image if factor == 1 else cv2.resize(image, size, interpolation=interpolation)
        if captions is not None and captions[i]:
            cell = cell.copy()
            _draw_caption(cell, captions[i], Layout.for_image(cell))
        row, column = divmod(i, columns)
        paste(
            sheet,
            cell,
            gap + column * (width + gap) + (width - size[0]) // 2,
            gap + row * (height + gap) + (height - size[1]) // 2,
        )
    return sheet


def _draw(
    canvas: np.ndarray,
    items: list[_Item],
    parent_boxes: Sequence[np.ndarray] | np.ndarray,
    metadata: Any,
    legend: bool,
    caption: str,
    arrows: bool,
) -> None:
    """Draw ``items`` (the most important first) and buildings on ``canvas``."""
    layout = Layout.for_image(canvas)
    colors = level_colors(metadata)
    for box in parent_boxes:
        corner_marks(canvas, box, layout)
    # The most important last: it lies on top.
    for item in reversed(items):
        if item.mask is not None:
            _draw_mask(canvas, item.mask, item.hidden, colors[item.level], layout)
    regions = bool(getattr(metadata, "regions", False))
    for item in () if regions else reversed(items):
        x0, y0, x1, y1 = item.box
        if x1 > x0 and y1 > y0:
            cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), colors[item.level], layout.box_line)
    if legend:
        names = list(metadata.thing_classes)
        counts = [sum(item.level == k for item in items) for k in range(len(names))]
        rows: list[tuple[str, int | str, tuple[int, int, int]]]
        rows = [(names[k], counts[k], colors[k]) for k in range(len(names))]
        if regions:
            rows = [
                (names[item.level], f"{_percent(item, canvas)} %", colors[item.level])
                for item in sorted(items, key=lambda item: item.level)
            ]
        buildings = None if regions else len(parent_boxes)
        sprite = legend_sprite(tuple(rows), buildings, arrows, layout) if rows else None
    if legend and sprite is not None:
        paste(canvas, sprite, layout.pad, layout.pad, opacity=0.75)
        layout.occupy(layout.pad, layout.pad, sprite.shape[1], sprite.shape[0])
    if caption:
        _draw_caption(canvas, caption, layout)
    for item in () if regions else items:
        x0, y0, x1, y1 = item.box
        if x1 <= x0 or y1 <= y0:
            continue
        color = colors[item.level]
        sprite = text_sprite(item.text, layout.text, color, item.arrow)
        place, free = layout.place(item.box, sprite.shape[1], sprite.shape[0])
        if not free:
            # A crowd: the score alone, in the level's colour, takes half the room.
            sprite = text_sprite(item.short_text, layout.text, color, item.arrow)
            place, _ = layout.place(item.box, sprite.shape[1], sprite.shape[0], steps=6)
        paste(canvas, sprite, *place)
        layout.occupy(*place, sprite.shape[1], sprite.shape[0])


def _draw_mask(
    canvas: np.ndarray,
    whole: MaskCrop,
    hidden: MaskCrop | None,
    color: tuple[int, int, int],
    layout: Layout,
) -> None:
    if hidden is None:
        blend_mask(canvas, whole.mask, whole.x, whole.y, color, layout)
        return
    covered = hidden.within(whole)
    blend_mask(canvas, (whole.mask > 0) & ~covered, whole.x, whole.y, color, layout)
    dashed_outline(canvas, whole.mask, covered, whole.x, whole.y, color, layout)


def _percent(item: _Item, canvas: np.ndarray) -> int:
    """Share of the picture that a region covers, rounded."""
    pixels = 0 if item.mask is None else np.count_nonzero(item.mask.mask)
    return round(100 * pixels / (canvas.shape[0] * canvas.shape[1]))


def _draw_caption(canvas: np.ndarray, caption: str, layout: Layout) -> None:
    # Not kept: a caption that tells the time is another in every frame.
    sprite = render_text(caption, layout.text, (32, 32, 32))
    x, y = layout.pad, max(0, canvas.shape[0] - layout.pad - sprite.shape[0])
    paste(canvas, sprite, x, y, opacity=0.75)
    layout.occupy(x, y, sprite.shape[1], sprite.shape[0])


def _canvas(image: np.ndarray, in_place: bool) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
        got = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
        raise InputError(f"expected an image (height, width, 3) of uint8 in BGR order, got {got}")
    if 0 in image.shape:
        raise InputError(f"expected an image with pixels, got one of shape {image.shape}")
    return image if in_place else image.copy()


def _finite(boxes: np.ndarray, what: str) -> np.ndarray:
    if not np.isfinite(boxes).all():
        raise InputError(f"a box of {what} to draw is not finite: {boxes.tolist()}")
    return boxes


def _columns(
    instances: Any, scores_raw: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    scores = as_numpy(instances.scores).astype(np.float64).reshape(-1)
    boxes = as_numpy(instances.pred_boxes).astype(np.float64).reshape(-1, 4)
    classes = as_numpy(instances.pred_classes).astype(np.int64).reshape(-1)
    if scores_raw is None:
        scores_raw = getattr(instances, "scores_raw", None)
    raw = None if scores_raw is None else as_numpy(scores_raw).astype(np.float64).reshape(-1)
    lengths = {len(boxes), len(scores), len(classes), len(scores if raw is None else raw)}
    if len(lengths) > 1:
        raise InputError(
            f"instances to draw disagree: {len(boxes)} boxes, {len(scores)} scores, {len(classes)} "
            f"classes" + ("" if raw is None else f", {len(raw)} raw scores")
        )
    return _finite(boxes, "an instance"), scores, classes, raw


def _names(metadata: Any, classes: np.ndarray) -> list[str]:
    names = list(metadata.thing_classes)
    if len(classes) and (classes.min() < 0 or classes.max() >= len(names)):
        raise InputError(
            f"classes to draw go from {classes.min()} to {classes.max()}, but the metadata names "
            f"{len(names)} classes: {names}"
        )
    return names


def _parent_boxes(instances: Any, parents: Any, kept: np.ndarray, min_score: float) -> np.ndarray:
    """(M, 4) XYXY of the buildings to draw, best first where that is known."""
    own = getattr(instances, "pred_parent_boxes", None)
    if own is not None:
        own = as_numpy(own).astype(np.float64).reshape(-1, 4)[kept]
        own = own[(own[:, 2] > own[:, 0]) & (own[:, 3] > own[:, 1])]
    if parents is not None:
        boxes = as_numpy(parents.pred_boxes).astype(np.float64).reshape(-1, 4)
        if getattr(parents, "scores", None) is not None:
            scores = as_numpy(parents.scores).reshape(-1)
            boxes = boxes[np.argsort(-scores, kind="stable")[: np.sum(scores >= min_score)]]
        if own is not None:
            # Equal but for the rounding of boxes that were scaled apart.
            difference = np.abs(boxes[:, None] - own[None]).max(axis=2)
            boxes = boxes[(difference < 1).any(axis=1)]
    elif own is not None:
        boxes = own[np.sort(np.unique(own, axis=0, return_index=True)[1])]
    else:
        boxes = np.zeros((0, 4))
    return _finite(boxes, "a building")
