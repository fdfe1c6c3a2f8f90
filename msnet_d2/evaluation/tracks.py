"""Tracks of masks by TrackEval: AP and AR over tracks (YouTube-VIS), HOTA, MOTSA and IDF1."""

from __future__ import annotations

import json
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools import mask as mask_util

from msnet_d2.errors import DependencyError, InputError
from msnet_d2.structures.rle import rle_counts, segmentation_to_rle
from msnet_d2.utils.file_io import read_json_file
from msnet_d2.utils.text import brief

__all__ = ["score_tracks", "score_tracks_file"]

_SPLIT = "evaluated"
FIGURES = ("AP", "AR1", "AR10", "AR", "HOTA", "MOTSA", "MOTSP", "IDF1", "switches")


def score_tracks_file(dataset_name: str, predictions: str | Path) -> OrderedDict:
    """Score a results file of YouTube-VIS.

    Args:
        dataset_name: of a registered data set of the kind tracks.
        predictions: a list of ``video_id``, ``category_id``, ``score`` and ``segmentations``, one
            RLE or None for each frame.

    Raises:
        InputError: if the file is none, or speaks of other videos, categories or frames.
        DependencyError: without TrackEval.
    """
    records = DatasetCatalog.get(dataset_name)
    metadata = MetadataCatalog.get(dataset_name)
    ids = dict(metadata.thing_dataset_id_to_contiguous_id)
    found = _read_predictions(Path(predictions), {r["video_id"]: r for r in records}, ids)
    return score_tracks(records, metadata.thing_classes, found)


def _read_predictions(path: Path, videos: dict[int, dict], ids: dict[int, int]) -> list[dict]:
    content = read_json_file(path)
    if not isinstance(content, list):
        raise InputError(f"{path} is no list of tracks, as results of YouTube-VIS are")
    tracks = []
    for number, raw in enumerate(content):
        where = f"{path}: track {number}"
        if not isinstance(raw, dict) or raw.get("video_id") not in videos:
            got = brief(raw.get("video_id") if isinstance(raw, dict) else raw)
            raise InputError(f"{where} has the video_id {got}, of no video of the data set")
        video, category = videos[raw["video_id"]], raw.get("category_id")
        score: Any = raw.get("score")
        if category not in ids:
            raise InputError(f"{where} has the category_id {brief(category)}, of no category")
        if type(score) not in (int, float) or not np.isfinite(score):
            raise InputError(f"{where} has the score {brief(score)}, not a number")
        masks = raw.get("segmentations")
        if not isinstance(masks, list) or len(masks) != video["length"]:
            raise InputError(f"{where} needs {video['length']} segmentations, one a frame")
        try:
            size = video["height"], video["width"]
            masks = [segmentation_to_rle(mask, *size) if mask else None for mask in masks]
        except (ValueError, TypeError) as error:
            raise InputError(f"{where} has a mask that is unusable: {error}") from error
        tracks.append(
            {
                "video_id": raw["video_id"],
                "category_id": ids[category],
                "score": float(score),
                "segmentations": masks,
            }
        )
    return tracks


def score_tracks(
    records: list[dict], class_names: list[str], predictions: list[dict]
) -> OrderedDict:
    """Compare tracks with the truth.

    Args:
        records: videos of a data set of the kind tracks.
        class_names: by contiguous category.
        predictions: dicts of ``video_id``, ``category_id`` (contiguous), ``score`` and
            ``segmentations`` (RLE or None for each frame). At one frame masks of one class should
            not overlap; TrackEval does not ask.

    Returns:
        ``tracks`` -> the means over the classes that the truth has, and a row for each class.
        AP, AR1, AR10 and AR average the IoUs 0.5 to 0.95 of whole tracks (Yang et al., ICCV 2019);
        HOTA averages its thresholds; MOTSA, MOTSP and IDF1 match masks from an IoU of 0.5. All are
        percent but ``switches``, which are counted, and summed in the first row.
    """
    rows = OrderedDict()
    with _trackeval_files(records, class_names, predictions) as folder:
        for number, name in enumerate(class_names):
            there = any(t["category_id"] == number for r in records for t in r["tracks"])
            if there:
                rows[f"class_{name}"] = _score_class(folder, name)
    mean = {key: float("nan") for key in FIGURES}
    if rows:
        mean = {key: float(np.mean([row[key] for row in rows.values()])) for key in FIGURES}
        mean["switches"] = float(sum(row["switches"] for row in rows.values()))
    return OrderedDict([("tracks", mean), *rows.items()])


