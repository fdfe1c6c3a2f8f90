"""Figures of semantic, panoptic, amodal, track and flow predictions, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools import mask as mask_util

from msnet_d2.cli import main
from msnet_d2.data import resolve_dataset
from msnet_d2.errors import DatasetError, InputError
from msnet_d2.evaluation import score_kind_file
from msnet_d2.evaluation.amodal import hidden_region_iou
from msnet_d2.evaluation.build import build_evaluator
from msnet_d2.evaluation.flow_error import endpoint_error
from msnet_d2.evaluation.semantic import confusion_matrix, figures_of, semantic_metrics
from msnet_d2.evaluation.tracks import score_tracks

IMAGE = {"id": 1, "file_name": "1_0.jpg", "width": 6, "height": 4}


def rle(mask: np.ndarray) -> dict:
    found = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": found["counts"].decode()}


# --- semantic ---------------------------------------------------------------------------------


def test_the_four_metrics_by_hand():
    # n = [[7, 1, 0], [0, 5, 1], [0, 0, 0]]: 12 of 14 right; accuracies 7/8 and 5/6; IUs 7/8, 5/7
    # and 0/1. Class 2 is predicted and not there: mean_IU counts it, mIoU does not.
    truth = np.array([[0] * 8 + [1] * 6 + [255] * 2])
    found = np.array([[0] * 7 + [1] * 1 + [1] * 5 + [2] * 1 + [0, 2]])
    matrix = confusion_matrix(truth, found, 3)
    assert matrix.tolist() == [[7, 1, 0, 0], [0, 5, 1, 0], [0, 0, 0, 0]]
    metrics = semantic_metrics(matrix, ["a", "b", "c"])
    assert metrics == {
        "pixel_acc": pytest.approx(85.71, abs=0.005),
        "mean_acc": pytest.approx(85.42, abs=0.005),
        "mean_IU": pytest.approx(52.98, abs=0.005),
        "mIoU": pytest.approx(79.46, abs=0.005),
        "fw_IU": pytest.approx(80.61, abs=0.005),
        "IoU-a": pytest.approx(87.5),
        "IoU-b": pytest.approx(71.43, abs=0.005),
        "IoU-c": 0,
    }


def test_the_baseline_calls_every_pixel_the_most_frequent_class():
    # 3 of 4 pixels are of class 0: accuracy 3/4, IUs 3/4 and 0.
    figures = figures_of(np.array([[1, 2, 0], [0, 1, 0]]), ["a", "b"])
    assert figures["sem_seg"]["pixel_acc"] == 50
    assert figures["sem_seg_baseline"]["pixel_acc"] == 75
    assert figures["sem_seg_baseline"]["mIoU"] == pytest.approx(37.5)


def test_a_class_on_neither_side_is_undefined_and_missing_pixels_are_missed():
    # 2 of 4 pixels have no prediction: accuracy 2/4.
    matrix = confusion_matrix(np.zeros((1, 4)), np.array([[0, 0, 255, -1]]), 2)
    metrics = semantic_metrics(matrix, ["a", "b"])
    assert metrics["pixel_acc"] == 50
    assert np.isnan(metrics["IoU-b"])
    assert metrics["mean_IU"] == metrics["mIoU"] == 50


def test_a_true_label_that_is_no_class_is_refused():
    with pytest.raises(DatasetError, match="the labels hold 7, and there are 3 classes"):
        confusion_matrix(np.array([[0, 7]]), np.array([[0, 0]]), 3)
    with pytest.raises(DatasetError, match="the prediction is 1x2, the labels are 2x1"):
        confusion_matrix(np.zeros((1, 2)), np.zeros((2, 1)), 3)


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "data"
    for name in ("annotations", "val", "semantic/val", "panoptic/val", "flow/val"):
        (root / name).mkdir(parents=True)
    Image.new("RGB", (6, 4)).save(root / "val/1_0.jpg")
    return root


def write(root: Path, kind: str, document: dict) -> str:
    (root / f"annotations/{kind}_val.json").write_text(json.dumps(document))
    (name,) = resolve_dataset(f"{kind}@{root}:val")
    return name


@pytest.fixture
def semantic(folder) -> str:
    labels = np.zeros((4, 6), np.uint8)
    labels[:, 3:] = 7
    labels[3] = 9
    Image.fromarray(labels).save(folder / "semantic/val/1_0.png")
    table = {"classes": ["dry", "wet"], "lut": [0, *[255] * 6, 1, *[255] * 248]}
    document = {
        "images": [{**IMAGE, "sem_seg_file_name": "1_0.png"}],
        "labels": [{"id": n, "name": str(n)} for n in (0, 7, 9)],
        "label_tables": {"flood": table},
    }
    return write(folder, "semantic", document)


def test_a_model_is_evaluated_by_the_table_of_its_data_set(semantic, tiny_cfg, tmp_path):
    evaluator = build_evaluator(tiny_cfg, semantic, str(tmp_path / "out"))
    evaluator.reset()
    scores = torch.zeros(2, 4, 6)
    scores[1, :, 2:] = 1  # one column too many
    (record,) = DatasetCatalog.get(semantic)
    evaluator.process([record], [{"sem_seg": scores}])
    figures = evaluator.evaluate()
    # Of 18 pixels that count (the last row is ignored), 3 are wrong: dry 6/9, wet 9/12.
    assert figures["sem_seg"]["pixel_acc"] == pytest.approx(100 * 15 / 18)
    assert figures["sem_seg"]["IoU-wet"] == pytest.approx(75)
    assert figures["sem_seg"]["IoU-dry"] == pytest.approx(100 * 6 / 9)
    # Its own file gives the same.
    again = score_kind_file(semantic, tmp_path / "out/sem_seg_predictions.json")
    assert again == figures


def test_a_folder_of_pictures_is_scored(semantic, folder, tmp_path, capsys):
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "1_0.png")
    arguments = ["eval", "--predictions", str(tmp_path), "--dataset", f"semantic@{folder}:val"]
    assert main([*arguments, "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())["sem_seg"]
    # All dry: 9 of 18; the mean IU of dry 9/18 and wet 0.
    assert (figures["pixel_acc"], figures["mIoU"]) == (50, 25)
    assert "pixel_acc" in capsys.readouterr().out


# --- panoptic ---------------------------------------------------------------------------------


def _ids(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(
        np.stack([picture % 256, picture // 256, picture * 0], -1).astype(np.uint8)
    )


@pytest.fixture
def panoptic(folder) -> str:
    pytest.importorskip("hotcoco")
    # A thing of 12 pixels (1) and stuff of 8 (2); the last row is void but for its 2 last pixels.
    truth = np.zeros((4, 6), int)
    truth[:2] = 1
    truth[2], truth[3, 4:] = 2, 2
    _ids(truth).save(folder / "panoptic/val/1_0.png")
    document = {
        "images": [IMAGE],
        "annotations": [{"image_id": 1, "file_name": "1_0.png", "segments_info": [
            {"id": 1, "category_id": 1, "area": 12, "bbox": [0, 0, 6, 2], "iscrowd": 0},
            {"id": 2, "category_id": 2, "area": 8, "bbox": [0, 2, 6, 2], "iscrowd": 0}]}],
        "categories": [{"id": 1, "name": "house", "isthing": 1},
                       {"id": 2, "name": "ground", "isthing": 0},
                       {"id": 3, "name": "water", "isthing": 0}],
    }  # fmt: skip
    return write(folder, "panoptic", document)


def _predict(tmp_path: Path, picture: np.ndarray, categories: dict[int, int]) -> Path:
    (tmp_path / "found").mkdir(exist_ok=True)
    _ids(picture).save(tmp_path / "found/1_0.png")
    segments = [{"id": n, "category_id": c} for n, c in categories.items()]
    annotation = {"image_id": 1, "file_name": "1_0.png", "segments_info": segments}
    (tmp_path / "found.json").write_text(json.dumps({"annotations": [annotation]}))
    return tmp_path / "found.json"


def test_panoptic_quality_by_hand(panoptic, tmp_path):
    # The thing is found with 8 of its 12 pixels: IoU 8/12. The rest, 16 pixels, is stuff: 8 right,
    # 4 on the thing, 4 in void, which does not count: IoU 8/12.
    picture = np.full((4, 6), 5)
    picture[:2, :4] = 4
    figures = score_kind_file(panoptic, _predict(tmp_path, picture, {4: 1, 5: 2}))
    for row in ("panoptic", "panoptic_things", "panoptic_stuff", "class_house", "class_ground"):
        assert figures[row]["PQ"] == pytest.approx(100 * 2 / 3)
        assert figures[row]["RQ"] == pytest.approx(100)
    assert np.isnan(figures["class_water"]["PQ"])


def test_an_iou_of_a_half_is_no_match_and_truth_is_perfect(panoptic, tmp_path):
    picture = np.full((4, 6), 5)
    picture[:2, :3] = 4  # 6 of 12 pixels: exactly a half
    figures = score_kind_file(panoptic, _predict(tmp_path, picture, {4: 1, 5: 2}))
    assert figures["class_house"]["PQ"] == 0
    truth = np.zeros((4, 6), int)
    truth[:2] = 1
    truth[2], truth[3, 4:] = 2, 2
    figures = score_kind_file(panoptic, _predict(tmp_path, truth, {1: 1, 2: 2}))
    assert figures["panoptic"]["PQ"] == pytest.approx(100)


def test_a_models_panoptic_output_is_scored_without_panopticapi(panoptic, tiny_cfg, tmp_path):
    evaluator = build_evaluator(tiny_cfg, panoptic, str(tmp_path / "out"))
    evaluator.reset()
    picture = torch.full((4, 6), 2)
    picture[:2, :4] = 1
    segments = [
        {"id": 1, "category_id": 0, "isthing": True, "score": 0.9},
        {"id": 2, "category_id": 1, "isthing": False},
    ]
    evaluator.process(
        [{"file_name": "x/1_0.jpg", "image_id": 1}], [{"panoptic_seg": (picture, segments)}]
    )
    assert evaluator.evaluate()["panoptic"]["PQ"] == pytest.approx(100 * 2 / 3)


def _simple_pq(truth, found, t_class, f_class, categories) -> float:
    """Panoptic quality as the paper and the COCO implementation define it, without crowds."""
    iou_of = {c: [] for c in categories}
    counts = {c: [0, 0] for c in categories}  # unmatched predictions, unmatched truths
    void = truth == 0
    matched_t, matched_f = set(), set()
    for g, gc in t_class.items():
        for p, pc in f_class.items():
            common = ((truth == g) & (found == p)).sum()
            union = (truth == g).sum() + ((found == p) & ~void).sum() - common
            if gc == pc and common / union > 0.5:
                iou_of[gc].append(common / union)
                matched_t.add(g)
                matched_f.add(p)
    for g in t_class.keys() - matched_t:
        counts[t_class[g]][1] += 1
    for p in f_class.keys() - matched_f:
        mask = found == p
        if (mask & void).sum() <= 0.5 * mask.sum():
            counts[f_class[p]][0] += 1
    values = []
    for c in categories:
        total = len(iou_of[c]) + sum(counts[c]) / 2
        if total:
            values.append(sum(iou_of[c]) / total)
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(6))
def test_panoptic_quality_equals_its_definition_at_random(panoptic, folder, tmp_path, seed):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 4, (2, 3)).repeat(2, 0).repeat(2, 1)
    moved = np.where(rng.random((4, 6)) < 0.2, rng.integers(0, 4, (4, 6)), small)
    classes = {n: int(rng.integers(1, 3)) for n in (1, 2, 3)}
    t_class = {n: classes[n] for n in np.unique(small).tolist() if n}
    f_class = {n: classes[n] for n in np.unique(moved).tolist() if n}
    _ids(small).save(folder / "panoptic/val/1_0.png")
    path = folder / "annotations/panoptic_val.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["segments_info"] = [
        {"id": n, "category_id": c, "area": int((small == n).sum()), "iscrowd": 0}
        for n, c in t_class.items()
    ]
    path.write_text(json.dumps(document))
    figures = score_kind_file(panoptic, _predict(tmp_path, moved, f_class))
    expected = _simple_pq(small, moved, t_class, f_class, (1, 2, 3))
    assert figures["panoptic"]["PQ"] == pytest.approx(100 * expected)


def test_wrong_areas_and_predictions_that_differ_are_refused(panoptic, folder, tmp_path):
    picture = np.full((4, 6), 5)
    with pytest.raises(InputError, match="cannot be scored"):
        score_kind_file(panoptic, _predict(tmp_path, picture, {4: 1, 5: 2}))
    (tmp_path / "lost.json").write_text("{}")
    with pytest.raises(InputError, match=r"there is no folder .*lost with the pictures"):
        score_kind_file(panoptic, tmp_path / "lost.json")
    path = folder / "annotations/panoptic_val.json"
    path.write_text(path.read_text().replace('"area": 12', '"area": 3'))
    found = _predict(tmp_path, picture, {5: 2})
    with pytest.raises(DatasetError, match="segment 1 has 12 pixels, and by its area 3"):
        score_kind_file(panoptic, found)


# --- tracks -----------------------------------------------------------------------------------


def _block(row: int) -> dict:
    mask = np.zeros((4, 6), bool)
    mask[row : row + 2, 1:4] = True
    return rle(mask)


def _case() -> tuple[list[dict], list[dict]]:
    """Truth A over 3 frames and B over the first 2; B is found in two pieces, all masks exact."""
    a, b = _block(0), _block(2)
    tracks = [
        {"id": 7, "category_id": 0, "iscrowd": 0, "segmentations": [a, a, a]},
        {"id": 9_000_000, "category_id": 0, "iscrowd": 0, "segmentations": [b, b, None]},
    ]
    records = [{"video_id": 3, "height": 4, "width": 6, "length": 3, "tracks": tracks}]
    found = [
        {"video_id": 3, "category_id": 0, "score": s, "segmentations": m}
        for s, m in ((0.9, [a, a, a]), (0.8, [b, None, None]), (0.7, [None, b, None]))
    ]
    return records, found


def test_track_figures_by_hand():
    pytest.importorskip("trackeval")
    records, found = _case()
    figures = score_tracks(records, ["part", "never there"], found)
    assert list(figures) == ["tracks", "class_part"]
    row = figures["tracks"]
    # At an IoU of 0.5, of ten thresholds, a piece of B (1 of 2 frames) matches, with a precision of
    # 1 up to a recall of 1; above, A alone, up to a recall of 0.5 (51 of 101 points).
    assert row["AP"] == pytest.approx(100 * (1 + 9 * 51 / 101) / 10, abs=0.01)
    assert row["AR"] == pytest.approx(55)
    # With one track a video A alone counts.
    assert row["AR1"] == pytest.approx(50)
    assert row["AR10"] == pytest.approx(55)
    # 5 masks found, none missed, one switch: 1 - 1/5.
    assert row["MOTSA"] == pytest.approx(80)
    # 4 of 5 masks under one identity each: 2·4 / (2·4 + 1 + 1).
    assert row["IDF1"] == pytest.approx(80)
    assert row["switches"] == 1
    # Association: (3·1 + 2·(1/2)) / 5 = 0.8; detection 1: the root of it.
    assert row["HOTA"] == pytest.approx(100 * np.sqrt(0.8), abs=0.01)


def test_truth_as_prediction_is_perfect_and_nothing_is_nothing(folder, tmp_path, capsys):
    pytest.importorskip("trackeval")
    records, _ = _case()
    document = {
        "videos": [{"id": 3, "width": 6, "height": 4, "file_names": ["a.jpg", "b.jpg", "c.jpg"]}],
        "annotations": [{**t, "category_id": 5, "video_id": 3} for t in records[0]["tracks"]],
        "categories": [{"id": 5, "name": "part"}],
    }
    name = write(folder, "tracks", document)
    found = [
        {"video_id": 3, "category_id": 5, "score": 0.5, "segmentations": t["segmentations"]}
        for t in document["annotations"]
    ]
    (tmp_path / "r.json").write_text(json.dumps(found))
    figures = score_kind_file(name, tmp_path / "r.json")["tracks"]
    assert {k: v for k, v in figures.items() if k not in ("AR1", "switches")} == {
        k: pytest.approx(100) for k in ("AP", "AR10", "AR", "HOTA", "MOTSA", "MOTSP", "IDF1")
    }
    assert (figures["AR1"], figures["switches"]) == (50, 0)
    (tmp_path / "r.json").write_text("[]")
    spec = f"tracks@{folder}:val"
    assert main(["eval", "--predictions", str(tmp_path / "r.json"), "--dataset", spec]) == 0
    assert "| tracks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_id": 4}, "video_id 4, of no video"),
        ({"category_id": 6}, "category_id 6, of no category"),
        ({"score": None}, "score None, not a number"),
        ({"segmentations": []}, "needs 1 segmentations"),
        ({"segmentations": [{"size": [1, 1], "counts": [1]}]}, "mask that is unusable"),
    ],
)
def test_tracks_of_something_else_are_refused(folder, tmp_path, capsys, change, message):
    document = {
        "videos": [{"id": 3, "width": 6, "height": 4, "file_names": ["a.jpg"]}],
        "annotations": [{"id": 1, "video_id": 3, "category_id": 5, "segmentations": [_block(0)]}],
        "categories": [{"id": 5, "name": "part"}],
    }
    write(folder, "tracks", document)
    good = {"video_id": 3, "category_id": 5, "score": 0.5, "segmentations": [_block(0)]}
    (tmp_path / "r.json").write_text(json.dumps([{**good, **change}]))
    spec = f"tracks@{folder}:val"
    assert main(["eval", "--predictions", str(tmp_path / "r.json"), "--dataset", spec]) == 2
    assert message in capsys.readouterr().err


# --- flow, amodal -----------------------------------------------------------------------------


def test_endpoint_error_by_hand():
    truth = np.zeros((1, 3, 2))
    found = np.array([[[3.0, 4.0], [0.0, 1.0], [9.0, 9.0]]])
    assert endpoint_error(found, truth, np.array([[True, True, False]])).tolist() == [5, 1]


def test_flow_is_scored_by_gap(folder, tmp_path):
    truth, found = np.zeros((2, 3, 2), np.float32), np.zeros((2, 3, 2), np.float32)
    truth[..., 0], found[..., 0] = 6, 2
    valid = np.ones((2, 3), bool)
    np.savez(folder / "flow/val/a.npz", flow=truth, valid=valid)
    document = {
        "images": [IMAGE],
        "pairs": [{"id": 1, "image_id": 1, "frame_index": 5, "to_frame_index": 4,
                   "flow_file_name": "a.npz"}],
        "step": 2,
    }  # fmt: skip
    name = write(folder, "flow", document)
    given = valid.copy()
    given[0, 0] = False  # no flow there: it misses the whole motion of 6
    np.savez(tmp_path / "a.npz", flow=found, valid=given)
    figures = score_kind_file(name, tmp_path)
    assert list(figures) == ["flow", "gap -1"]
    row = figures["flow"]
    assert row["EPE"] == pytest.approx((5 * 4 + 6) / 6)
    assert (row["median"], row["outliers"], row["zero_EPE"]) == (4, 100, 6)
    (tmp_path / "a.npz").unlink()
    with pytest.raises(InputError, match="has no a.npz"):
        score_kind_file(name, tmp_path)


def test_amodal_masks_are_scored_as_wholes(folder, tmp_path, tiny_cfg):
    whole, seen = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    whole[:, :4], seen[:, :2] = True, True  # half of it is hidden
    other = np.zeros((4, 6), bool)
    other[:, 5] = True
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 4, "bbox": [0, 0, 2, 4], "iscrowd": 0,
         "segmentation": rle(seen), "amodal_segmentation": rle(whole)},
        {"id": 2, "image_id": 1, "category_id": 4, "bbox": [5, 0, 1, 4], "iscrowd": 0,
         "segmentation": rle(other), "amodal_segmentation": rle(other)},
    ]  # fmt: skip
    document = {
        "images": [IMAGE],
        "annotations": annotations,
        "categories": [{"id": 4, "name": "building"}],
    }
    name = write(folder, "amodal", document)
    found = [
        {"image_id": 1, "category_id": 4, "bbox": [0, 0, 4, 4], "score": 0.9,
         "segmentation": rle(whole)},
        {"image_id": 1, "category_id": 4, "bbox": [5, 0, 1, 4], "score": 0.8,
         "segmentation": rle(other)},
    ]  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps(found))
    figures = score_kind_file(name, tmp_path / "r.json")
    assert figures["amodal"]["AP"] == pytest.approx(100)
    # The one that is seen whole is ignored on both sides.
    assert figures["amodal_occluded"]["AP"] == pytest.approx(100)
    assert figures["amodal_below_90"]["AP"] == pytest.approx(100)
    assert figures["hidden"]["instances"] == 0, "8 pixels are too few to compare"
    # Against what is seen the whole has an IoU of 1/2: it matches at 0.5 of ten thresholds.
    assert figures["visible"]["AP50"] == pytest.approx(100)
    assert figures["visible"]["AP"] < 60
    (tmp_path / "r.json").write_text(json.dumps(found[1:]))
    assert score_kind_file(name, tmp_path / "r.json")["amodal_occluded"]["AP"] == 0
    # A model that gives the same masks is given the same figures.
    instances = Instances((4, 6))
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 0, 4, 4], [5, 0, 6, 4]]))
    instances.scores, instances.pred_classes = torch.tensor([0.9, 0.8]), torch.tensor([0, 0])
    instances.pred_masks = torch.from_numpy(np.stack([whole, other]))
    evaluator = build_evaluator(tiny_cfg, name, str(tmp_path / "out"))
    evaluator.process([{"image_id": 1}], [{"instances": instances}])
    again = evaluator.evaluate()
    assert again["amodal"] == pytest.approx(figures["amodal"], nan_ok=True)
    kept = score_kind_file(name, tmp_path / "out/coco_instances_results.json")
    assert kept["visible"] == pytest.approx(again["visible"], nan_ok=True)


def test_hidden_regions_are_compared_by_hand(folder, monkeypatch):
    monkeypatch.setattr("msnet_d2.evaluation.amodal.HIDDEN_PIXELS", 4)
    seen, whole, guess = (np.zeros((4, 6), np.uint8) for _ in range(3))
    seen[:, :2], whole[:, :4], guess[:, :3] = 1, 1, 1
    guess[0, 5] = 1
    lone = np.zeros((4, 6), np.uint8)
    lone[:, 4:] = 1
    first = {"category_id": 0, "iscrowd": 0, "segmentation": rle(seen)}
    first["amodal_segmentation"] = rle(whole)
    # Of the second 4 pixels are hidden, and nothing finds it.
    second = {**first, "segmentation": rle(lone * (np.arange(6) < 5))}
    second["amodal_segmentation"] = rle(lone)
    crowd = {**second, "iscrowd": 1}
    records = [{"image_id": 1, "annotations": [first, second, crowd]}]
    entry = {"image_id": 1, "category_id": 7, "score": 0.9, "segmentation": rle(guess)}
    perfect = {**entry, "score": 0.5, "segmentation": rle(whole)}
    other_class = {**entry, "category_id": 8, "score": 1.0, "segmentation": rle(whole)}
    # IoU with the whole: 12 of 17. Beyond the visible mask: column 2 and a pixel, 5; hidden are
    # columns 2 and 3, 8; both 4, either 9. The better mask of the lower score comes too late.
    found = hidden_region_iou(records, [7], [perfect, entry, other_class])
    assert found["IoU"] == pytest.approx(100 * (4 / 9 + 0) / 2)
    assert (found["found"], found["instances"]) == (50, 2)
    assert hidden_region_iou(records, [7], [])["IoU"] == 0
    records[0]["annotations"] = []
    assert np.isnan(hidden_region_iou(records, [7], [entry])["IoU"])


def test_predictions_that_are_not_there(semantic, folder, capsys):
    spec = f"semantic@{folder}:val"
    assert main(["eval", "--predictions", str(folder / "no.json"), "--dataset", spec]) == 2
    assert "there is no" in capsys.readouterr().err
    arguments = ["eval", "--predictions", str(folder), "--dataset", spec, "--tasks", "bbox"]
    assert main(arguments) == 2
    assert "--tasks is for parts of buildings" in capsys.readouterr().err
