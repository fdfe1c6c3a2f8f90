"""Panoptic quality, by hotcoco: equal to the COCO implementation, void and crowds included."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils import comm
from PIL import Image

from msnet_d2.data.isbda.validation import raise_fatal
from msnet_d2.data.kinds import kind_of, read_kind
from msnet_d2.data.kinds.label_images import read_segment_ids
from msnet_d2.errors import DependencyError, InputError
from msnet_d2.utils.file_io import read_json_file, write_json

__all__ = ["PanopticEvaluator", "panoptic_quality", "score_panoptic_file"]

RESULTS_FILE = "panoptic_predictions.json"


class PanopticEvaluator(COCOPanopticEvaluator):
    """Detectron2's evaluator without panopticapi, which is on no package index.

    ``process`` and the gathering are its own; the quality is that of :func:`panoptic_quality`.
    """

    def process(self, inputs, outputs) -> None:
        """Take a batch: ``panoptic_seg`` of outputs is (ids (H, W), segments_info)."""
        for given, output in zip(inputs, outputs):
            ids, segments = output["panoptic_seg"]
            ids = ids.cpu().numpy().astype(np.int64)
            if segments is None:
                divisor = self._metadata.label_divisor
                things = self._metadata.thing_dataset_id_to_contiguous_id.values()
                segments = [
                    {
                        "id": int(n) + 1,
                        "category_id": int(n // divisor),
                        "isthing": bool(n // divisor in things),
                    }
                    for n in np.unique(ids)
                    if n != -1
                ]
                ids = ids + 1
            buffer = io.BytesIO()
            Image.fromarray(_to_rgb(ids)).save(buffer, format="PNG")
            kept = ("id", "category_id", "isthing")
            self._predictions.append(
                {
                    "image_id": given["image_id"],
                    "file_name": f"{Path(given['file_name']).stem}.png",
                    "png_string": buffer.getvalue(),
                    "segments_info": [
                        self._convert_category_id({k: s[k] for k in kept if k in s})
                        for s in segments
                    ],
                }
            )

    def evaluate(self) -> OrderedDict | None:
        """Gather all processes; ``{"panoptic_seg": figures}`` in the main one, else None."""
        comm.synchronize()
        gathered = comm.gather(self._predictions)
        if not comm.is_main_process():
            return None
        with tempfile.TemporaryDirectory(prefix="panoptic_") as scratch:
            folder = Path(self._output_dir or scratch)
            pictures = folder / RESULTS_FILE.removesuffix(".json")
            pictures.mkdir(parents=True, exist_ok=True)
            predictions = []
            for entry in (e for part in gathered for e in part):
                (pictures / entry["file_name"]).write_bytes(entry["png_string"])
                predictions.append({k: v for k, v in entry.items() if k != "png_string"})
            write_json(folder / RESULTS_FILE, {"annotations": predictions})
            return _score(self._metadata, folder / RESULTS_FILE, pictures)


def _to_rgb(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def score_panoptic_file(dataset_name: str, predictions: str | Path) -> OrderedDict:
    """Score panoptic predictions in COCO's format.

    Args:
        dataset_name: of a registered data set of the kind panoptic.
        predictions: a JSON with ``annotations``, whose pictures lie in the folder beside it that
            has its name without .json.

    Raises:
        InputError: if the predictions cannot be used.
        DatasetError: if the truth has a fatal issue, in its pictures too.
    """
    path = Path(predictions)
    report = read_kind(dataset_name)
    kind = kind_of(dataset_name)
    assert kind is not None, "it was read"
    assert kind.find_pixel_issues is not None, "panoptic labels are pixels"
    report.issues += kind.find_pixel_issues(report)
    raise_fatal(report)
    pictures = path.with_suffix("")
    if not pictures.is_dir():
        raise InputError(f"there is no folder {pictures} with the pictures of {path.name}")
    return _score(MetadataCatalog.get(dataset_name), path, pictures)


def _score(metadata, predictions: Path, pictures: Path) -> OrderedDict:
    content = read_json_file(predictions)
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list):
        raise InputError(f"{predictions} has no list of annotations, as COCO's panoptic results do")
    truth = read_json_file(metadata.json_file)
    names = {c["id"]: c["name"] for c in truth["categories"]}
    figures = panoptic_quality(
        truth, {"annotations": annotations}, metadata.truth_root, str(pictures)
    )
    rows = OrderedDict()
    for key in ("All", "Things", "Stuff"):
        row = figures[key]
        n = row["n"]
        rows["panoptic" if key == "All" else f"panoptic_{key.lower()}"] = {
            name: 100 * row[name.lower()] if n else float("nan") for name in ("PQ", "SQ", "RQ")
        }
    for number, row in figures["per_class"].items():
        there = row["tp"] + row["fp"] + row["fn"] > 0
        rows[f"class_{names[int(number)]}"] = {
            name: 100 * row[name.lower()] if there else float("nan") for name in ("PQ", "SQ", "RQ")
        }
    return rows


def panoptic_quality(truth: dict, predictions: dict, truth_root: str, pictures: str) -> dict:
    """Panoptic quality (Kirillov et al., CVPR 2019, section 4.1), as fractions.

    Args:
        truth: COCO's panoptic JSON.
        predictions: with ``annotations`` alone; areas are counted anew, since an area that is not
            that of the picture would give figures above 1.
        truth_root, pictures: folders of the pictures of segment ids.

    Returns:
        ``All``, ``Things`` and ``Stuff``: pq, sq, rq and n; ``per_class``: by category id.

    Raises:
        DependencyError: without hotcoco.
        InputError: if predictions lack an image, or JSON and pictures differ.
    """
    try:
        from hotcoco import panoptic as hotcoco_panoptic
    except ImportError as error:
        raise DependencyError.for_extra("hotcoco", "panoptic", "panoptic quality") from error
    recounted = [_with_areas(annotation, pictures) for annotation in predictions["annotations"]]
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, content in (
            ("truth", truth),
            ("predictions", {**truth, "annotations": recounted}),
        ):
            files.append(os.path.join(folder, f"{name}.json"))
            Path(files[-1]).write_text(json.dumps(content))
        evaluation = hotcoco_panoptic.PanopticEval(
            *files, gt_folder=truth_root, pred_folder=pictures
        )
        try:
            evaluation.evaluate()
        except ValueError as error:
            raise InputError(f"panoptic predictions cannot be scored: {error}") from error
    return evaluation.results()


def _with_areas(annotation: object, pictures: str) -> dict:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("file_name"), str):
        raise InputError(f"a panoptic prediction is no object with a file_name: {annotation!r:.80}")
    if os.path.basename(annotation["file_name"]) != annotation["file_name"]:
        raise InputError(f"the file_name {annotation['file_name']!r} is no name of a file")
    ids = read_segment_ids(os.path.join(pictures, annotation["file_name"]))
    numbers, counts = np.unique(ids, return_counts=True)
    areas = dict(zip(numbers.tolist(), counts.tolist()))
    try:
        segments = [
            {"iscrowd": 0, **segment, "area": areas.get(segment["id"], 0)}
            for segment in annotation["segments_info"]
        ]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"segments_info of {annotation['file_name']} is no list of {{id, category_id}}"
        ) from error
    return {**annotation, "segments_info": segments}
