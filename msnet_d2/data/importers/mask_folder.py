"""A folder of pictures with one mask each, listed in a CSV of the columns Image and Mask.

So comes the flood area data set (290 pictures). Its copies hold JPEG names with WebP content, a
picture that EXIF turns, masks with grey borders, two pairs of swapped masks, masks of another size,
and pictures that are there twice. Each is handled here, and told.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from msnet_d2.data.isbda.issues import Issue
from msnet_d2.data.isbda.paths import PathChecker
from msnet_d2.errors import InputError
from msnet_d2.utils.file_io import write_bytes, write_json
from msnet_d2.utils.image_io import open_image, read_bgr
from msnet_d2.utils.output_folder import replaced_folder

__all__ = ["MaskImport", "import_mask_folder"]

THRESHOLD = 128  # of a mask, before it is resized
GRAY = (10, 245)  # values between are neither
IGNORED = 255
SAME_SHAPE = 0.01  # by which the aspect ratios of a picture and its mask may differ
THUMBNAIL = 32  # pixels
SAME_PICTURE = 0.98  # correlation of thumbnails
LARGEST_SIDE = 1024
QUALITY = 92
# Masks of the flood area data set that were drawn on a picture of another shape.
STRETCHED = ("1061", "1079", "3059")


@dataclass
class MaskImport:
    """What an import did.

    Attributes:
        issues: what was found and how it was handled, "kept"; or "fatal", then nothing is written.
        counts: pictures by split.
        groups: file names of pictures that are there several times; they stay in one split.
        background_share: of the pixels of the validation split that count. To call all of them
            background has this pixel accuracy, and half of it as mean IU: figures of a model mean
            something above that.
    """

    issues: list[Issue] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    groups: list[list[str]] = field(default_factory=list)
    background_share: float = float("nan")

    def add(self, severity: str, kind: str, name: str, message: str) -> None:
        """Add an issue of the picture ``name``."""
        self.issues.append(Issue(severity, kind, name, None, message))


@dataclass
class _Pair:
    name: str
    image: str
    mask: str
    image_size: tuple[int, int] = (0, 0)  # width, height as it is shown
    mask_size: tuple[int, int] = (0, 0)

    def fits(self, mask_size: tuple[int, int]) -> bool:
        """Whether a mask of this size has the picture's shape."""
        (w, h), (mw, mh) = self.image_size, mask_size
        return abs(w * mh / (h * mw) - 1) <= SAME_SHAPE


