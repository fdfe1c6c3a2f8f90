"""What load_isbda_json returns, and what is registered."""

from __future__ import annotations

import copy
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from msnet_d2.data import (
    ISBDA_CATEGORIES,
    find_issues,
    load_isbda_json,
    register_builtin_datasets,
    register_isbda_instances,
    resolve_dataset,
)
from msnet_d2.errors import DatasetError

SAMPLE = Path(__file__).parents[2] / ".." / "shared" / "samples" / "isbda_format"


def annotations_of(records):
    return {a["id"]: a for record in records for a in record["annotations"]}


def test_the_layout_that_isbda_ships(isbda_content, write_isbda):
    json_file, root = write_isbda(isbda_content)
    first, second = load_isbda_json(json_file, root, "loaded")
    assert {k: v for k, v in first.items() if k != "annotations"} == {
        "file_name": str(root / "5_100.png"),
        "image_id": 1,
        "height": 80,
        "width": 100,
        "video_id": "5",
        "frame_index": 100,
    }
    assert (second["video_id"], second["frame_index"]) == ("5", 110)
    assert first["annotations"][0] == {
        "id": 1,
        "bbox": [10, 10, 20, 20],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 0,
        "iscrowd": 0,
        "area": 400,
        "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]],
        "parent_bbox": [5, 5, 40, 40],
        "parent_id": 0,
    }
    metadata = MetadataCatalog.get("loaded")
    assert metadata.thing_classes == ["Slight", "Severe", "Debris"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 2: 1, 3: 2}
    assert metadata.thing_colors == [c["color"] for c in ISBDA_CATEGORIES]


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample is not part of the repository")
def test_a_real_frame():
    (name,) = resolve_dataset(SAMPLE)
    (record,) = DatasetCatalog.get(name)
    assert (record["width"], record["height"]) == (1382, 792)
    assert [a["category_id"] for a in record["annotations"]] == [1, 0, 0]
    # Parts 1 and 2 are of one house.
    assert [a["parent_id"] for a in record["annotations"]] == [0, 0, 1]
    assert record["annotations"][2]["bbox"] == [366.6, 398.4, 158.7, 100.5]
    metadata = MetadataCatalog.get(name)
    assert find_issues(metadata.json_file, metadata.image_root) == []


def test_ordinary_coco_json_with_bbox(isbda_content, write_isbda):
    for annotation in isbda_content["annotations"]:
        x, y, w, h = annotation["damage_bbox"]
        annotation["bbox"] = [x + 1, y, w - 1, h]
    records = load_isbda_json(*write_isbda(isbda_content))
    assert records[0]["annotations"][0]["bbox"] == [11, 10, 19, 20]


def test_a_data_set_without_house_boxes_loads_for_the_damage_baseline(isbda_content, write_isbda):
    for annotation in isbda_content["annotations"]:
        del annotation["house_bbox"]
    for annotation in annotations_of(load_isbda_json(*write_isbda(isbda_content))).values():
        assert "parent_bbox" not in annotation
        assert "parent_id" not in annotation


def test_a_data_set_without_masks_loads(isbda_content, write_isbda):
    for annotation in isbda_content["annotations"]:
        del annotation["segmentation"], annotation["area"]
    first = annotations_of(load_isbda_json(*write_isbda(isbda_content)))[1]
    assert "segmentation" not in first
    assert first["area"] == 400  # of the box, 20 x 20


def test_images_without_annotations_and_out_of_order(isbda_content, write_isbda):
    isbda_content["annotations"] = []
    isbda_content["images"].reverse()
    records = load_isbda_json(*write_isbda(isbda_content))
    assert [r["image_id"] for r in records] == [1, 2]
    assert [r["annotations"] for r in records] == [[], []]


def test_a_missing_area_is_that_of_the_polygons(isbda_content, write_isbda):
    # A triangle of 10 x 10 / 2 and a square of 4.
    isbda_content["annotations"][0]["segmentation"] = [
        [10, 10, 20, 10, 10, 20],
        [25, 25, 27, 25, 27, 27, 25, 27],
    ]
    del isbda_content["annotations"][0]["area"]
    assert annotations_of(load_isbda_json(*write_isbda(isbda_content)))[1]["area"] == 54


