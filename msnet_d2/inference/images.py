"""Pictures in, drawn pictures and one JSON out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data import Metadata
from PIL import UnidentifiedImageError
from tqdm import tqdm

from msnet_d2 import __version__
from msnet_d2.errors import InputError, WeightsError
from msnet_d2.evaluation.results import instances_to_results, parents_to_results
from msnet_d2.inference.predictor import Predictor
from msnet_d2.inference.scale import LEAST_SCALE, relative_scale
from msnet_d2.utils.file_io import leads_out, read_regular_file, write_bytes, write_json
from msnet_d2.utils.image_io import (
    DEFAULT_LIMITS,
    IMAGE_SUFFIXES,
    Limits,
    decodes_strictly,
    read_bgr,
)
from msnet_d2.utils.image_layout import checked_depth
from msnet_d2.utils.locks import hold
from msnet_d2.utils.redact import redact_paths
from msnet_d2.utils.stop_signals import stop_signals
from msnet_d2.visualization.draw import draw_instance_predictions

__all__ = ["ImageFile", "find_images", "predict_images", "read_image"]

PREDICTIONS_FILE = "predictions.json"
LABELS_FOLDER = "labels"
_MAX_PREDICTIONS_BYTES = 1 << 30
# Images too, of cameras and of mapping, which are not read: named, not passed over in silence.
UNREAD_SUFFIXES = (
    ".arw", ".avif", ".cr2", ".cr3", ".dng", ".ecw", ".exr", ".gif", ".heic", ".heif", ".img",
    ".j2k", ".jp2", ".jpf", ".jpx", ".jxl", ".nef", ".orf", ".psd", ".raf", ".raw", ".rw2", ".sid",
    ".svg", ".vrt",
)  # fmt: skip


@dataclass(frozen=True)
class ImageFile:
    """A picture to look at.

    Attributes:
        path: where it is.
        name: as the results name it: its path below the folder that was given, or its file name.
        outside: whether it is a link that leads out of that folder; then it is not followed.
    """

    path: Path
    name: str
    outside: bool = False


def find_images(
    sources: Sequence[str | Path], *, leave_out: str | Path | None = None
) -> list[ImageFile]:
    """The pictures that files and folders stand for, each once, those of a folder by name.

    Args:
        sources: files of any name, and folders, which are searched with their subfolders for
            :data:`IMAGE_SUFFIXES`, and for :data:`UNREAD_SUFFIXES` to be listed as not read.
        leave_out: a folder below them that is not searched: that of the results, which a run
            before may have filled with drawings.

    Raises:
        InputError: if one does not exist, or a folder holds no picture.
    """
    pictures: dict[Path, ImageFile] = {}
    drawings = None if leave_out is None else Path(leave_out).resolve()
    for source in map(Path, sources):
        if source.is_dir():
            found = [
                ImageFile(path, path.relative_to(source).as_posix(), leads_out(path, source))
                for path in sorted(source.rglob("*"))
                if path.suffix.lower() in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES)
                and path.is_file()
                and (source.resolve() == drawings or drawings not in path.resolve().parents)
            ]
            if not found:
                raise InputError(
                    f"the folder {source} holds no picture ({', '.join(IMAGE_SUFFIXES)})"
                )
        elif source.exists():
            found = [ImageFile(source, source.name)]
        else:
            raise InputError(f"there is no picture or folder {source}")
        for picture in found:
            pictures.setdefault(picture.path.resolve(), picture)
    return list(pictures.values())


def read_image(
    path: str | Path, limits: Limits = DEFAULT_LIMITS, depth: str = "refuse"
) -> np.ndarray:
    """Read a picture as its viewer sees it; see :func:`msnet_d2.utils.image_io.read_bgr`.

    Raises:
        InputError: if it cannot be read whole, or is over ``limits``.
    """
    try:
        return read_bgr(path, limits, depth)
    # What Pillow raises for broken files: OSError mostly, SyntaxError for PNG, others from plugins.
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        suffix = Path(path).suffix.lower()
        if isinstance(error, UnidentifiedImageError) and suffix in UNREAD_SUFFIXES:
            raise InputError(
                f"{suffix} files are not read; convert it to TIFF, PNG or JPEG"
            ) from error
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        reason = reason or type(error).__name__
        raise InputError(reason.replace(f" {str(path)!r}", "")) from error


def predict_images(
    predictor: Predictor,
    pictures: Iterable[ImageFile],
    folder: str | Path,
    *,
    min_score: float = 0.5,
    about: dict[str, Any] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Look at pictures one by one, draw and write what is found.

    Pictures that cannot be read are listed, and the rest goes on. Ctrl-C and SIGTERM end the work
    after the picture in hand, and what is done is listed. Files in ``folder`` that were not drawn
    by a run before are not touched.

    Args:
        predictor: the model.
        pictures: which; see :func:`find_images`.
        folder: receives a JPEG for each picture, and ``predictions.json`` at the end.
        min_score: parts and buildings of a lower score are left out.
        about: more to say about the run in the JSON.
        progress: whether to show a progress bar, on a terminal alone.

    Returns:
        What ``predictions.json`` holds: ``images`` with ``file``, ``drawn``, ``width``, ``height``,
        ``instances`` (``level``, ``score``, ``bbox`` XYWH, ``segmentation`` RLE, ``parent_bbox``,
        ``parent_score``) and ``parents`` (``bbox``, ``score``), best first, and of a model that
        gives a class for every pixel ``labels``, a PNG of class numbers; ``unreadable`` with
        ``file`` and ``reason``; ``damaged``, names of pictures of which parts are missing, where
        nothing can be found; ``shrunk``, pictures of which the network sees less than
        :data:`~msnet_d2.inference.scale.LEAST_SCALE`, with ``file`` and ``scale``; ``status``,
        "complete" or "interrupted"; ``levels``, ``min_score``, ``weights_sha256``, ``about``'s
        items.

    Raises:
        InputError: if ``folder`` holds a ``predictions.json`` of somebody else.
        OutputError: if another run writes to it.
    """
    with hold(folder, "predictions"), stop_signals() as stop:
        given = list(pictures)
        # Where there is no terminal, None hides the bar.
        bar = tqdm(given, desc="predicting", unit="picture", disable=None if progress else True)
        return _predict_images(predictor, given, bar, Path(folder), min_score, about, stop)


