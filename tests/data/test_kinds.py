"""Semantic, panoptic, amodal, track and flow data sets: loaded, checked, described.

All of them are of one frame, 6 pixels wide and 4 high: a thing of 2 x 2 at its upper left, a tree
that hides its lower right pixel, and ground.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from msnet_d2.cli import main
from msnet_d2.data import resolve_dataset
from msnet_d2.data.kinds import find_kind_issues, load_kind
from msnet_d2.errors import DatasetError

# By columns of 4: rows 0 and 1 of columns 0 and 1.
WHOLE = {"size": [4, 6], "counts": [0, 2, 2, 2, 18]}
SEEN = {"size": [4, 6], "counts": [0, 2, 2, 1, 19]}
LUT = [0, *[255] * 6, 1, *[255] * 248]
IMAGE = {"id": 1, "file_name": "1_0.jpg", "width": 6, "height": 4}


def _labels() -> np.ndarray:
    labels = np.zeros((4, 6), np.uint8)
    labels[:2, :2] = 7
    labels[1, 1] = 5
    return labels


def _segments() -> np.ndarray:
    ids = np.full((4, 6), 70000)  # 70000 = 112 + 256 · 17 + 65536
    ids[:2, :2] = 1
    ids[1, 1] = 300  # 44 + 256
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)


def documents() -> dict[str, dict]:
    """The JSON of each kind."""
    annotation = {
        "id": 1, "image_id": 1, "category_id": 4, "iscrowd": 0, "bbox": [0, 0, 2, 2],
        "segmentation": SEEN, "amodal_segmentation": WHOLE, "track_id": 10, "part_id": 17,
    }  # fmt: skip
    return {
        "semantic": {
            "images": [{**IMAGE, "sem_seg_file_name": "1_0.png"}],
            "labels": [{"id": 0, "name": "ground"}, {"id": 5, "name": "tree"},
                       {"id": 7, "name": "roof"}],
            "label_tables": {
                "all": {"classes": ["ground", "building"], "lut": LUT}
            },
        },
        "panoptic": {
            "images": [IMAGE],
            "annotations": [{
                "image_id": 1, "file_name": "1_0.png", "segments_info": [
                    {"id": 1, "category_id": 4, "area": 3, "bbox": [0, 0, 2, 2], "iscrowd": 0},
                    {"id": 300, "category_id": 7, "area": 1, "bbox": [1, 1, 1, 1], "iscrowd": 0},
                    {"id": 70000, "category_id": 5, "area": 20, "bbox": [0, 0, 6, 4]}],
            }],
            "categories": [{"id": 4, "name": "building", "isthing": 1},
                           {"id": 5, "name": "ground", "isthing": 0},
                           {"id": 7, "name": "tree", "isthing": 0}],
        },
        "amodal": {
            "images": [IMAGE],
            "annotations": [annotation],
            "categories": [{"id": 4, "name": "building"}],
        },
        "tracks": {
            "videos": [{"id": 1, "width": 6, "height": 4, "length": 3,
                        "file_names": ["1_0.jpg", "1_1.jpg", "1_2.jpg"]}],
            "annotations": [{"id": 9, "video_id": 1, "category_id": 4, "iscrowd": 0,
                             "segmentations": [SEEN, None, WHOLE], "part_id": 17}],
            "categories": [{"id": 4, "name": "building"}],
        },
        "flow": {
            "images": [{**IMAGE, "video_id": "1", "frame_index": 1}],
            "pairs": [{"id": 1, "image_id": 1, "frame_index": 1, "to_frame_index": 0,
                       "flow_file_name": "1_1_0.npz"}],
            "step": 2,
        },
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data set of all kinds in a folder's layout."""
    root = tmp_path / "data"
    for name in ("annotations", "train", "semantic/train", "panoptic/train", "flow/train"):
        (root / name).mkdir(parents=True)
    for frame in range(3):
        Image.new("RGB", (6, 4), (90, 120, 90)).save(root / f"train/1_{frame}.jpg")
    Image.fromarray(_labels()).save(root / "semantic/train/1_0.png")
    Image.fromarray(_segments()).save(root / "panoptic/train/1_0.png")
    flow, valid = np.zeros((2, 3, 2), np.float16), np.ones((2, 3), bool)
    flow[..., 0], flow[..., 1], valid[0, 0] = 3, -4, False
    np.savez(root / "flow/train/1_1_0.npz", flow=flow, valid=valid)
    for kind, document in documents().items():
        _write(root, kind, document)
    return root


