"""The four metrics of semantic segmentation, exactly, from a confusion matrix.

Long, Shelhamer and Darrell, "Fully convolutional networks for semantic segmentation" (CVPR 2015),
section 5: with n_ij pixels of true class i predicted as j and t_i = Σ_j n_ij, pixel accuracy,
mean accuracy, mean IU and frequency weighted IU.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools import mask as mask_util

from msnet_d2.data.kinds.label_images import read_labels
from msnet_d2.errors import DatasetError, InputError
from msnet_d2.evaluation.confusion import draw_confusion
from msnet_d2.structures.rle import segmentation_to_rle
from msnet_d2.utils.file_io import read_json_file, write_json

__all__ = [
    "SemanticEvaluator",
    "confusion_matrix",
    "figures_of",
    "score_semantic_file",
    "semantic_metrics",
]

IGNORED = 255
RESULTS_FILE = "sem_seg_predictions.json"
CONFUSION_FILE = "confusion.png"


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count the pixels of each pair of true and predicted class.

    Args:
        truth: (H, W), classes from 0, or 255: not counted.
        predicted: (H, W); what is no class counts as missed.
        classes: number of classes.

    Returns:
        (classes, classes + 1) int64: rows are true classes, the last column is what was missed.

    Raises:
        DatasetError: if the shapes differ, or a true label is neither a class nor ignored. (A
            lenient evaluator counts such a pixel as right.)
    """
    if truth.shape != predicted.shape:
        raise DatasetError(
            f"the prediction is {predicted.shape[1]}x{predicted.shape[0]}, the labels are "
            f"{truth.shape[1]}x{truth.shape[0]}"
        )
    counted = truth != IGNORED
    true, found = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    strange = true[(true < 0) | (true >= classes)]
    if len(strange):
        raise DatasetError(f"the labels hold {strange[0]}, and there are {classes} classes from 0")
    found = np.where((found >= 0) & (found < classes), found, classes)
    counts = np.bincount(true * (classes + 1) + found, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


def semantic_metrics(matrix: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """Return the metrics of a confusion matrix, in percent.

    Args:
        matrix: of :func:`confusion_matrix`, summed over images.
        class_names: by class.

    Returns:
        ``pixel_acc``, ``mean_acc``, ``fw_IU``, and the mean IU by both conventions for classes that
        the truth does not have: ``mean_IU`` counts them where they are predicted, with 0, as the
        FCN's authors do; ``mIoU`` leaves them out, as Detectron2 does. Then ``IoU-CLASS`` of each;
        NaN is a class that neither side has.
    """
    true = matrix.sum(axis=1).astype(np.float64)
    square = matrix[:, : len(true)]
    right = np.diag(square).astype(np.float64)
    union = true + square.sum(axis=0) - right
    present = true > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy, iou = right / true, right / union
        metrics = {
            "pixel_acc": right.sum() / true.sum(),
            "mean_acc": accuracy[present].mean() if present.any() else np.nan,
            "mean_IU": iou[union > 0].mean() if (union > 0).any() else np.nan,
            "mIoU": iou[present].mean() if present.any() else np.nan,
            "fw_IU": (true * np.where(present, iou, 0)).sum() / true.sum(),
        }
    metrics |= {f"IoU-{name}": value for name, value in zip(class_names, iou)}
    return {name: float(100 * value) for name, value in metrics.items()}


class SemanticEvaluator(DatasetEvaluator):
    """The four metrics of a model's ``sem_seg``, and ``sem_seg_predictions.json``.

    Unlike Detectron2's it compares shapes, refuses labels that are no class, and looks up the label
    table of its data set.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None):
        """Make an evaluator of a registered data set of the kind semantic."""
        self._truth = {r["file_name"]: r for r in DatasetCatalog.get(dataset_name)}
        self._class_names = MetadataCatalog.get(dataset_name).stuff_classes
        self._output_dir = output_dir
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        classes = len(self._class_names)
        self._matrix = np.zeros((classes, classes + 1), np.int64)
        self._predictions: list[dict] = []

    def process(self, inputs: Iterable[dict], outputs: Iterable[dict]) -> None:
        """Count a batch: ``sem_seg`` of outputs are scores (K, H, W) or classes (H, W)."""
        for given, output in zip(inputs, outputs):
            scores = output["sem_seg"]
            predicted = scores.argmax(dim=0) if scores.ndim == 3 else scores
            predicted = predicted.to(torch.device("cpu")).numpy()
            name = given["file_name"]
            self._matrix += _compare(self._truth[name], predicted, len(self._class_names))
            if self._output_dir is not None:
                self._predictions += _encode(name, predicted)

    def evaluate(self) -> OrderedDict | None:
        """Sum over processes; :func:`figures_of` in the main one, else None.

        With an output folder, the confusion matrix is drawn there.
        """
        comm.synchronize()
        matrices, predictions = comm.gather(self._matrix), comm.gather(self._predictions)
        if not comm.is_main_process():
            return None
        if self._output_dir is not None:
            everything = [entry for part in predictions for entry in part]
            write_json(os.path.join(self._output_dir, RESULTS_FILE), everything)
        matrix = sum(matrices)
        if self._output_dir is not None:
            path = os.path.join(self._output_dir, CONFUSION_FILE)
            draw_confusion(matrix, self._class_names, path)
        return figures_of(matrix, self._class_names)


def figures_of(matrix: np.ndarray, class_names: Sequence[str]) -> OrderedDict:
    """The metrics, and beside them those of calling every pixel the most frequent class.

    Returns:
        ``{"sem_seg": metrics, "sem_seg_baseline": metrics}``.
    """
    true = matrix.sum(axis=1)
    baseline = np.zeros_like(matrix)
    baseline[:, true.argmax()] = true
    return OrderedDict(
        sem_seg=semantic_metrics(matrix, class_names),
        sem_seg_baseline=semantic_metrics(baseline, class_names),
    )


def _compare(record: dict, predicted: np.ndarray, classes: int) -> np.ndarray:
    path = record["sem_seg_file_name"]
    try:
        return confusion_matrix(record["label_lut"][read_labels(path)], predicted, classes)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def _encode(file_name: str, predicted: np.ndarray) -> list[dict]:
    """Detectron2's form of semantic predictions: a mask of each class of an image."""
    entries = []
    for label in np.unique(predicted).tolist():
        rle = mask_util.encode(np.asfortranarray(predicted == label))
        rle["counts"] = rle["counts"].decode("ascii")
        entries.append({"file_name": file_name, "category_id": label, "segmentation": rle})
    return entries


def score_semantic_file(dataset_name: str, predictions: str | Path) -> OrderedDict:
    """Score semantic predictions of any tool.

    Args:
        dataset_name: of a registered data set of the kind semantic.
        predictions: ``sem_seg_predictions.json`` of Detectron2, or a folder of grey pictures of
            class numbers, each with the name of its image and .png.

    Raises:
        InputError: if they cannot be read.
        DatasetError: if the truth cannot be used, or a shape differs.
    """
    records = DatasetCatalog.get(dataset_name)
    names = MetadataCatalog.get(dataset_name).stuff_classes
    path = Path(predictions)
    masks = None if path.is_dir() else _read_masks(path)
    matrix = np.zeros((len(names), len(names) + 1), np.int64)
    for record in records:
        stem = Path(record["file_name"]).stem
        if masks is None:
            picture = path / f"{stem}.png"
            if not picture.is_file():
                raise InputError(f"{path} has no {picture.name}, the prediction of {stem}")
            predicted = read_labels(str(picture))
        else:
            predicted = _paint(masks.get(Path(record["file_name"]).name, []), record, path)
        matrix += _compare(record, predicted, len(names))
    return figures_of(matrix, names)


def _read_masks(path: Path) -> dict[str, list[dict]]:
    content = read_json_file(path)
    good = isinstance(content, list) and all(
        isinstance(e, dict)
        and isinstance(e.get("file_name"), str)
        and type(e.get("category_id")) is int
        for e in content
    )
    if not good:
        raise InputError(
            f"{path} is no list of {{file_name, category_id, segmentation}}, as Detectron2's "
            f"{RESULTS_FILE} is"
        )
    masks: dict[str, list[dict]] = {}
    for entry in content:
        masks.setdefault(Path(entry["file_name"]).name, []).append(entry)
    return masks


def _paint(entries: list[dict], record: dict, path: Path) -> np.ndarray:
    predicted = np.full((record["height"], record["width"]), IGNORED, np.int64)
    for entry in entries:
        try:
            segmentation: Any = entry.get("segmentation")
            rle = segmentation_to_rle(segmentation, *predicted.shape)
        except (ValueError, TypeError) as error:
            name = entry["file_name"]
            raise InputError(f"{path}: a mask of {name} is unusable: {error}") from error
        predicted[mask_util.decode(rle) > 0] = entry["category_id"]
    return predicted
