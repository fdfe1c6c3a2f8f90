"""Counting whether the most similar region of the adjacent frame is the same part."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from msnet_benchmark.match_rate import MatchRate, count_matches, match_rates, part_ids

from msnet_d2.data import resolve_dataset
from msnet_d2.errors import DatasetError
from msnet_d2.score_refinement import ScoreRefinementNetwork


def test_count_by_hand():
    # Part 7 is most similar to itself, part 8 to 7; part 9 is not in Q.
    similarity = torch.tensor([[0.9, 0.5], [0.8, 0.7], [0.1, 0.2]])
    assert count_matches(similarity, [7, 8, 9], [7, 8]) == (1, 2)


def test_a_single_region_cannot_be_missed():
    assert count_matches(torch.ones(2, 1), [1, 2], [1]) == (0, 0)
    assert count_matches(torch.ones(0, 3), [], [1, 2, 3]) == (0, 0)


def test_metrics_by_hand():
    rate = MatchRate()
    rate.add(torch.tensor([[0.9, 0.5], [0.8, 0.7]]), [7, 8], [7, 8])
    metrics = rate.metrics()
    assert metrics["top1"] == 50
    assert metrics["chance"] == 50
    assert metrics["similarity_same"] == pytest.approx((90 + 70) / 2)
    assert metrics["similarity_other"] == pytest.approx((50 + 80) / 2)
    assert metrics["matches"] == 2
    assert math.isnan(MatchRate().metrics()["top1"])


@pytest.fixture
def data_set(tmp_path):
    """Two parts of different look that move from frame to frame, and cross."""
    folder = tmp_path / "train"
    folder.mkdir()
    looks = {11: (0, 0, 255), 12: (255, 255, 0)}
    images, annotations = [], []
    for frame, places in enumerate([{11: (32, 32), 12: (96, 64)}, {11: (96, 64), 12: (32, 32)}]):
        picture = np.full((128, 160, 3), 120, np.uint8)
        for part, (x, y) in places.items():
            picture[y : y + 32, x : x + 32] = looks[part]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame + 1,
                    "category_id": 1,
                    "damage_bbox": [x, y, 32, 32],
                    "house_bbox": [x, y, 32, 32],
                    "segmentation": [[x, y, x + 32, y, x + 32, y + 32, x, y + 32]],
                    "area": 1024,
                    "iscrowd": 0,
                    "part_id": part,
                }
            )
        cv2.imwrite(str(folder / f"1_{frame}.png"), picture)
        images.append({"id": frame + 1, "file_name": f"1_{frame}.png", "height": 128, "width": 160})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": str(i)} for i in (1, 2, 3)],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return tmp_path


class Colors(torch.nn.Module):
    """A model whose features are the colours, averaged over what a position covers."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Module()
        self.backbone.forward = lambda x: {
            f"p{k}": torch.nn.functional.avg_pool2d(x, 2**k) for k in (2, 3, 4, 5)
        }
        self.backbone.output_shape = lambda: {
            f"p{k}": ShapeSpec(channels=3, stride=2**k) for k in (2, 3, 4, 5)
        }

    def preprocess_image(self, inputs):
        return SimpleNamespace(tensor=inputs[0]["image"][None].float())


def test_parts_that_changed_places_are_found_by_their_look(data_set, tiny_cfg):
    model = Colors()
    tiny_cfg.INPUT.MIN_SIZE_TEST = 128
    (name,) = resolve_dataset(f"{data_set}:train")
    tiny_cfg.MODEL.SRN.FC_DIMS = [32]
    untrained = ScoreRefinementNetwork(tiny_cfg, model.backbone.output_shape())
    tiny_cfg.MODEL.SRN.FC_DIMS = []
    raw = ScoreRefinementNetwork(tiny_cfg, model.backbone.output_shape())
    rates = match_rates(tiny_cfg, model, name, {"untrained": untrained, "raw": raw})
    assert set(rates) == {"untrained", "raw"}
    # two parts, matched forwards and backwards
    assert rates["raw"].total == 4
    assert rates["raw"].correct == 4
    # Red (0, 0, 255) on grey against cyan (255, 255, 0): the trials inside the boxes have cosine 1
    # with the same colour and 0 with the other; those at the border are mixed with grey.
    assert rates["raw"].similarity_same / 4 == pytest.approx(1, abs=1e-5)
    assert rates["raw"].similarity_other / 4 < 0.5
    assert rates["untrained"].total == 4
    assert model.training  # as before
    assert match_rates(tiny_cfg, model, name, {"raw": raw}, max_gap=0)["raw"].total == 0


def test_without_part_ids(data_set):
    path = data_set / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        del annotation["part_id"]
    path.write_text(json.dumps(content))
    (name,) = resolve_dataset(f"{data_set}:train")
    with pytest.raises(DatasetError, match="have no part_id"):
        part_ids(name)