def _write(root: Path, kind: str, document: dict) -> None:
    (root / f"annotations/{kind}_train.json").write_text(json.dumps(document))


def _load(root: Path, kind: str) -> list[dict]:
    (name,) = resolve_dataset(f"{kind}@{root}:train")
    return DatasetCatalog.get(name)


def _issues(root: Path, kind: str, **options) -> set[tuple[str, str]]:
    (name,) = resolve_dataset(f"{kind}@{root}:train")
    return {(issue.severity, issue.kind) for issue in find_kind_issues(name, **options)[0]}


@pytest.mark.parametrize("kind", ["semantic", "panoptic", "amodal", "tracks", "flow"])
def test_a_sound_data_set_has_no_issue_and_statistics(folder, kind, capsys):
    assert main(["check", f"{kind}@{folder}", "--no-progress"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no issues"
    assert main(["stats", f"{kind}@{folder}:train"]) == 0
    assert (
        "1 images" in (text := capsys.readouterr().out) or "1 pairs" in text or "1 videos" in text
    )


def test_semantic_records(folder):
    (record,) = _load(folder, "semantic")
    assert record["sem_seg_file_name"] == str(folder / "semantic/train/1_0.png")
    assert record["file_name"] == str(folder / "train/1_0.jpg")
    assert record["label_lut"][[0, 5, 7, 255]].tolist() == [0, 255, 1, 255]
    assert "annotations" not in record
    (name,) = resolve_dataset(f"semantic@{folder}:train")
    metadata = MetadataCatalog.get(name)
    assert metadata.stuff_classes == ["ground", "building"]
    assert (metadata.ignore_label, metadata.evaluator_type) == (255, "semantic")


def test_without_label_tables_every_label_is_a_class(folder):
    document = documents()["semantic"]
    del document["label_tables"]
    _write(folder, "semantic", document)
    (record,) = _load(folder, "semantic")
    assert record["label_lut"][[0, 5, 7, 3]].tolist() == [0, 1, 2, 255]


def test_a_label_table_is_chosen_by_name(folder):
    with pytest.raises(DatasetError, match="no label table 'some'; it has all"):
        load_kind(resolve_dataset(f"semantic/some@{folder}:train")[0])
    (name,) = resolve_dataset(f"semantic/all@{folder}:train")
    assert load_kind(name)[0]["label_lut"][7] == 1


def test_panoptic_records_and_metadata_are_detectron2s(folder):
    (record,) = _load(folder, "panoptic")
    assert record["pan_seg_file_name"] == str(folder / "panoptic/train/1_0.png")
    assert [(s["id"], s["category_id"], s["isthing"]) for s in record["segments_info"]] == [
        (1, 0, True), (300, 2, False), (70000, 1, False)
    ]  # fmt: skip
    metadata = MetadataCatalog.get(resolve_dataset(f"panoptic@{folder}:train")[0])
    assert metadata.stuff_classes == ["things", "ground", "tree"]
    assert metadata.stuff_dataset_id_to_contiguous_id == {0: 0, 5: 1, 7: 2}
    assert metadata.thing_dataset_id_to_contiguous_id == {4: 0}


def test_amodal_records_know_what_is_hidden(folder):
    from pycocotools import mask as mask_util

    (record,) = _load(folder, "amodal")
    (annotation,) = record["annotations"]
    assert annotation["visible_share"] == 0.75
    hidden = mask_util.decode(annotation["occluder_segmentation"])
    assert np.argwhere(hidden).tolist() == [[1, 1]]
    assert (annotation["part_id"], annotation["track_id"]) == (17, 10)


def test_track_records(folder):
    (record,) = _load(folder, "tracks")
    assert record["file_names"] == [str(folder / f"train/1_{n}.jpg") for n in range(3)]
    (track,) = record["tracks"]
    assert [mask is None for mask in track["segmentations"]] == [False, True, False]
    assert (track["id"], track["category_id"], track["part_id"]) == (9, 0, 17)


def test_flow_records(folder, capsys):
    (record,) = _load(folder, "flow")
    assert (record["frame_index"], record["to_frame_index"], record["step"]) == (1, 0, 2)
    assert main(["stats", f"flow@{folder}"]) == 0
    # |(3, -4)| = 5; five of six pixels are valid.
    row = next(r for r in capsys.readouterr().out.splitlines() if r.strip().startswith("-1"))
    assert row.split() == ["-1", "1", "83.3%", "5.0", "5.0"]


def test_every_issue_of_a_semantic_data_set_at_once(folder):
    document = documents()["semantic"]
    document["images"] += [
        {**IMAGE, "id": 2, "file_name": "1_1.jpg", "sem_seg_file_name": "../1_0.png"},
        {**IMAGE, "id": 3, "file_name": "1_2.jpg", "sem_seg_file_name": "palette.png"},
        {**IMAGE, "id": 4, "file_name": "no.jpg", "sem_seg_file_name": "small.png"},
        {**IMAGE, "id": 5, "file_name": "1_3.jpg", "sem_seg_file_name": "strange.png"},
    ]
    document["labels"].append({"id": 7, "name": "again"})
    document["label_tables"]["all"]["lut"][3] = 2
    _write(folder, "semantic", document)
    masks = folder / "semantic/train"
    Image.new("P", (6, 4)).save(masks / "palette.png")
    Image.new("L", (3, 4)).save(masks / "small.png")
    Image.new("L", (6, 4), 9).save(masks / "strange.png")
    assert _issues(folder, "semantic") == {
        ("fatal", kind)
        for kind in (
            "file-name", "label-image", "label-size", "unknown-label", "missing-image",
            "duplicate-labels", "label-table",
        )
    }  # fmt: skip


def test_every_issue_of_a_panoptic_data_set_at_once(folder):
    document = documents()["panoptic"]
    segments = document["annotations"][0]["segments_info"]
    segments[0]["area"] = 4  # 3 in the picture
    segments[1]["id"] = 301  # not in the picture, which has 300
    segments += [{"id": 70000, "category_id": 5, "area": 1}, {"id": 5, "category_id": 9, "area": 1}]
    document["images"].append({**IMAGE, "id": 2, "file_name": "1_1.jpg"})
    document["annotations"].append({"image_id": 8, "file_name": "1_0.png", "segments_info": []})
    document["categories"].append({"id": 8, "name": "water", "isthing": None})
    _write(folder, "panoptic", document)
    assert _issues(folder, "panoptic") == {
        ("fatal", kind)
        for kind in (
            "area", "missing-segment", "unlisted-segment", "segments-info", "no-annotation",
            "unknown-image", "categories",
        )
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"amodal_segmentation": None}, ("fatal", "malformed-mask")),
        ({"amodal_segmentation": {"size": [4, 6], "counts": [3]}}, ("fatal", "malformed-mask")),
        ({"amodal_segmentation": {"size": [4, 6], "counts": [24]}}, ("dropped", "empty-mask")),
        # What is seen, the upper left 3 pixels, lies out of a whole at the lower right.
        (
            {"amodal_segmentation": {"size": [4, 6], "counts": [20, 4]}},
            ("kept", "visible-beyond-amodal"),
        ),
        ({"occluder_segmentation": WHOLE}, ("kept", "occluder-on-visible")),
        ({"part_id": "17"}, ("fatal", "annotation-field")),
    ],
)
def test_issues_of_amodal_masks(folder, change, expected):
    document = documents()["amodal"]
    document["annotations"][0].update(change)
    _write(folder, "amodal", document)
    assert _issues(folder, "amodal") == {expected}


