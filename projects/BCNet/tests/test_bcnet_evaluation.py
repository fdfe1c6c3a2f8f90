"""COCO-OCC splits and the occluders' IoU, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from bcnet.coco_occ import box_iou, crowded_images
from bcnet.evaluator import OccluderEvaluator, occluder_ious
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances

from msnet_d2.cli import main
from msnet_d2.errors import ConfigError


def test_iou_of_boxes():
    assert box_iou([0, 0, 10, 10], [5, 0, 10, 10]) == pytest.approx(50 / 150)
    assert box_iou([0, 0, 10, 10], [10, 0, 5, 5]) == 0
    assert box_iou([0, 0, 0, 10], [0, 0, 0, 10]) == 0


def annotation(image, bbox, **fields):
    return {"id": 0, "image_id": image, "category_id": 1, "bbox": bbox, "iscrowd": 0, **fields}


ANNOTATIONS = [
    # IoU 1/3 between the first and the third; both end at the second.
    annotation(1, [0, 0, 10, 10]),
    annotation(1, [50, 0, 10, 10]),
    annotation(1, [5, 0, 10, 10]),
    # 20 / 180 = 0.11
    annotation(2, [0, 0, 10, 10]),
    annotation(2, [8, 0, 10, 10]),
    # A crowd is no object; objects of two images do not overlap.
    annotation(3, [0, 0, 10, 10], iscrowd=1),
    annotation(3, [0, 0, 10, 10]),
]


@pytest.mark.parametrize(
    ("overlap", "images"), [(0.2, {1}), (0.1, {1, 2}), (1 / 3, {1}), (0.4, set())]
)
def test_images_in_which_boxes_overlap(overlap, images):
    assert crowded_images(ANNOTATIONS, overlap) == images


def test_the_command_writes_the_split(tmp_path, capsys):
    source, out = tmp_path / "all.json", tmp_path / "occ.json"
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2, 3)]
    categories = [{"id": 1, "name": "house"}]
    document = {"images": images, "annotations": ANNOTATIONS, "categories": categories}
    source.write_text(json.dumps(document))
    assert main(["coco-occ", str(source), "--out", str(out)]) == 0
    assert "1 images with 3 annotations" in capsys.readouterr().out
    split = json.loads(out.read_text())
    assert split == {**document, "images": images[:1], "annotations": ANNOTATIONS[:3]}
    assert main(["coco-occ", str(source), "--out", str(out), "--min-overlap", "0.9"]) == 1


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("[]", [], "is no COCO data set"),
        ('{"images": [], "annotations": [{"image_id": 1}]}', [], "without id, image_id or a bbox"),
        ('{"images": [], "annotations": [3]}', [], "without id, image_id or a bbox"),
        ('{"images": [], "annotations": []}', ["--min-overlap", "0"], "--min-overlap is 0.0"),
        ('{"images": [], "annotations": []}', ["--out", "a.json"], "is the file that is read"),
        (None, [], "a.json"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path, monkeypatch, capsys, content, options, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    assert main(["coco-occ", "a.json", "--out", "b.json", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "b.json").exists()


def detections(*rows) -> Instances:
    """Rows of (box, class, score, columns of 4 that the occluder covers)."""
    found = Instances((8, 8))
    found.pred_boxes = Boxes(torch.tensor([row[0] for row in rows], dtype=torch.float32))
    found.pred_classes = torch.tensor([row[1] for row in rows])
    found.scores = torch.tensor([row[2] for row in rows])
    found.pred_occluder_masks = torch.zeros(len(rows), 1, 4, 4)
    for mask, row in zip(found.pred_occluder_masks, rows):
        mask[..., row[3]] = 0.9
    return found


def test_occluders_are_compared_in_the_best_detection_of_the_class():
    occluders = np.zeros((2, 8, 8), bool)
    occluders[0, :, 4:] = True
    whole = [0, 0, 8, 8]
    found = detections(
        (whole, 0, 0.5, slice(2, 4)),  # exact, but of a lower score
        (whole, 0, 0.9, slice(1, 3)),
        (whole, 1, 1.0, slice(0, 4)),
    )
    # Of 4 columns the last two are covered, columns 1 and 2 predicted: 1 of 3.
    values = occluder_ious(found, np.array([0]), np.array([whole]), occluders[:1])
    assert values == pytest.approx([1 / 3])
    # Nothing of class 2 is found; a box of IoU 1/4 is no match.
    assert occluder_ious(found, np.array([2]), np.array([whole]), occluders[:1]) == []
    assert occluder_ious(found, np.array([0]), np.array([[0, 0, 4, 4]]), occluders[:1]) == []


def test_data_and_models_without_occluders_are_refused(tiny_cfg):
    DatasetCatalog.register("houses", lambda: [{"image_id": 1, "annotations": [{"bbox": []}]}])
    with pytest.raises(ConfigError, match="houses has no amodal truth"):
        OccluderEvaluator(tiny_cfg, "houses", "")
    DatasetCatalog.register("empty", lambda: [{"image_id": 1, "annotations": []}])
    evaluator = OccluderEvaluator(tiny_cfg, "empty", "")
    with pytest.raises(ConfigError, match="predicts no occluders"):
        evaluator.process([{"image_id": 1}], [{"instances": Instances((8, 8))}])
    assert evaluator.evaluate()["occluder"]["instances"] == 0