class TestCategories:
    @pytest.mark.parametrize(
        ("entries", "annotated", "expected"),
        [
            # (id, name) of the categories, category ids of the three annotations, their classes
            ([(1, "1"), (2, "2"), (3, "3")], [1, 2, 3], [0, 1, 2]),  # as ISBDA ships
            ([(1, "debris"), (2, "SEVERE"), (3, "Slight")], [1, 2, 3], [2, 1, 0]),  # by name
            ([(7, "3"), (5, "1"), (6, "2")], [5, 6, 7], [0, 1, 2]),  # any ids
            ([(1, None), (2, ""), (3, None)], [1, 2, 3], [0, 1, 2]),  # no names: by id
            ([(3, "Debris"), (1, "Slight")], [1, 3, 3], [0, 2, 2]),  # one level does not occur
        ],
    )
    def test_isbda_levels_by_name_in_any_order(
        self, isbda_content, write_isbda, entries, annotated, expected
    ):
        isbda_content["categories"] = [{"id": i, "name": name} for i, name in entries]
        for annotation, category_id in zip(isbda_content["annotations"], annotated):
            annotation["category_id"] = category_id
        records = load_isbda_json(*write_isbda(isbda_content), "levels")
        assert [annotations_of(records)[i]["category_id"] for i in (1, 2, 3)] == expected
        metadata = MetadataCatalog.get("levels")
        assert metadata.thing_classes == ["Slight", "Severe", "Debris"]
        # An id for every class, as evaluation needs, all of them different.
        ids = metadata.thing_dataset_id_to_contiguous_id
        assert sorted(ids.values()) == [0, 1, 2]
        assert all(ids[own] == number for own, number in zip(annotated, expected))

    def test_other_names_are_kept_in_the_order_of_their_ids(self, isbda_content, write_isbda):
        isbda_content["categories"] = [
            {"id": 30, "name": "wing"}, {"id": 4, "name": "wheel"}, {"id": 12, "name": "1"}
        ]  # fmt: skip
        for annotation, category_id in zip(isbda_content["annotations"], (30, 4, 12)):
            annotation["category_id"] = category_id
        records = load_isbda_json(*write_isbda(isbda_content), "others")
        assert [annotations_of(records)[i]["category_id"] for i in (1, 2, 3)] == [2, 0, 1]
        metadata = MetadataCatalog.get("others")
        assert metadata.thing_classes == ["wheel", "1", "wing"]
        assert metadata.thing_dataset_id_to_contiguous_id == {4: 0, 12: 1, 30: 2}
        assert not hasattr(metadata, "thing_colors")

    def test_no_names_and_other_ids_are_refused(self, isbda_content, write_isbda):
        isbda_content["categories"].append({"id": 4})
        with pytest.raises(DatasetError, match="category 4 has no name"):
            load_isbda_json(*write_isbda(isbda_content))


class TestParents:
    def load(self, isbda_content, write_isbda, *parents):
        """Parent ids of annotations of one image with these (parent_id, house_bbox)."""
        template = isbda_content["annotations"][0]
        isbda_content["annotations"] = []
        for number, (parent_id, box) in enumerate(parents, 1):
            annotation = copy.deepcopy({**template, "id": number, "house_bbox": box})
            if parent_id is not None:
                annotation["parent_id"] = parent_id
            isbda_content["annotations"].append(annotation)
        (record, _) = load_isbda_json(*write_isbda(isbda_content))
        return [a["parent_id"] for a in record["annotations"]]

    A, B, C = [5, 5, 40, 40], [5, 5, 40, 40.5], [0, 0, 50, 50]

    def test_equal_boxes_share_a_number(self, isbda_content, write_isbda):
        parents = [(None, self.A), (None, self.B), (None, self.A), (None, self.C)]
        assert self.load(isbda_content, write_isbda, *parents) == [0, 1, 0, 2]

    def test_a_given_id_wins(self, isbda_content, write_isbda):
        # The second has the first one's box and so its id; the fourth starts after the largest id.
        parents = [(7, self.A), (None, self.A), (8, self.A), (None, self.B), (9, self.C)]
        assert self.load(isbda_content, write_isbda, *parents) == [7, 7, 8, 10, 9]

    def test_one_id_with_two_boxes_is_worth_a_look(self, isbda_content, write_isbda):
        assert self.load(isbda_content, write_isbda, (7, self.A), (7, self.B)) == [7, 7]
        (issue,) = find_issues(*write_isbda(isbda_content))
        assert (issue.severity, issue.kind, issue.annotation_id) == ("kept", "parent-boxes", 2)

    def test_crowds_need_no_house(self, isbda_content, write_isbda):
        isbda_content["annotations"][1]["iscrowd"] = 1
        del isbda_content["annotations"][1]["house_bbox"]
        crowd = annotations_of(load_isbda_json(*write_isbda(isbda_content)))[2]
        assert crowd["iscrowd"] == 1
        assert "parent_bbox" not in crowd


class TestVideoFields:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("5_100.jpg", ("5", 100)),
            ("harvey_2_0007.jpeg", ("harvey_2", 7)),
            ("a/5_1.png", ("a/5", 1)),  # not the video of b/5_1.png
            ("5-100.jpg", (None, None)),
            ("100.jpg", (None, None)),
            ("5_x.jpg", (None, None)),
        ],
    )
    def test_from_the_file_name(self, isbda_content, write_isbda, name, expected):
        isbda_content["images"][0]["file_name"] = name
        record = load_isbda_json(*write_isbda(isbda_content, pictures=False))[0]
        assert (record.get("video_id"), record.get("frame_index")) == expected

    def test_given_fields_win_and_pass_through(self, isbda_content, write_isbda):
        isbda_content["images"][0].update(video_id=12, frame_index=3, fps=25)
        record = load_isbda_json(*write_isbda(isbda_content))[0]
        assert (record["video_id"], record["frame_index"], record["fps"]) == ("12", 3, 25.0)

    def test_the_pattern_can_be_set(self, isbda_content, write_isbda):
        isbda_content["images"][0]["file_name"] = "f0042-of-flight9.png"
        pattern = r"f(?P<frame_index>\d+)-of-(?P<video_id>\w+)\.png"
        files = write_isbda(isbda_content)
        first, second = load_isbda_json(*files, frame_pattern=pattern)
        assert (first["video_id"], first["frame_index"]) == ("flight9", 42)
        assert "video_id" not in second
        assert "video_id" not in load_isbda_json(*files, frame_pattern=None)[1]

    @pytest.mark.parametrize("pattern", ["(", r"(\d+)_(\d+)", r"(?P<video_id>\d+)"])
    def test_a_useless_pattern_is_an_error(self, isbda_content, write_isbda, pattern):
        with pytest.raises(DatasetError, match="frame pattern"):
            load_isbda_json(*write_isbda(isbda_content), frame_pattern=pattern)


