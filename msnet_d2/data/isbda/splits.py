"""Splitting a data set by scene (paper, section 5.1): no scene is on both sides.

A split is written in ISBDA's layout, with pictures that stay where they are: ``train`` and ``val``
are links to the folder that holds all of the original ones.
"""

from __future__ import annotations

import logging
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msnet_d2.data.isbda.catalog import dataset_files, resolve_dataset
from msnet_d2.data.isbda.fitness import doubtful_scenes
from msnet_d2.data.isbda.reading import read_and_validate
from msnet_d2.data.isbda.validation import raise_fatal
from msnet_d2.errors import DatasetError, InputError
from msnet_d2.utils.file_io import read_json_file, write_json
from msnet_d2.utils.locks import hold
from msnet_d2.utils.output_folder import replaced_folder

__all__ = ["Split", "choose_train_scenes", "write_splits"]

logger = logging.getLogger(__name__)

_TRIALS = 2000
# Why an image has no scene, by what a scene is.
_WITHOUT = {
    "video": "belongs to no video: it has no video_id, and its name is not VIDEO_FRAME.jpg",
    "pattern": "is in no scene: --pattern does not match its name",
}
# A split this close to the wanted share of images is taken: were it always the closest one, every
# seed would give the same split, and averaging over seeds would mean nothing.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Split:
    """One split that was written.

    Attributes:
        folder: in ISBDA's layout; a spec for ``resolve_dataset``.
        seed: it was drawn with.
        scenes: names of the training scenes and of the validation scenes.
        images: number of images on each side.
        doubt: why what was taken for videos may be none; None: there is no doubt.
    """

    folder: Path
    seed: int
    scenes: tuple[list[str], list[str]]
    images: tuple[int, int]
    doubt: str | None = None


def choose_train_scenes(counts: Mapping[str, int], ratio: float, seed: int) -> list[str]:
    """Draw the scenes to train on, so that their share of the images is close to ``ratio``.

    The first of 2,000 random draws within 2% of all images is taken, or else the closest.

    Args:
        counts: number of images of each scene.
        ratio: wanted share of training images, between 0 and 1, both excluded.
        seed: the same one gives the same scenes, in whatever order ``counts`` has them.

    Returns:
        Sorted names; at least one scene is in, and at least one is not.

    Raises:
        InputError: for any other ratio.
        DatasetError: if there are fewer than two scenes.
    """
    if not 0 < ratio < 1:
        raise InputError(f"the ratio is {ratio}; it must be between 0 and 1")
    if len(counts) < 2:
        raise DatasetError(
            f"the data set has {'one scene' if counts else 'no scene'}; to split by scene takes "
            "two at least"
        )
    total = sum(counts.values())
    generator = random.Random(seed)
    names = sorted(counts)
    best_gap, best = float("inf"), names[:1]
    for _ in range(_TRIALS):
        order = generator.sample(names, len(names))
        # The prefix of a random order that comes closest; prefixes only grow, so the first that is
        # further away than the one before ends the search.
        images, gaps = 0, []
        for name in order[:-1]:
            images += counts[name]
            gaps.append(abs(images - ratio * total))
            if len(gaps) > 1 and gaps[-1] > gaps[-2]:
                break
        size = gaps.index(min(gaps)) + 1
        if gaps[size - 1] < best_gap:
            best_gap, best = gaps[size - 1], order[:size]
        if best_gap <= _TOLERANCE * total:
            break
    return sorted(best)


def write_splits(
    spec: str | os.PathLike,
    out: str | os.PathLike,
    ratio: float,
    seeds: Sequence[int],
    *,
    image_root: str | os.PathLike | None = None,
    by: str = "video",
    pattern: str | None = None,
) -> list[Split]:
    """Split a data set by scene once for each seed.

    Args:
        spec: data set as :func:`msnet_d2.data.resolve_dataset` takes it; several splits of one
            folder are put together first, a video of the same name in both being one scene.
        out: folder for the splits: ``out/seed_0`` and so on, each in ISBDA's layout.
        ratio: share of training images, between 0 and 1.
        seeds: one split each.
        image_root: folder of the images, for a JSON file or one split.
        by: what a scene is: "video"; "folder", that of the image; "pattern", what the first group
            of ``pattern`` matches in the file name.
        pattern: a regular expression, searched for in file names, such as ``(ortho[A-Z])_``.

    Returns:
        The splits, in the order of ``seeds``.

    Raises:
        DatasetError: if the data set has fatal issues, fewer than two scenes, images that belong to
            none, or pictures in folders that have nothing in common.
        InputError: if ``pattern`` is no expression with a group, or is missing; if ``out/seed_N``
            holds other files than an earlier split, or the data set.
    """
    scene_of, without = _scenes_by(by, pattern), _WITHOUT.get(by, "")
    source = _Source(resolve_dataset(spec, image_root), scene_of, without)
    counts = Counter(source.scenes.values())
    doubt = doubtful_scenes(source.records) if by == "video" else None
    splits = []
    with hold(out, "splits"):
        for seed in dict.fromkeys(seeds):
            train = choose_train_scenes(counts, ratio, seed)
            place = Path(out) / f"seed_{seed}"
            with replaced_folder(place, "split", inputs=source.files) as folder:
                split = _write_split(source, folder, set(train), ratio, seed)
            splits.append(replace(split, folder=place, doubt=doubt))
    if len({tuple(split.scenes[0]) for split in splits}) < len(splits):
        logger.warning(
            "%d scenes allow so few balanced splits that some seeds gave the same one", len(counts)
        )
    return splits