def import_mask_folder(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    *,
    foreground: str = "flood",
    ignore_gray: bool = False,
    val_share: float = 0.2,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> MaskImport:
    """Write a folder of masks as a data set of the kind semantic.

    Args:
        folder: with one .csv of the columns Image and Mask, and the files beside it or in folders
            Image and Mask.
        out: folder to write: train/, val/, semantic/ and annotations/.
        foreground: name of the class that masks are white at; the other is "dry" beside "flood" and
            "water", and "background" beside any other.
        ignore_gray: mask values from 10 to 245 count as neither.
        val_share: share of the pictures to validate on.
        seed: of the split.
        progress: called with 1 for each picture written.

    Returns:
        What was found. With a fatal issue nothing has been written.

    Raises:
        InputError: if there is no such CSV, or an argument is none.
        OutputError: if ``out`` cannot be written.
    """
    if not 0 < val_share < 1:
        raise InputError(f"a validation share of {val_share}: expected more than 0, less than 1")
    done = MaskImport()
    pairs = _read_csv(Path(folder), done)
    pairs = [pair for pair in pairs if _look_at(pair, done)]
    _match_masks(pairs, done)
    if any(issue.fatal for issue in done.issues):
        return done
    done.groups, sides = _split(pairs, val_share, seed)
    names = ("dry" if foreground in ("flood", "water") else "background", foreground)
    with replaced_folder(out, "imported data set", inputs=[folder]) as made:
        counts = np.zeros(256, np.int64)
        images: dict[str, list[dict]] = {"train": [], "val": []}
        for pair, side in zip(pairs, sides):
            label = _write(pair, made, side, ignore_gray)
            if side == "val":
                counts += np.bincount(label.ravel(), minlength=256)
            height, width = label.shape
            images[side].append(
                {
                    "id": len(images[side]) + 1,
                    "file_name": f"{pair.name}.jpg",
                    "sem_seg_file_name": f"{pair.name}.png",
                    "width": width,
                    "height": height,
                }
            )
            if progress is not None:
                progress(1)
        for side, entries in images.items():
            document = {
                "images": entries,
                "labels": [{"id": n, "name": name} for n, name in enumerate(names)],
                "ignore_label": IGNORED,
            }
            write_json(made / "annotations" / f"semantic_{side}.json", document)
    done.counts = {side: len(entries) for side, entries in images.items()}
    done.background_share = float(counts[0] / max(counts[:2].sum(), 1))
    return done


def _read_csv(folder: Path, done: MaskImport) -> list[_Pair]:
    tables = sorted(folder.glob("*.csv")) if folder.is_dir() else []
    if len(tables) != 1:
        found = f"{len(tables)} .csv files" if folder.is_dir() else "no such folder"
        raise InputError(
            f"{folder}: expected a folder with one .csv of Image and Mask, got {found}"
        )
    try:
        with open(tables[0], newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{tables[0]} cannot be read: {error}") from error
    if not rows or not {"Image", "Mask"} <= set(rows[0]):
        raise InputError(f"{tables[0]} has no rows with the columns Image and Mask")
    pairs, seen = [], set()
    for row in rows:
        name = Path(row["Image"] or "").stem
        paths = [_find(folder, key, row[key], name, done) for key in ("Image", "Mask")]
        if name in seen:
            done.add("fatal", "duplicate-name", name, "two rows are of it")
        elif all(paths):
            pairs.append(_Pair(name, *paths))
        seen.add(name)
    return pairs


def _find(folder: Path, key: str, value: object, name: str, done: MaskImport) -> str | None:
    """Path of a file of the table, in the folder of its column or beside the table."""
    root = folder / key if (folder / key).is_dir() else folder
    try:
        path = PathChecker(str(root)).resolve(value)
    except ValueError as error:
        done.add("fatal", "file-name", name, f"{key} {value!r} {error}")
        return None
    if not os.path.isfile(path):
        done.add("fatal", "missing-file", name, f"there is no {path}")
        return None
    return path


def _look_at(pair: _Pair, done: MaskImport) -> bool:
    """Read the headers; False if a file is unusable, as is told."""
    try:
        with open_image(pair.image) as image:
            kind = image.format
            turned = image.getexif().get(0x0112, 1)
            width, height = image.size
            pair.image_size = (height, width) if turned in (5, 6, 7, 8) else (width, height)
        with open_image(pair.mask) as mask:
            pair.mask_size, mode = mask.size, mask.mode
    # Decoders meet damaged files with almost any exception.
    except Exception as error:
        done.add("fatal", "unreadable-file", pair.name, str(error))
        return False
    suffix = Path(pair.image).suffix.lower()
    if suffix in (".jpg", ".jpeg") and kind != "JPEG":
        message = f"{Path(pair.image).name} is {kind} by its content; it is read as that"
        done.add("kept", "other-format", pair.name, message)
    if turned in range(2, 9):
        done.add("kept", "exif-orientation", pair.name, "it was turned as its EXIF data says")
    if mode not in ("L", "1", "RGB", "RGBA", "P", "LA"):
        done.add("fatal", "mask-mode", pair.name, f"its mask has Pillow's mode {mode!r}")
        return False
    return True


def _match_masks(pairs: list[_Pair], done: MaskImport) -> None:
    """Exchange swapped masks, and refuse those that fit nothing."""
    odd = [pair for pair in pairs if not pair.fits(pair.mask_size)]
    for pair in list(odd):
        partners = [
            other
            for other in odd
            if other is not pair and pair.fits(other.mask_size) and other.fits(pair.mask_size)
        ]
        if pair in odd and len(partners) == 1:
            other = partners[0]
            pair.mask, other.mask = other.mask, pair.mask
            pair.mask_size, other.mask_size = other.mask_size, pair.mask_size
            odd.remove(pair)
            odd.remove(other)
            message = f"its mask and that of {other.name} are swapped, by their shapes; put right"
            done.add("kept", "swapped-masks", pair.name, message)
    for pair in pairs:
        sizes = "{}x{}, its mask {}x{}".format(*pair.image_size, *pair.mask_size)
        if pair in odd and pair.name not in STRETCHED:
            message = f"it is {sizes}: of another shape, and no other mask fits"
            done.add("fatal", "mask-shape", pair.name, message)
        elif pair.image_size != pair.mask_size:
            message = f"it is {sizes}; the mask was stretched to fit"
            done.add("kept", "mask-size", pair.name, message)


def _split(pairs: list[_Pair], val_share: float, seed: int) -> tuple[list[list[str]], list[str]]:
    """Groups of equal pictures, and the side of each pair; a group stays on one side."""
    thumbnails = []
    for pair in pairs:
        size = (THUMBNAIL, THUMBNAIL)
        small = cv2.resize(read_bgr(pair.image), size, interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float64).ravel()
        gray -= gray.mean()
        thumbnails.append(gray / max(float(np.linalg.norm(gray)), 1e-9))
    alike = np.array(thumbnails).reshape(len(pairs), -1)
    same = alike @ alike.T > SAME_PICTURE
    group = np.arange(len(pairs))
    for i, j in np.argwhere(np.triu(same, 1)):
        group[group == group[j]] = group[i]
    members = {g: np.nonzero(group == g)[0].tolist() for g in np.unique(group).tolist()}
    wanted, sides = round(val_share * len(pairs)), ["train"] * len(pairs)
    for g in np.random.default_rng(seed).permutation(list(members)).tolist():
        if sides.count("val") + len(members[g]) <= wanted:
            for n in members[g]:
                sides[n] = "val"
    twice = [[pairs[n].name for n in m] for m in members.values() if len(m) > 1]
    return twice, sides


def _write(pair: _Pair, out: Path, side: str, ignore_gray: bool) -> np.ndarray:
    """Write a picture and its labels, at most :data:`LARGEST_SIDE` wide and high."""
    image = read_bgr(pair.image)
    scale = min(LARGEST_SIDE / max(image.shape[:2]), 1)
    height, width = (max(round(n * scale), 1) for n in image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    write_bytes(out / side / f"{pair.name}.jpg", data.tobytes())
    with open_image(pair.mask) as opened:
        mask = np.asarray(ImageOps.exif_transpose(opened).convert("L"))
    label = (mask >= THRESHOLD).astype(np.uint8)
    if ignore_gray:
        label[(mask >= GRAY[0]) & (mask <= GRAY[1])] = IGNORED
    if label.shape != (height, width):
        label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
    buffer = io.BytesIO()
    Image.fromarray(label).save(buffer, format="PNG")
    write_bytes(out / "semantic" / side / f"{pair.name}.png", buffer.getvalue())
    return label