class TestRunLengthMasks:
    # Column by column: 80 pixels a column; one whole column after one and a half.
    COUNTS = [120, 80, 7800]

    @pytest.mark.parametrize("compressed", [False, True])
    def test_both_forms_load(self, isbda_content, write_isbda, compressed):
        rle = {"size": [80, 100], "counts": self.COUNTS}
        if compressed:
            rle = mask_util.frPyObjects(rle, 80, 100)
            rle["counts"] = rle["counts"].decode()
        isbda_content["annotations"][1]["segmentation"] = rle
        del isbda_content["annotations"][1]["area"]
        annotation = annotations_of(load_isbda_json(*write_isbda(isbda_content)))[2]
        mask = mask_util.decode(annotation["segmentation"])
        assert mask.shape == (80, 100)
        assert mask[40:, 1].all()
        assert mask[:40, 2].all()
        assert mask.sum() == 80
        assert annotation["area"] == 80


def test_dropped_annotations_are_counted_in_the_log(isbda_content, write_isbda, caplog):
    isbda_content["annotations"][0]["damage_bbox"] = [1, 1, 0, 1]
    isbda_content["annotations"][1]["segmentation"] = [[1, 1]]
    with caplog.at_level(logging.WARNING):
        assert set(annotations_of(load_isbda_json(*write_isbda(isbda_content)))) == {3}
    assert "left out 2 unusable annotations or polygons (1 empty-box, 1 polygon-points)" in (
        caplog.text
    )


class TestRegistering:
    def test_read_when_asked_for_and_not_before(self, isbda_content, write_isbda, tmp_path):
        json_file = tmp_path / "data" / "annotations" / "instances_train.json"
        register_isbda_instances("lazy", json_file, tmp_path / "data" / "train")
        write_isbda(isbda_content)
        assert len(DatasetCatalog.get("lazy")) == 2
        assert MetadataCatalog.get("lazy").evaluator_type == "isbda"
        assert MetadataCatalog.get("lazy").json_file == str(json_file)

    def test_again_is_harmless_and_something_else_an_error(self, isbda_content, write_isbda):
        json_file, root = write_isbda(isbda_content)
        register_isbda_instances("mine", json_file, root)
        register_isbda_instances("mine", os.path.relpath(json_file), str(root))
        with pytest.raises(DatasetError, match="'mine' is already registered, for .*choose"):
            register_isbda_instances("mine", json_file, root.parent)
        with pytest.raises(DatasetError, match="already registered"):
            register_isbda_instances("coco_2017_val", json_file, root)

    def test_classes_of_a_name_do_not_change(self, isbda_content, write_isbda):
        json_file, root = write_isbda(isbda_content)
        load_isbda_json(json_file, root, "mine")
        isbda_content["categories"][0]["name"] = "hail"
        json_file.write_text(json.dumps(isbda_content))
        with pytest.raises(DatasetError, match="thing_classes .*'hail'.* register"):
            load_isbda_json(json_file, root, "mine")

    def test_isbda_itself(self):
        register_builtin_datasets()  # once more
        for split in ("train", "val"):
            metadata = MetadataCatalog.get(f"isbda_{split}")
            assert metadata.json_file.endswith(f"isbda/annotations/instances_{split}.json")
            assert metadata.image_root.endswith(f"isbda/{split}")
        if not os.path.exists(metadata.json_file):
            with pytest.raises(DatasetError, match="DETECTRON2_DATASETS"):
                DatasetCatalog.get("isbda_val")

    def test_importing_opens_no_data_and_follows_the_environment(self, tmp_path):
        code = (
            "import sys, detectron2.data, PIL.Image, cv2\n"
            "opened = []\n"
            "sys.addaudithook(lambda e, a: opened.append(str(a[0])) if e == 'open' else None)\n"
            "import msnet_d2.data\n"
            "bad = [p for p in opened if not p.endswith(('.py', '.pyc', '.so'))]\n"
            "assert not bad, bad\n"
            "print(detectron2.data.MetadataCatalog.get('isbda_train').json_file)\n"
        )
        environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path)}
        # As the msnet command: the package itself imports only what is asked for.
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        expected = tmp_path / "isbda" / "annotations" / "instances_train.json"
        assert result.stdout.strip() == str(expected)