def _scenes_by(by: str, pattern: str | None) -> Callable[[dict, str], str | None]:
    """What tells the scene of an image from its dataset dict and its name in the folder."""
    if (by == "pattern") != (pattern is not None):
        raise InputError("--by pattern and --pattern REGEX go together")
    if by == "folder":
        return lambda _, name: os.path.dirname(name) or "."
    if pattern is None:
        return lambda record, _: record.get("video_id")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--pattern {pattern!r} is no regular expression: {error}") from error
    if not compiled.groups:
        raise InputError(
            f"--pattern {pattern!r} has no group, which tells the scene: (ortho[A-Z])_"
        )

    def scene(_: dict, name: str) -> str | None:
        match = compiled.search(name)
        return match[1] if match else None

    return scene


class _Source:
    """Images, annotations and categories of one or several JSON files put together.

    Attributes:
        files: of annotations.
        root: folder that contains all pictures.
        records: dataset dicts of all images.
        images: of the JSON, with ``file_name`` relative to ``root``.
        scenes: of the images, by image id.
        annotations: of the JSON, by image id.
        categories: of the JSON.
    """

    def __init__(
        self, names: Sequence[str], scene_of: Callable[[dict, str], str | None], without: str
    ):
        files = [dataset_files(name) for name in names]
        self.files = [json_file for json_file, _ in files]
        self.root = _common_folder([root for _, root in files])
        self.records: list[dict] = []
        self.images: list[dict] = []
        self.scenes: dict[int, str] = {}
        self.annotations: dict[int, list[dict]] = {}
        self.categories: list[dict] | None = None
        contents = []
        for json_file, image_root in files:
            found = read_and_validate(json_file, image_root)
            raise_fatal(found)
            content = read_json_file(json_file)
            contents.append((content, found.records))
            if self.categories not in (None, content["categories"]):
                raise DatasetError(f"{json_file} and {files[0][0]} have different categories")
            self.categories = content["categories"]
        # Ids stay as they are, unless two files use the same ones.
        keep_images = _all_different([c["images"] for c, _ in contents])
        keep_annotations = _all_different([c["annotations"] for c, _ in contents])
        number = 0
        for content, records in contents:
            self.records += records
            new_id = {}
            raw = {image["id"]: image for image in content["images"]}
            for record in records:
                own = record["image_id"]
                new_id[own] = own if keep_images else len(self.images) + 1
                image = self._image(raw[own], record, new_id[own])
                scene = scene_of(record, image["file_name"])
                if scene is None:
                    raise DatasetError(
                        f"image {own} ({raw[own]['file_name']}) {without}; split --by folder, or "
                        "--by pattern"
                    )
                self.images.append(image)
                self.scenes[new_id[own]] = scene
                self.annotations[new_id[own]] = []
            for annotation in content["annotations"]:
                number += 1
                copy = {**annotation, "image_id": new_id[annotation["image_id"]]}
                copy["id"] = annotation["id"] if keep_annotations else number
                self.annotations[copy["image_id"]].append(copy)

    def _image(self, raw: dict, record: dict, image_id: int) -> dict:
        path = Path(os.path.relpath(os.path.realpath(record["file_name"]), self.root)).as_posix()
        image = {**raw, "id": image_id, "file_name": path}
        # Said outright: the new file name has folders in it, and names mean less when moved.
        image.update({k: record[k] for k in ("video_id", "frame_index", "fps") if k in record})
        return image


def _write_split(source: _Source, folder: Path, train: set[str], ratio: float, seed: int) -> Split:
    sides, numbers = {}, []
    for side in ("train", "val"):
        images = [
            i for i in source.images if (source.scenes[i["id"]] in train) == (side == "train")
        ]
        sides[side] = images
        numbers.append(len(images))
        link_folder(source.root, folder / side)
    for side, images in sides.items():
        content = {
            "info": {
                "description": f"{side} side of a split by scene",
                "ratio": ratio,
                "seed": seed,
            },
            "images": images,
            "annotations": [a for image in images for a in source.annotations[image["id"]]],
            "categories": source.categories,
        }
        path = folder / "annotations" / f"instances_{side}.json"
        try:
            write_json(path, content)
        except ValueError as error:
            raise DatasetError(
                f"the data set contains NaN or infinity somewhere, so {path} would be no JSON; "
                "`msnet check` may say where"
            ) from error
    scenes = tuple(sorted({source.scenes[i["id"]] for i in sides[s]}) for s in ("train", "val"))
    return Split(folder, seed, scenes, tuple(numbers))


def link_folder(target: str | os.PathLike, link: Path) -> None:
    """Make ``link`` a relative symbolic link to the folder ``target``, or see that it is one.

    Raises:
        InputError: if there is something else in its place, or links cannot be made there.
    """
    link.parent.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(os.path.realpath(target), os.path.realpath(link.parent))
    if link.is_symlink() and os.path.realpath(link) == os.path.realpath(target):
        return
    try:
        link.symlink_to(relative, target_is_directory=True)
    except FileExistsError as error:
        raise InputError(
            f"{link} exists and is no link to {target}; choose another `out`"
        ) from error
    except OSError as error:
        raise InputError(f"{link} cannot be made a link to {target}: {error.strerror}") from error


def _common_folder(folders: Sequence[str]) -> str:
    common = os.path.commonpath([os.path.realpath(folder) for folder in folders])
    if common == os.path.dirname(common):
        raise DatasetError(
            f"the pictures are in folders with nothing in common: {', '.join(folders)}; put them "
            "below one folder"
        )
    return common


def _all_different(entries: Sequence[list[dict]]) -> bool:
    ids = [entry["id"] for part in entries for entry in part]
    return len(ids) == len(set(ids))
