"""Brushes of :mod:`.draw`: blended masks, corner marks, text, and where labels go.

Text and legends are rendered once and kept: a video repeats the same few hundred labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

__all__ = [
    "Layout",
    "blend_mask",
    "corner_marks",
    "dashed_outline",
    "legend_sprite",
    "paste",
    "render_text",
    "text_sprite",
]

Color = tuple[int, int, int]

# Share of the level's colour in a filled mask.
_FILL = 0.35
# Text is drawn this many times larger and scaled down: OpenCV's stroke fonts are unreadable at the
# few pixels that a small frame has for them.
_OVERSAMPLING = 4
_FONT = cv2.FONT_HERSHEY_DUPLEX
# Height in pixels of a capital letter of the font at scale 1.
_CAP_HEIGHT = 22.0
# Occupied places are remembered in cells of this many pixels.
_CELL = 4


@dataclass
class Layout:
    """Sizes in pixels for one image, and which places are taken by labels.

    Attributes:
        text: height of a capital letter; at 1080p 15, never below 8.
        mask_line, box_line: thickness of outlines.
        pad: distance of the legend from the border.
    """

    text: int
    mask_line: int
    box_line: int
    pad: int
    size: tuple[int, int]
    taken: np.ndarray = field(repr=False)

    @classmethod
    def for_image(cls, image: np.ndarray) -> Layout:
        """The layout for an image (H, W, 3)."""
        height, width = image.shape[:2]
        short = min(height, width)
        return cls(
            text=max(8, round(short / 72)),
            mask_line=max(1, round(short / 540)),
            box_line=max(1, round(short / 900)),
            pad=max(3, round(short / 90)),
            size=(height, width),
            taken=np.zeros((height // _CELL + 1, width // _CELL + 1), bool),
        )

    def occupy(self, x: int, y: int, width: int, height: int) -> None:
        """Mark a rectangle as taken.

        Args:
            x, y: its upper left corner, in pixels inside the frame.
            width, height: its size in pixels.
        """
        self._cells(x, y, width, height)[:] = True

    def place(
        self, box: tuple[int, int, int, int], width: int, height: int, steps: int = 0
    ) -> tuple[tuple[int, int], bool]:
        """Where a label of a ``box`` (x0, y0, x1, y1) goes, inside the frame.

        Args:
            box: pixels of the box, clipped to the frame.
            width, height: the label's.
            steps: how many heights of a label to move down or up from the box where all places at
                the box are taken.

        Returns:
            The label's upper left corner, and whether that place was free. If none is, it is the
            one least covered.
        """
        x0, y0, x1, y1 = box
        limit_x, limit_y = max(0, self.size[1] - width), max(0, self.size[0] - height)
        # Above, inside below the upper edge, below, then the same at the right edge, beside, and
        # inside at the lower edge.
        places = [
            (x0, y0 - height),
            (x0, y0),
            (x0, y1),
            (x1 - width, y0 - height),
            (x1 - width, y0),
            (x1 - width, y1),
            (x1, y0),
            (x0 - width, y0),
            (x0, y1 - height),
        ]
        for step in range(1, steps + 1):
            places += [(x0, y1 + step * height), (x0, y0 - (step + 1) * height)]
        best, best_cover = (0, 0), None
        for x, y in places:
            x, y = min(max(x, 0), limit_x), min(max(y, 0), limit_y)
            cover = int(np.count_nonzero(self._cells(x, y, width, height)))
            if cover == 0:
                return (x, y), True
            if best_cover is None or cover < best_cover:
                best, best_cover = (x, y), cover
        return best, False

    def _cells(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        return self.taken[
            y // _CELL : -(-(y + height) // _CELL), x // _CELL : -(-(x + width) // _CELL)
        ]


@lru_cache(maxsize=16)
def _solid(color: Color, height: int, width: int) -> np.ndarray:
    """An image of one colour, to be blended and copied from; do not write to it."""
    image = np.full((height, width, 3), color, np.uint8)
    image.flags.writeable = False
    return image


def blend_mask(
    canvas: np.ndarray, mask: np.ndarray, x: int, y: int, color: Color, layout: Layout
) -> None:
    """Fill a mask with 35% of a colour, and outline it inside.

    Args:
        canvas: (H, W, 3) uint8, drawn on.
        mask: (h, w) bool or uint8, non-zero where the object is; it lies wholly inside the canvas.
            h or w may be 0.
        x, y: the mask's upper left corner in the canvas, in pixels.
        color: in the canvas's order (BGR).
        layout: gives the thickness of the outline.
    """
    mask = np.ascontiguousarray(mask).view(np.uint8)
    height, width = mask.shape
    region = canvas[y : y + height, x : x + width]
    # Rounded up to few sizes, which are kept: filling an image costs as much as blending it.
    solid = _solid(color, -(-height // 256) * 256, -(-width // 256) * 256)[:height, :width]
    cv2.copyTo(cv2.addWeighted(region, 1 - _FILL, solid, _FILL, 0.0), mask, region)
    # The outline lies inside the mask: it leaves neither the mask nor its box. Four times as fast
    # as finding and drawing contours, and it shows holes too.
    side = 2 * layout.mask_line + 1
    inside = cv2.erode(
        mask, np.ones((side, side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    cv2.copyTo(solid, cv2.subtract(mask, inside), region)


def dashed_outline(
    canvas: np.ndarray,
    mask: np.ndarray,
    hidden: np.ndarray,
    x: int,
    y: int,
    color: Color,
    layout: Layout,
) -> None:
    """Outline the hidden part of a mask by dashes inside it.

    Args:
        canvas: (H, W, 3) uint8, drawn on.
        mask: (h, w) bool or uint8, non-zero where the whole object is; it lies inside the canvas.
        hidden: (h, w) bool, what of it is not seen.
        x, y: the masks' upper left corner in the canvas, in pixels.
        color: in the canvas's order (BGR).
        layout: gives thickness and length of the dashes.
    """
    mask = np.ascontiguousarray(mask).view(np.uint8)
    height, width = mask.shape
    if not height or not width:
        return
    dashes = np.zeros_like(mask)
    length = 5 * layout.mask_line
    for contour in cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]:
        columns, rows = contour[:, 0].T
        drawn = np.arange(len(columns)) // length % 2 == 0
        dashes[rows[drawn], columns[drawn]] = 1
    side = 2 * layout.mask_line + 1
    dashes = cv2.dilate(dashes, np.ones((side, side), np.uint8)) & mask
    canvas[y : y + height, x : x + width][(dashes > 0) & hidden] = color


def corner_marks(canvas: np.ndarray, box: np.ndarray, layout: Layout) -> None:
    """Mark the four corners of a box, white on a dark edge, inside the box.

    Args:
        canvas: (H, W, 3) uint8, drawn on.
        box: (4,) XYXY in pixels; what lies outside of the canvas is cut off, and a box without
            pixels inside draws nothing.
        layout: gives the thickness.
    """
    height, width = canvas.shape[:2]
    x0, y0 = (int(np.floor(v)) for v in box[:2])
    x1, y1 = (int(np.ceil(v)) for v in box[2:])
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if x1 <= x0 or y1 <= y0:
        return
    region = canvas[y0:y1, x0:x1]
    h, w = region.shape[:2]
    line = layout.mask_line
    arm = max(3 * line, min(w, h, 12 * layout.text) // 5)
    for shade, thick in ((0, line + max(1, line // 2)), (255, line)):
        for columns in (slice(0, arm), slice(max(0, w - arm), w)):
            region[:thick, columns] = shade
            region[max(0, h - thick) :, columns] = shade
        for rows in (slice(0, arm), slice(max(0, h - arm), h)):
            region[rows, :thick] = shade
            region[rows, max(0, w - thick) :] = shade


def paste(canvas: np.ndarray, sprite: np.ndarray, x: int, y: int, opacity: float = 1.0) -> None:
    """Put a small picture on a larger one, cut off at the right and lower border.

    Args:
        canvas: (H, W, 3) uint8, drawn on.
        sprite: (h, w, 3) uint8.
        x, y: the sprite's upper left corner in the canvas, at least 0, in pixels.
        opacity: share of the sprite in the result, from 0 to 1.
    """
    region = canvas[y : y + sprite.shape[0], x : x + sprite.shape[1]]
    sprite = sprite[: region.shape[0], : region.shape[1]]
    if opacity >= 1.0:
        region[:] = sprite
    else:
        cv2.addWeighted(sprite, opacity, region, 1.0 - opacity, 0.0, dst=region)


def _ink(background: Color) -> Color:
    """Black or white, whichever is the more readable on ``background`` (BGR)."""
    blue, green, red = background
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 128 else (255, 255, 255)


@lru_cache(maxsize=1024)
def text_sprite(
    text: str, cap: int, background: Color, arrow: int = 0, ink: Color | None = None
) -> np.ndarray:
    """A line of text on a plate as :func:`render_text` makes it, kept for the next time; do not
    write to it.
    """
    sprite = render_text(text, cap, background, arrow, ink)
    sprite.flags.writeable = False
    return sprite


def render_text(
    text: str, cap: int, background: Color, arrow: int = 0, ink: Color | None = None
) -> np.ndarray:
    """A line of text on a plate, (h, w, 3) uint8.

    Args:
        text: ASCII; other characters become question marks in OpenCV's fonts.
        cap: height in pixels of a capital letter.
        background: colour of the plate (BGR).
        arrow: 1: an arrow up after the text, −1: an arrow down, 0: none.
        ink: colour of the text; None: black or white.
    """
    ink = ink or _ink(background)
    factor = _OVERSAMPLING
    big_cap = cap * factor
    scale = big_cap / _CAP_HEIGHT
    thickness = max(1, round(big_cap / 8))
    (text_width, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = max(2, round(cap * 0.35)) * factor
    descent = round(big_cap * 0.3)
    arrow_width = big_cap if arrow else 0
    gap = margin if arrow else 0
    height = margin + big_cap + descent + margin // 2
    width = -(-(2 * margin + text_width + gap + arrow_width) // factor) * factor
    height = -(-height // factor) * factor
    plate = np.full((height, width, 3), background, np.uint8)
    base = margin + big_cap
    cv2.putText(plate, text, (margin, base), _FONT, scale, ink, thickness, cv2.LINE_AA)
    if arrow:
        left = margin + text_width + gap
        middle = left + arrow_width // 2
        tip, head = (margin, margin + big_cap // 2) if arrow > 0 else (base, base - big_cap // 2)
        tail = base if arrow > 0 else margin
        triangle = np.array([[middle, tip], [left, head], [left + arrow_width, head]], np.int32)
        cv2.fillPoly(plate, [triangle], ink)
        stem = max(1, big_cap // 6)
        cv2.rectangle(
            plate, (middle - stem, min(head, tail)), (middle + stem, max(head, tail)), ink, -1
        )
    return cv2.resize(plate, (width // factor, height // factor), interpolation=cv2.INTER_AREA)


def legend_sprite(
    rows: tuple[tuple[str, int | str, Color], ...],
    buildings: int | None,
    arrows: bool,
    layout: Layout,
) -> np.ndarray:
    """Legend with a color, a name and a count per row: (h, w, 3) uint8, read-only.

    Args:
        rows: name, count or share, colour (BGR) of each class.
        buildings: count of the last row; None: there is none.
        arrows: add what the arrows mean.
        layout: sizes.
    """
    return _legend(rows, buildings, arrows, layout.text, layout.mask_line)


@lru_cache(maxsize=64)
def _legend(
    rows: tuple[tuple[str, int | str, Color], ...],
    buildings: int | None,
    arrows: bool,
    cap: int,
    line: int,
) -> np.ndarray:
    plate_color = (32, 32, 32)
    lines = [text_sprite(f"{name} {count}", cap, plate_color) for name, count, _ in rows]
    if buildings is not None:
        lines.append(text_sprite(f"Buildings {buildings}", cap, plate_color))
    if arrows:
        lines.append(text_sprite("raised", cap, plate_color, 1))
        lines.append(text_sprite("lowered", cap, plate_color, -1))
    height = lines[0].shape[0]
    margin = max(2, cap // 3)
    swatch = cap + margin
    width = margin + swatch + max(sprite.shape[1] for sprite in lines) + margin
    plate = np.full((height * len(lines) + margin, width, 3), plate_color, np.uint8)
    for i, sprite in enumerate(lines):
        x = margin + swatch if i <= len(rows) else margin
        paste(plate, sprite, x, i * height)
        top = i * height + max(2, round(cap * 0.35))
        cell = plate[top : top + cap, margin : margin + cap]
        if i < len(rows):
            cell[:] = rows[i][2]
        elif i == len(rows):
            corner = max(2, cap // 3)
            cell[:] = 255
            cell[line:-line, line:-line] = plate_color
            cell[corner:-corner, :] = plate_color
            cell[:, corner:-corner] = plate_color
    plate.flags.writeable = False
    return plate
