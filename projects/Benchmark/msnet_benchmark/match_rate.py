"""How often the most similar region of the adjacent frame is the same physical part.

The score refinement network is to find a damaged part again in the next frame. Where a data set
says which annotations are one part (``part_id`` in its JSON, as ``msnet synth`` writes it), this
can be counted without a detector's errors in between: the true boxes are embedded by a trained
network, by an untrained one, or by the features themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.structures import Boxes, BoxMode
from torch import Tensor, nn
from tqdm import tqdm

from msnet_d2.errors import DatasetError
from msnet_d2.score_refinement.network import ScoreRefinementNetwork
from msnet_d2.score_refinement.similarity import pairwise_similarity
from msnet_d2.utils.file_io import read_json_file

__all__ = ["MatchRate", "count_matches", "match_rates", "part_ids"]


@dataclass
class MatchRate:
    """Top-1 matches between adjacent frames.

    Attributes:
        correct: parts whose most similar region in the other frame is the same part.
        total: parts that are in both frames of a pair, where the other frame has two parts or more.
        chance: what guessing gives, the sum of 1 / (number of regions in the other frame).
        similarity_same: sum of the similarities to the same part.
        similarity_other: sum of the largest similarities to another part.
    """

    correct: int = 0
    total: int = 0
    chance: float = 0.0
    similarity_same: float = 0.0
    similarity_other: float = 0.0

    def metrics(self) -> dict[str, float]:
        """Rates and mean similarities in percent; NaN where no part could be matched."""
        n = self.total or float("nan")
        return {
            "top1": 100 * self.correct / n,
            "chance": 100 * self.chance / n,
            "similarity_same": 100 * self.similarity_same / n,
            "similarity_other": 100 * self.similarity_other / n,
            "matches": self.total,
        }

    def add(self, similarity: Tensor, parts_p: list, parts_q: list) -> None:
        """Count the matches of frame P in frame Q.

        Args:
            similarity, parts_p, parts_q: as those of :func:`count_matches`; either list may be
                empty, and then nothing is counted.
        """
        correct, total = count_matches(similarity, parts_p, parts_q)
        self.correct += correct
        self.total += total
        for i, j in _common(parts_p, parts_q):
            others = torch.cat([similarity[i, :j], similarity[i, j + 1 :]])
            self.chance += 1 / len(parts_q)
            self.similarity_same += float(similarity[i, j])
            self.similarity_other += float(others.max())


def count_matches(similarity: Tensor, parts_p: list, parts_q: list) -> tuple[int, int]:
    """Count top-1 matches of the parts of a frame P in a frame Q.

    Args:
        similarity: (N, M) of P's regions with Q's.
        parts_p: N ids of the parts, each once.
        parts_q: M ids.

    Returns:
        how many parts that are in both frames were matched to themselves, and how many there are.
        None count where Q has a single region: it cannot be missed.
    """
    common = _common(parts_p, parts_q)
    return sum(int(similarity[i].argmax()) == j for i, j in common), len(common)


def _common(parts_p: list, parts_q: list) -> list[tuple[int, int]]:
    if len(parts_q) < 2:
        return []
    where = {part: j for j, part in enumerate(parts_q)}
    return [(i, where[part]) for i, part in enumerate(parts_p) if part in where]


@torch.no_grad()
def match_rates(
    cfg: CfgNode,
    model: nn.Module,
    dataset_name: str,
    networks: Mapping[str, ScoreRefinementNetwork],
    *,
    max_gap: int | None = None,
) -> dict[str, MatchRate]:
    """Top-1 match rate of true boxes across adjacent frames of a data set's videos.

    Each pair of adjacent frames counts in both directions.

    Args:
        cfg: how frames are resized (INPUT).
        model: the detector whose features are embedded.
        dataset_name: a registered data set whose JSON has ``part_id``, ``video_id`` and
            ``frame_index``.
        networks: what to compare, by name.
        max_gap: largest difference of ``frame_index`` of adjacent frames; None:
            TEST.SCORE_REFINEMENT.MAX_FRAME_GAP.

    Returns:
        a :class:`MatchRate` for each of ``networks``.

    Raises:
        DatasetError: if the JSON does not say which annotations are one part.
    """
    parts = part_ids(dataset_name)
    max_gap = cfg.TEST.SCORE_REFINEMENT.MAX_FRAME_GAP if max_gap is None else max_gap
    resize = T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    rates = {name: MatchRate() for name in networks}
    training = model.training
    model.eval()
    records = [r for r in DatasetCatalog.get(dataset_name) if r.get("video_id") is not None]
    records.sort(key=lambda r: (str(r["video_id"]), r["frame_index"]))
    last, last_parts, last_embedded = None, [], {}
    for record in tqdm(records, desc="Embedding true boxes", unit="frame"):
        image = utils.read_image(record["file_name"], format=cfg.INPUT.FORMAT)
        transform = resize.get_transform(image)
        resized = transform.apply_image(image)
        own = [a for a in record["annotations"] if a["id"] in parts and not a.get("iscrowd")]
        corners = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in own]
        corners = transform.apply_box(np.array(corners, dtype=np.float64).reshape(-1, 4))
        tensor = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        features = model.backbone(model.preprocess_image([{"image": tensor}]).tensor)
        boxes = Boxes(torch.as_tensor(corners, dtype=torch.float32, device=model.device))
        embedded = {
            name: network.embed_boxes(features, [boxes]) for name, network in networks.items()
        }
        ids = [parts[a["id"]] for a in own]
        adjacent = last is not None and last["video_id"] == record["video_id"]
        if adjacent and 0 < record["frame_index"] - last["frame_index"] <= max_gap:
            for name, rate in rates.items():
                similarity = pairwise_similarity(last_embedded[name], embedded[name])
                rate.add(similarity, last_parts, ids)
                rate.add(similarity.T, ids, last_parts)
        last, last_parts, last_embedded = record, ids, embedded
    model.train(training)
    return rates


def part_ids(dataset_name: str) -> dict[int, int | str]:
    """Which physical part each annotation of a registered data set shows, by the annotation's id.

    Raises:
        DatasetError: if its JSON does not say.
    """
    file = MetadataCatalog.get(dataset_name).get("json_file")
    if file is None:
        raise DatasetError(f"the data set {dataset_name!r} was registered without a JSON file")
    annotations = read_json_file(file).get("annotations", [])
    parts = {a["id"]: a["part_id"] for a in annotations if a.get("part_id") is not None}
    if not parts:
        raise DatasetError(
            f"the annotations in {file} have no part_id, so it is not known which of them show the "
            "same part; data sets of msnet synth have it"
        )
    return parts