def _predict_images(
    predictor: Predictor,
    pictures: list[ImageFile],
    bar: Iterable[ImageFile],
    folder: Path,
    min_score: float,
    about: dict[str, Any] | None,
    stop: threading.Event,
) -> dict[str, Any]:
    names = _output_names(pictures, folder)
    images, unreadable, damaged, shrunk = [], [], [], []
    limits = Limits(predictor.cfg.INPUT.MAX_PIXELS, predictor.cfg.INPUT.MAX_BYTES)
    depth = checked_depth(predictor.cfg)
    for picture, name in zip(bar, names):
        if stop.is_set():
            break
        try:
            if picture.outside:
                raise InputError("a link that leads out of the folder is not followed")
            image = read_image(picture.path, limits, depth)
        except InputError as error:
            reason = redact_paths(str(error), picture.path)
            unreadable.append({"file": picture.name, "reason": reason})
            continue
        if not decodes_strictly(picture.path):
            damaged.append(picture.name)
        scale = relative_scale(predictor.cfg, *image.shape[:2])
        if scale < LEAST_SCALE:
            shrunk.append({"file": picture.name, "scale": scale})
        try:
            output = predictor(image)
        except WeightsError as error:
            raise WeightsError(f"{picture.name}: {error}") from error
        found = _at_least(output, min_score)
        _, jpeg = cv2.imencode(".jpg", _draw(image, found, predictor.metadata, min_score))
        write_bytes(folder / name, jpeg.tobytes())
        images.append(
            {
                "file": picture.name,
                "drawn": name,
                "width": image.shape[1],
                "height": image.shape[0],
                **_write_labels(output, folder, name),
                **_plain(found, list(predictor.metadata.thing_classes)),
            }
        )
    summary = {
        "msnet_d2": __version__,
        "status": "complete" if len(images) + len(unreadable) == len(pictures) else "interrupted",
        **(about or {}),
        "weights_sha256": predictor.weights_sha256,
        "min_score": min_score,
        "levels": list(predictor.metadata.thing_classes),
        "images": images,
        "unreadable": unreadable,
        "damaged": damaged,
        "shrunk": shrunk,
    }
    write_json(folder / PREDICTIONS_FILE, summary)
    return summary


