"""Where the usual tools put the JSON files of a data set and its images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from msnet_d2.utils.image_io import IMAGE_SUFFIXES

__all__ = ["ImageFinder", "image_folder", "split_name", "splits_of"]

_FIRST = ("train", "val", "valid")  # the order in which the splits of a folder are given
_ROBOFLOW = "_annotations.coco.json"
# Files that hold a whole data set, with the folder of its images: FiftyOne's, Label Studio's.
_WHOLE = {"labels.json": "data", "result.json": "images"}
_MOST_FILES = 1_000_000


def splits_of(folder: Path) -> dict[str, tuple[Path, Path]]:
    """JSON file and image folder of each split of a data set's folder, the training split first.

    Known are ISBDA's, COCO's and CVAT's layout (``annotations/instances_SPLIT.json``), Roboflow's
    (``SPLIT/_annotations.coco.json``), FiftyOne's (``labels.json`` beside ``data/``) and Label
    Studio's (``result.json`` beside ``images/``). The last two have one split, ``all``.
    """
    found = {
        split: path
        for path in folder.glob("annotations/instances_*.json")
        if (split := split_name(path))
    }
    found = found or {path.parent.name: path for path in folder.glob(f"*/{_ROBOFLOW}")}
    if not found:
        whole = [folder / name for name in (_ROBOFLOW, *_WHOLE) if (folder / name).is_file()]
        found = {"all": whole[0]} if whole else {}
    order = sorted(found, key=lambda s: (_FIRST.index(s) if s in _FIRST else len(_FIRST), s))
    return {split: (found[split], image_folder(found[split])) for split in order}


def split_name(json_file: Path) -> str | None:
    """Split that a JSON of a layout with splits stands for; None for any other."""
    match = re.fullmatch(r"instances_(.+)\.json", json_file.name)
    if json_file.parent.name == "annotations" and match:
        return match[1]
    return json_file.parent.name if json_file.name == _ROBOFLOW else None


def image_folder(json_file: Path) -> Path:
    """Folder of the images of a JSON, by its place.

    For ``DIR/annotations/instances_SPLIT.json`` the first that exists of ``DIR/SPLIT``,
    ``DIR/images/SPLIT`` (CVAT), ``DIR/SPLIT2017`` (COCO), ``DIR/images``; for ``labels.json`` the
    folder ``data`` beside it; for any other JSON its own folder.
    """
    folder, split = json_file.parent, split_name(json_file)
    if split and json_file.name != _ROBOFLOW:
        places = (split, f"images/{split}", f"{split.removesuffix('2017')}2017", "images")
        wanted = [folder.parent / place for place in places]
        return next((place for place in wanted if place.is_dir()), wanted[0])
    data = folder / _WHOLE["labels.json"]
    return data if json_file.name == "labels.json" and data.is_dir() else folder


class ImageFinder:
    """Images of a folder by their base names, for JSON files that were written elsewhere.

    Label Studio and FiftyOne write the paths of the machine that they ran on, others the names
    without suffix. The folder is searched once, when the first name is asked for.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._paths: dict[str, str | None] | None = None

    def find(self, name: str) -> str | None:
        """The one image below the folder that has the base name, or the stem, of ``name``."""
        if self._paths is None:
            self._paths = _by_name(_images_below(self._root))
        base = re.split(r"[\\/]", name)[-1]
        # Label Studio puts eight hexadecimal digits before the name of an uploaded file.
        bare = re.sub(r"^[0-9a-f]{8}-", "", base)
        return next((p for key in (base, bare) if (p := self._paths.get(key.lower()))), None)


def _images_below(root: str) -> Iterable[str]:
    count = 0
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in files:
            count += 1
            if count > _MOST_FILES:
                return
            if os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES:
                yield os.path.join(folder, file)


def _by_name(paths: Iterable[str]) -> dict[str, str | None]:
    """Paths by base name and by stem; None where several have it."""
    found: dict[str, str | None] = {}
    for path in paths:
        base = os.path.basename(path).lower()
        for key in {base, os.path.splitext(base)[0]}:
            found[key] = None if key in found else path
    return found
