"""How well the occluder layer sees what hides an object."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BitMasks, Boxes, Instances, pairwise_iou
from detectron2.utils import comm
from pycocotools import mask as mask_util

from msnet_d2.errors import ConfigError
from msnet_d2.evaluation import EVALUATOR_REGISTRY

__all__ = ["OccluderEvaluator", "occluder_ious"]

# Instances of which at least this share is hidden are compared, and detections whose boxes overlap
# theirs by this IoU.
LEAST_COVER = 0.2
MATCHED = 0.5


def occluder_ious(
    found: Instances, classes: np.ndarray, boxes: np.ndarray, occluders: np.ndarray
) -> list[float]:
    """IoU of predicted and true occluders within the boxes of detections.

    Args:
        found: detections in pixels of the truth, with ``pred_occluder_masks`` (N, 1, S, S).
        classes: (M,) of true instances.
        boxes: (M, 4) XYXY of them.
        occluders: (M, H, W) bool, what of each is hidden.

    Returns:
        For each instance that is found the IoU at the detection's S x S cells: of its class, the
        best score whose box overlaps its own by at least :data:`MATCHED`.
    """
    values: list[float] = []
    if not len(found) or not len(classes):
        return values
    order = found.scores.argsort(descending=True)
    found = found[order]
    ious = pairwise_iou(found.pred_boxes, Boxes(torch.as_tensor(boxes, dtype=torch.float32)))
    same = found.pred_classes[:, None] == torch.as_tensor(classes)
    side = found.pred_occluder_masks.shape[-1]
    for number, matched in enumerate(((ious >= MATCHED) & same).T):
        if not matched.any():
            continue
        first = int(matched.nonzero()[0, 0])
        truth = BitMasks(torch.as_tensor(occluders[number : number + 1]))
        truth = truth.crop_and_resize(found.pred_boxes.tensor[first : first + 1], side)[0]
        predicted = found.pred_occluder_masks[first, 0] > 0.5
        either = int((truth | predicted).sum())
        values.append(int((truth & predicted).sum()) / either if either else 1.0)
    return values


@EVALUATOR_REGISTRY.register()
class OccluderEvaluator(DatasetEvaluator):
    """Row ``occluder``: mean ``IoU`` in percent, ``found`` and number of ``instances``.

    Compared are instances of an amodal data set of which other things hide at least
    :data:`LEAST_COVER`. IoU is over those that are found; ``found`` says how many, in percent.
    Choose it with ``TEST.EVALUATORS amodal OccluderEvaluator``.
    """

    def __init__(self, cfg: CfgNode, dataset_name: str, output_folder: str):
        """Make an evaluator of a registered data set.

        Raises:
            ConfigError: if it is not of the kind amodal.
        """
        self._truth = {r["image_id"]: r["annotations"] for r in DatasetCatalog.get(dataset_name)}
        if any("amodal_segmentation" not in a for found in self._truth.values() for a in found):
            raise ConfigError(
                f"TEST.EVALUATORS has OccluderEvaluator, but {dataset_name} has no amodal truth: "
                "name it amodal@FOLDER, or leave the evaluator out"
            )
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._values: list[float] = []
        self._count = 0

    def process(self, inputs: Iterable[dict], outputs: Iterable[dict]) -> None:
        """Take the ``instances`` of a batch.

        Raises:
            ConfigError: if the model predicts no occluders.
        """
        for given, output in zip(inputs, outputs):
            found = output["instances"].to(torch.device("cpu"))
            if not found.has("pred_occluder_masks"):
                raise ConfigError(
                    "TEST.EVALUATORS has OccluderEvaluator, but the model predicts no occluders: "
                    "MODEL.ROI_MASK_HEAD.NAME must be BCNetMaskHead and MODEL.BCNET.BILAYER True"
                )
            hidden = [
                a
                for a in self._truth[given["image_id"]]
                if not a["iscrowd"] and a["visible_share"] <= 1 - LEAST_COVER
            ]
            self._count += len(hidden)
            if hidden:
                wholes = [a["amodal_segmentation"] for a in hidden]
                boxes = np.array([mask_util.toBbox(w) for w in wholes])
                boxes[:, 2:] += boxes[:, :2]
                masks = [mask_util.decode(a["occluder_segmentation"]) > 0 for a in hidden]
                classes = np.array([a["category_id"] for a in hidden])
                self._values += occluder_ious(found, classes, boxes, np.stack(masks))

    def evaluate(self) -> OrderedDict | None:
        """Gather all processes; the row in the main one, else None."""
        comm.synchronize()
        gathered = comm.gather((self._values, self._count))
        if not comm.is_main_process():
            return None
        values = [value for part, _ in gathered for value in part]
        count = sum(part for _, part in gathered)
        row = {
            "IoU": 100 * float(np.mean(values)) if values else float("nan"),
            "found": 100 * len(values) / count if count else float("nan"),
            "instances": count,
        }
        return OrderedDict(occluder=row)
