"""Why a method helps or not: what the hierarchy keeps, what it loses, and what scores are worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data import detection_utils as utils
from detectron2.modeling import build_model
from detectron2.structures import Boxes, BoxMode, Instances, pairwise_iou
from torch import Tensor, nn
from tqdm import tqdm

from msnet_benchmark.matches import Matches
from msnet_benchmark.trials import Trial
from msnet_d2.checkpoint.load_weights import load_trained_weights
from msnet_d2.data import resolve_dataset
from msnet_d2.modeling.proposal_generator.anchor_filter import METRICS, anchor_scores

__all__ = [
    "PARENT_CHOICES",
    "THRESHOLDS",
    "ParentChoice",
    "Tally",
    "calibration",
    "diagnose",
    "diagnose_model",
]

# S of the paper's figure 6.
THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
# A box is found if it overlaps by this IoU.
_FOUND = 0.5
_NUMBERS = (10, 30, 100, 300, 1000)


@dataclass(frozen=True)
class ParentChoice:
    """Which parent proposals keep anchors; MODEL.HRPN has a key for each.

    Attributes:
        name: for people.
        objectness: PARENT_OBJECTNESS_THRESH, a probability.
        most: PARENT_TOPK_TEST; None: no limit.
    """

    name: str
    objectness: float = 0.0
    most: int | None = None

    def select(self, parents: Instances) -> Tensor:
        """(P, 4) boxes among the parent proposals of an image, which are sorted, best first."""
        boxes = parents.proposal_boxes.tensor
        if self.objectness > 0:
            boxes = boxes[parents.objectness_logits.float().sigmoid() >= self.objectness]
        return boxes if self.most is None else boxes[: self.most]


PARENT_CHOICES = (
    ParentChoice("all (paper)"),
    *(ParentChoice(f"objectness ≥ {p}", objectness=p) for p in (0.05, 0.1, 0.3, 0.5, 0.7, 0.9)),
    *(ParentChoice(f"best {n}", most=n) for n in (10, 30, 100)),
)


class Tally:
    """Sums over images, from which shares are taken."""

    def __init__(self) -> None:
        self._sums: dict[tuple, float] = defaultdict(float)
        self._counts: dict[tuple, float] = defaultdict(float)

    def add(self, key: tuple, yes: Tensor | float, of: float) -> None:
        """Count ``yes`` out of ``of``."""
        self._sums[key] += float(yes.sum() if isinstance(yes, Tensor) else yes)
        self._counts[key] += of

    def share(self, *key) -> float:
        """Percent; NaN if nothing was counted."""
        return 100 * self.mean(*key)

    def mean(self, *key) -> float:
        """Sum by count; NaN if nothing was counted."""
        count = self._counts.get(key, 0)
        return self._sums[key] / count if count else float("nan")


def diagnose(trial: Trial, *, images: int | None = None) -> dict:
    """Look into the trained model of a trial, on the images it is evaluated on.

    Args:
        trial: a finished one.
        images: at most so many, at equal distances; None: all.

    Returns:
        See :func:`diagnose_model`; empty for models without a proposal generator.
    """
    cfg = trial.run_cfg(train=False)
    model = build_model(cfg)
    load_trained_weights(model, cfg.MODEL.WEIGHTS)
    records = DatasetCatalog.get(resolve_dataset(trial.split.val)[0])
    if images is not None and len(records) > images:
        records = [records[(2 * i + 1) * len(records) // (2 * images)] for i in range(images)]
    return diagnose_model(cfg, model, records, label=trial.label)


@torch.no_grad()
def diagnose_model(
    cfg: CfgNode, model: nn.Module, records: Sequence[dict], *, label: str = ""
) -> dict:
    """What a model's proposals find, and what a hierarchical RPN would keep at any setting.

    Args:
        cfg: how images are resized (INPUT).
        model: with its weights.
        records: dataset dicts with annotations.
        label: of the progress bar.

    Returns:
        In percent: ``part_recall`` and ``parent_recall``, number of proposals -> share of the boxes
        found by the best so many (IoU of 0.5). For a hierarchical RPN, metric -> parent choice -> S
        -> percent: ``kept``, the share of anchors that are kept; ``covered``, the share of the
        parts that a kept anchor overlaps by an IoU of 0.5; ``best_kept``, the share of the parts
        that keep the anchor which overlaps them best. ``covered_by_all``: the same of all anchors.
        ``parents``: choice -> mean number of an image. ``images``, ``parts``: how many there were.
    """
    generator = getattr(model, "proposal_generator", None)
    if generator is None:
        return {}
    hierarchical = hasattr(generator, "forward_with_parents")
    resize = T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    model.eval()
    tally, num_parts = Tally(), 0
    for record in tqdm(records, desc=f"diagnosing {label}", unit="image", disable=None):
        tensor, parts, parents = _prepare(cfg, record, resize, model.device)
        num_parts += len(parts)
        images = model.preprocess_image([{"image": tensor}])
        features = model.backbone(images.tensor)
        if not hierarchical:
            (proposals,), _ = generator(images, features)
        else:
            (proposals,), (found,), _ = generator.forward_with_parents(images, features)
            anchors = generator.anchor_generator([features[f] for f in generator.in_features])
            _tally_recall(tally, "parent_recall", parents, found)
            _tally_anchors(tally, Boxes.cat(anchors), parts, found)
        _tally_recall(tally, "part_recall", parts, proposals)

    result = {"images": len(records), "parts": num_parts}
    for name in ("part_recall", "parent_recall") if hierarchical else ("part_recall",):
        result[name] = {number: tally.share(name, number) for number in _NUMBERS}
    if hierarchical:
        for name in ("kept", "covered", "best_kept"):
            result[name] = {
                metric: {
                    choice.name: {s: tally.share(name, metric, choice.name, s) for s in THRESHOLDS}
                    for choice in PARENT_CHOICES
                }
                for metric in METRICS
            }
        result["covered_by_all"] = tally.share("covered_by_all")
        result["parents"] = {c.name: tally.mean("parents", c.name) for c in PARENT_CHOICES}
    return result


def calibration(matches: Matches, bins: int = 10, iou: float = 0.5) -> dict:
    """Whether a score is the probability of being right.

    Args:
        matches: of a file of predictions.
        bins: number of equal parts of [0, 1].
        iou: threshold of being right, one of the matches'.

    Returns:
        ``score``, ``precision`` (both in [0, 1], None where a bin is empty) and ``count``, one a
        bin; ``error``: expected calibration error in percent, None without detections.
    """
    t = matches.iou_thresholds.index(iou)
    classes = matches.by_area[""]
    hit = np.concatenate([c.hit[t] for c in classes])
    counted = hit | np.concatenate([c.miss[t] for c in classes])
    hit, score = hit[counted], np.concatenate([c.score for c in classes])[counted]
    which = np.clip((score * bins).astype(int), 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    sums = np.bincount(which, score, bins), np.bincount(which, hit, bins)
    gaps = np.abs(sums[0] - sums[1]).sum()
    score_of, precision = (
        [float(total / n) if n else None for total, n in zip(column, count)] for column in sums
    )
    return {
        "score": score_of,
        "precision": precision,
        "count": count.tolist(),
        "error": 100 * float(gaps) / len(hit) if len(hit) else None,
    }


def _prepare(
    cfg: CfgNode, record: dict, resize: T.Augmentation, device: torch.device
) -> tuple[Tensor, Boxes, Boxes]:
    """The image as the network gets it, and its parts and (each once) parents on it."""
    image = utils.read_image(record["file_name"], format=cfg.INPUT.FORMAT)
    transform = resize.get_transform(image)
    resized = transform.apply_image(image)
    annotations = [a for a in record["annotations"] if not a.get("iscrowd")]
    parts = [(a["bbox"], a["bbox_mode"]) for a in annotations]
    parents = {
        (tuple(a["parent_bbox"]), a["bbox_mode"])
        for a in annotations
        if a.get("parent_bbox") is not None
    }

    def boxes(pairs) -> Boxes:
        corners = [BoxMode.convert(list(box), mode, BoxMode.XYXY_ABS) for box, mode in pairs]
        corners = transform.apply_box(np.array(corners, dtype=np.float64).reshape(-1, 4))
        return Boxes(torch.as_tensor(corners, dtype=torch.float32, device=device))

    tensor = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))
    return tensor, boxes(parts), boxes(sorted(parents))


def _tally_recall(tally: Tally, name: str, truth: Boxes, proposals: Instances) -> None:
    for number in _NUMBERS:
        best = proposals.proposal_boxes[:number]
        tally.add((name, number), _overlaps(truth, best) >= _FOUND, len(truth))


def _tally_anchors(tally: Tally, anchors: Boxes, parts: Boxes, parents: Instances) -> None:
    overlap = pairwise_iou(parts, anchors)  # (G, R)
    best = overlap.argmax(dim=1) if len(parts) else torch.zeros(0, dtype=torch.int64)
    tally.add(("covered_by_all",), _overlaps(parts, anchors) >= _FOUND, len(parts))
    for choice in PARENT_CHOICES:
        boxes = choice.select(parents)
        tally.add(("parents", choice.name), float(len(boxes)), 1)
        for metric in METRICS:
            scores = anchor_scores(anchors, boxes, metric)
            for s in THRESHOLDS:
                keep, key = scores > s, (metric, choice.name, s)
                tally.add(("kept", *key), keep, len(anchors))
                covered = (overlap * keep).amax(dim=1) >= _FOUND
                tally.add(("covered", *key), covered, len(parts))
                tally.add(("best_kept", *key), keep[best], len(parts))


def _overlaps(truth: Boxes, boxes: Boxes) -> Tensor:
    """(G,) largest IoU of each box of ``truth`` with ``boxes``; 0 if there are none."""
    if len(boxes) == 0 or len(truth) == 0:
        return truth.tensor.new_zeros(len(truth))
    return pairwise_iou(truth, boxes).amax(dim=1)