def _output_names(pictures: list[ImageFile], folder: Path) -> list[str]:
    """A JPEG's name for each picture; none is taken twice, and none is somebody else's file."""
    drawn = _drawn_before(folder)
    taken = {picture.path.resolve() for picture in pictures}
    if folder.is_dir():
        taken |= {path.resolve() for path in folder.iterdir() if path.name not in drawn}
        # A label picture of somebody else takes the name of its drawing, too.
        labels = [folder / f"{path.stem}.jpg" for path in folder.glob(f"{LABELS_FOLDER}/*.png")]
        taken |= {path.resolve() for path in labels if path.name not in drawn}
    names = []
    for picture in pictures:
        stem = picture.path.stem
        count, name = 1, f"{stem}.jpg"
        while (folder / name).resolve() in taken:
            count += 1
            name = f"{stem}_{count}.jpg"
        taken.add((folder / name).resolve())
        names.append(name)
    return names


def _drawn_before(folder: Path) -> set[str]:
    """Names of pictures that an earlier run drew, which may be replaced.

    Raises:
        InputError: if the predictions there are not ours.
    """
    path = folder / PREDICTIONS_FILE
    try:
        content = json.loads(read_regular_file(path, _MAX_PREDICTIONS_BYTES))
        return {image["drawn"] for image in content["images"] if content["msnet_d2"]}
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} was not written by msnet predict; name another folder") from error


def _write_labels(output: dict[str, Any], folder: Path, drawn: str) -> dict[str, str]:
    """Write the class of every pixel of a model that gives it: a grey PNG of class numbers."""
    scores = output.get("sem_seg")
    if scores is None:
        return {}
    name = f"{LABELS_FOLDER}/{Path(drawn).stem}.png"
    _, png = cv2.imencode(".png", scores.argmax(dim=0).cpu().numpy().astype(np.uint8))
    (folder / LABELS_FOLDER).mkdir(parents=True, exist_ok=True)
    write_bytes(folder / name, png.tobytes())
    return {"labels": name}


def _at_least(output: dict[str, Any], min_score: float) -> dict[str, Any]:
    """The model's output on the CPU without what scores lower, best first."""
    kept: dict[str, Any] = {}
    for key in ("instances", "parents"):
        if key in output:
            found = output[key].to("cpu")
            found = found[found.scores >= min_score]
            kept[key] = found[found.scores.argsort(descending=True, stable=True)]
    return kept


def _draw(
    image: np.ndarray, found: dict[str, Any], metadata: Metadata, min_score: float
) -> np.ndarray:
    return draw_instance_predictions(
        image,
        found["instances"],
        metadata=metadata,
        parents=found.get("parents"),
        min_score=min_score,
    )


def _plain(found: dict[str, Any], levels: list[str]) -> dict[str, list[dict]]:
    """Instances and parents as JSON; class numbers become names."""
    instances = instances_to_results(found["instances"], 0, list(range(len(levels))))
    for entry in instances:
        del entry["image_id"]
        entry["level"] = levels[entry.pop("category_id")]
    result = {"instances": instances}
    if "parents" in found:
        parents = parents_to_results(found["parents"], 0)
        result["parents"] = [{"bbox": p["bbox"], "score": p["score"]} for p in parents]
    return result