@contextmanager
def _trackeval_files(
    records: list[dict], class_names: list[str], predictions: list[dict]
) -> Iterator[Path]:
    """A folder as TrackEval reads it, with ids from 1 on: it makes arrays as long as they are
    large.
    """
    videos: list[dict] = []
    annotations: list[dict] = []
    for record in records:
        number = len(videos) + 1
        size = {"height": record["height"], "width": record["width"]}
        names = [f"{number}/{frame}" for frame in range(record["length"])]
        videos.append({"id": number, "file_names": names, **size})
        for track in record["tracks"]:
            masks = track["segmentations"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": number,
                    "category_id": track["category_id"] + 1,
                    "iscrowd": track["iscrowd"],
                    "segmentations": [None if m is None else _uncompressed(m) for m in masks],
                    "areas": [None if m is None else int(mask_util.area(m)) for m in masks],
                    **size,
                }
            )
    numbers = {record["video_id"]: n for n, record in enumerate(records, start=1)}
    found = [
        {**p, "video_id": numbers[p["video_id"]], "category_id": p["category_id"] + 1}
        for p in predictions
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(class_names, start=1)]
    truth = {"videos": videos, "annotations": annotations, "categories": categories}
    with tempfile.TemporaryDirectory(prefix="tracks_") as scratch:
        for path, content in (
            (f"gt/youtube_vis_{_SPLIT}/truth.json", truth),
            (f"trackers/youtube_vis_{_SPLIT}/ours/data/results.json", found),
        ):
            file = Path(scratch, path)
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(content))
        yield Path(scratch)


def _uncompressed(rle: dict) -> dict:
    return {"size": rle["size"], "counts": rle_counts(rle["counts"])}


def _score_class(folder: Path, name: str) -> dict[str, float]:
    try:
        from trackeval.datasets import YouTubeVIS
        from trackeval.metrics import CLEAR, HOTA, Identity, TrackMAP
    except ImportError as error:
        # With its dependencies comes a second OpenCV, over the one that is there.
        raise DependencyError(
            "the evaluation of tracks needs the package trackeval, which is not installed: "
            "pip install --no-deps trackeval"
        ) from error
    quiet = {"PRINT_CONFIG": False}
    dataset = YouTubeVIS(
        {
            **quiet,
            "GT_FOLDER": f"{folder / 'gt'}/",
            "TRACKERS_FOLDER": f"{folder / 'trackers'}/",
            "SPLIT_TO_EVAL": _SPLIT,
        }
    )
    data = {
        sequence: dataset.get_preprocessed_seq_data(
            dataset.get_raw_seq_data("ours", sequence), name
        )
        for sequence in dataset.seq_list
    }

    def score(metric) -> dict:
        parts = {sequence: metric.eval_sequence(part) for sequence, part in data.items()}
        return metric.combine_sequences(parts)

    ranges = {**quiet, "USE_AREA_RANGES": False, "USE_TIME_RANGES": False}
    maps = {n: score(TrackMAP({**ranges, "MAX_DETECTIONS": n})) for n in (0, 1, 10)}
    hota, clear = score(HOTA(quiet)), score(CLEAR(quiet))
    identity = score(Identity(quiet))
    return {
        "AP": _percent(maps[0]["AP_all"]),
        "AR1": _percent(maps[1]["AR_all"]),
        "AR10": _percent(maps[10]["AR_all"]),
        "AR": _percent(maps[0]["AR_all"]),
        "HOTA": _percent(hota["HOTA"]),
        "MOTSA": _percent(clear["MOTA"]),
        "MOTSP": _percent(clear["MOTP"]),
        "IDF1": _percent(identity["IDF1"]),
        "switches": float(clear["IDSW"]),
    }


def _percent(values) -> float:
    return float(100 * np.mean(values))