def test_every_issue_of_tracks_at_once(folder):
    document = documents()["tracks"]
    good = document["annotations"][0]
    document["annotations"] += [
        {**good},
        {**good, "id": 2, "video_id": 3},
        {**good, "id": 3, "category_id": 1},
        {**good, "id": 4, "segmentations": [SEEN]},
        {**good, "id": 5, "segmentations": [SEEN, {"size": [4, 5], "counts": [20]}, None]},
        {**good, "id": 6, "segmentations": [None] * 3},
        {**good, "id": None},
    ]
    document["videos"] += [
        {"id": 2, "width": 6, "height": 4, "file_names": ["../a.jpg", "b.jpg"], "length": 5},
        {"id": 2, "width": 6, "height": 4, "file_names": ["a.jpg"]},
        {"id": 4, "width": 0, "height": 4, "file_names": ["a.jpg"]},
    ]
    _write(folder, "tracks", document)
    fatal = (
        "duplicate-annotation-id", "unknown-video", "unknown-category", "segmentations",
        "malformed-mask", "annotation-id", "file-name", "video-field", "video-id", "missing-image",
    )  # fmt: skip
    assert _issues(folder, "tracks") == {
        *(("fatal", kind) for kind in fatal),
        ("dropped", "empty-track"),
    }


@pytest.mark.parametrize(
    ("arrays", "kind"),
    [
        ({"flow": np.zeros((4, 6, 2), np.float16), "valid": np.ones((4, 6), bool)}, "flow-size"),
        ({"flow": np.zeros((2, 3), np.float16), "valid": np.ones((2, 3), bool)}, "flow-file"),
        ({"flow": np.zeros((2, 3, 2), np.int16), "valid": np.ones((2, 3), bool)}, "flow-file"),
        ({"flow": np.full((2, 3, 2), np.nan), "valid": np.ones((2, 3), bool)}, "flow-file"),
        ({"valid": np.ones((2, 3), bool)}, "flow-file"),
        ({"flow": np.array([object()]), "valid": np.ones((2, 3), bool)}, "flow-file"),
        (None, "flow-file"),
    ],
)
def test_issues_of_flow_files(folder, arrays, kind):
    path = folder / "flow/train/1_1_0.npz"
    if arrays is None:
        path.write_bytes(b"no zip")
    else:
        np.savez(path, **arrays)
    assert _issues(folder, "flow") == {("fatal", kind)}
    assert _issues(folder, "flow", check_images=False) == set()


@pytest.mark.parametrize("kind", ["semantic", "panoptic", "amodal", "tracks", "flow"])
@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"images": {}}', '{"images": [1]}'])
def test_a_broken_json_is_reported_and_refused(folder, kind, content, capsys):
    (folder / f"annotations/{kind}_train.json").write_text(content)
    (name,) = resolve_dataset(f"{kind}@{folder}:train")
    with pytest.raises(DatasetError, match="fatal issue"):
        load_kind(name)
    assert main(["check", f"{kind}@{folder}", "--no-progress"]) == 1
    assert main(["stats", f"{kind}@{folder}"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_beside_its_folder_as_coco_ships_them(folder, tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "panoptic_val.json").write_text(json.dumps(documents()["panoptic"]))
    (folder / "panoptic/train").rename(loose / "panoptic_val")
    spec = f"panoptic@{loose / 'panoptic_val.json'}"
    assert main(["check", spec, "--image-root", str(folder / "train"), "--no-progress"]) == 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("panoptic@{}:val", "the splits of '.*' with panoptic truth are: train"),
        ("panoptic@{}/nowhere", "is no JSON file, folder or FOLDER:SPLIT"),
        ("panoptic@{}/train", r"has no annotations/panoptic_\*.json"),
        ("panoptix@{}:train", "there is no kind of data set 'panoptix'; there are: semantic, pan"),
        ("panoptix@{}/nowhere", "there is no data set 'panoptix@"),
        ("panoptic/damage@{}:train", "panoptic data sets have no label tables"),
    ],
)
def test_names_that_are_none(folder, spec, message):
    with pytest.raises(DatasetError, match=message):
        load_kind(resolve_dataset(spec.format(folder))[0])
