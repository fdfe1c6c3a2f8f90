"""Reading results files of other tools, and encoding masks."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_util

from msnet_d2.errors import DatasetError, InputError
from msnet_d2.evaluation import load_ground_truth, read_parents, read_results, score_results
from msnet_d2.evaluation.ground_truth import build_ground_truth
from msnet_d2.structures.mask_crop import encode_masks
from msnet_d2.structures.rle import segmentation_to_rle

GOOD = {"image_id": 20, "category_id": 7, "bbox": [20, 20, 40, 40], "score": 0.5}


@pytest.fixture
def read(dataset, tmp_path):
    def read(content, how=read_results):
        path = tmp_path / "results.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return how(path, load_ground_truth(dataset))

    return read


@pytest.mark.parametrize(
    "segmentation",
    [
        [[20, 20, 60, 20, 60, 60, 20, 60]],
        # 20 columns of 120 pixels, then 40 columns with 40 pixels from row 20 on.
        {"size": [120, 160], "counts": [20 * 120 + 20, *[40, 80] * 39, 40, 100 * 120 - 20 + 80]},
    ],
)
def test_masks_of_other_tools(dataset, read, segmentation):
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        counts[-1] += 120 * 160 - sum(counts)
    (entry,) = read(
        [{k: v for k, v in GOOD.items() if k != "bbox"} | {"segmentation": segmentation}]
    )
    assert entry["bbox"] == [20, 20, 40, 40]
    assert mask_util.area(entry["segmentation"]) == 1600
    truth = load_ground_truth(dataset)
    figures = score_results(truth, [entry], tasks=["segm", "bbox"])
    assert figures["segm"]["AP-Debris"] == figures["bbox"]["AP-Debris"] == pytest.approx(100)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_no_harm(dataset, tmp_path, encoding):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([GOOD]), encoding=encoding)
    assert len(read_results(path, load_ground_truth(dataset))) == 1


def test_images_may_be_named_by_their_files(dataset, read):
    truth = load_ground_truth(dataset)
    (file_name,) = [n for n, image_id in truth.ids_of_files.items() if image_id == 20 and "." in n]
    stem = file_name.rsplit(".", 1)[0]
    for name in (file_name, stem, f"some/folder/{file_name}"):
        (entry,) = read([{**GOOD, "image_id": name}])
        assert entry["image_id"] == 20


@pytest.mark.parametrize("how", [read_results, read_parents])
def test_boxes_as_corners_or_from_0_to_1_are_refused(read, how):
    # The images are 160 by 120: five boxes from 90 to 150 would end at 240.
    corners = {**GOOD, "bbox": [90, 60, 150, 110]}
    with pytest.raises(InputError, match="5 boxes that look like x1, y1, x2, y2"):
        read([corners] * 5, how)
    with pytest.raises(InputError, match="3 boxes with all coordinates from 0 to 1"):
        read([{**GOOD, "bbox": [0.5, 0.5, 0.2, 0.1]}] * 3, how)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", "is not JSON"),
        ({"annotations": []}, "holds a JSON dict"),
        ([7], "entry 0: a JSON object was expected"),
        ([{**GOOD, "image_id": 21}], "entry 0: image_id 21 is not in"),
        ([{**GOOD, "image_id": "21"}], "image_id '21' is not in .*, nor the name of one of its"),
        ([{**GOOD, "image_id": [20]}], "entry 0: "),
        ([GOOD, {**GOOD, "category_id": 3}], r"entry 1: category_id 3 is none of \[1, 2, 7\]"),
        ([{k: v for k, v in GOOD.items() if k != "score"}], "score missing"),
        ([{**GOOD, "score": float("nan")}], "score is nan"),
        ([{**GOOD, "score": "0.5"}], "score is '0.5'"),
        ([{**GOOD, "score": 10**400}], "score is 1000"),
        ([{**GOOD, "bbox": [1, 2, 3, 10**400]}], "not four numbers"),
        ([{**GOOD, "segmentation": [[1, 2, 3, 4, 5, 10**400]]}], "far outside"),
        ([{**GOOD, "bbox": [1, 2, 3]}], "not four numbers"),
        ([{**GOOD, "bbox": [1, 2, 3, float("inf")]}], "not four numbers"),
        ([{**GOOD, "bbox": [1, 2, -3, 4]}], "width or height is negative"),
        ([{**GOOD, "parent_bbox": [1, 2, 3]}], "parent_bbox is"),
        ([{k: v for k, v in GOOD.items() if k != "bbox"}], "bbox is None"),
        # These crash pycocotools or make it read foreign memory.
        ([{**GOOD, "segmentation": [[1, 2, 3, 4]]}], "at least 3 pairs"),
        ([{**GOOD, "segmentation": [[1, 2, 3, 4, 5, 1e9]]}], "far outside"),
        ([{**GOOD, "segmentation": [[1, 2, 3, 4, 5, float("nan")]]}], "not a number"),
        ([{**GOOD, "segmentation": {"size": [120, 160], "counts": [5, 5]}}], "entry 0: "),
        ([{**GOOD, "segmentation": {"size": [9, 9], "counts": [81]}}], "entry 0: "),
        ([{**GOOD, "segmentation": {"size": [120, 160], "counts": "04"}}], "entry 0: "),
        ([{**GOOD, "score": None}, GOOD, {**GOOD, "score": None}], r"2 of 3 entries are wrong"),
    ],
)
def test_what_is_wrong_with_a_file(read, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(dataset, tmp_path):
    with pytest.raises(InputError, match="cannot read .*nowhere.json: No such file"):
        read_results(tmp_path / "nowhere.json", load_ground_truth(dataset))


def test_categories_of_buildings_do_not_matter(read):
    assert read([{"image_id": 20, "bbox": [1, 2, 3, 4], "score": 1}], read_parents) == [
        {"image_id": 20, "bbox": [1, 2, 3, 4], "score": 1}
    ]


def blobs(boxes, height=50, width=70):
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        rows, columns = np.ogrid[:height, :width]
        cx, cy, rx, ry = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
        inside = ((columns + 0.5 - cx) / rx) ** 2 + ((rows + 0.5 - cy) / ry) ** 2 < 1
        mask |= torch.from_numpy(inside)
    return masks


def plain(masks):
    encoded = [mask_util.encode(np.asfortranarray(m.numpy(), dtype=np.uint8)) for m in masks]
    return [{"size": e["size"], "counts": e["counts"].decode()} for e in encoded]


BOXES = torch.tensor(
    [
        [5.0, 5.0, 30.0, 20.0],
        [-10.0, -10.0, 15.0, 15.0],  # over the corner
        [0.0, 0.0, 70.0, 50.0],  # the whole frame
        [60.0, 40.0, 90.0, 70.0],  # over the other corner
        [10.2, 7.9, 11.0, 9.3],  # hardly a pixel
    ]
)


def test_encoded_masks_are_those_of_pycocotools():
    masks = blobs(BOXES.tolist())
    assert encode_masks(masks, BOXES) == plain(masks)


def test_masks_outside_of_their_boxes_are_encoded_whole():
    masks = blobs(BOXES.tolist())
    elsewhere = BOXES.flip(0).clone()
    elsewhere[0] = torch.tensor([200.0, 200.0, 210.0, 210.0])
    assert encode_masks(masks, elsewhere) == plain(masks)
    full = torch.ones(1, 50, 70, dtype=torch.bool)
    empty = torch.zeros(1, 50, 70, dtype=torch.bool)
    for mask in (full, empty):
        assert encode_masks(mask, BOXES[:1]) == plain(mask)
    assert encode_masks(torch.zeros(0, 50, 70, dtype=torch.bool), torch.zeros(0, 4)) == []


def test_an_rle_in_bytes_stays_the_same():
    mask = np.asfortranarray(np.eye(8, dtype=np.uint8))
    rle = mask_util.encode(mask)
    text = segmentation_to_rle(rle, 8, 8)
    assert text["counts"] == rle["counts"].decode()
    assert (mask_util.decode(text) == mask).all()


def test_ground_truth_without_area_ids_or_parents():
    # As Detectron2's own COCO loader gives it: the area is the mask's, here half of the box.
    records = [
        {
            "image_id": "a",
            "height": 50,
            "width": 50,
            "annotations": [
                {
                    "bbox": [10, 10, 30, 30],
                    "bbox_mode": 0,
                    "category_id": 0,
                    "segmentation": [[10, 10, 30, 10, 10, 30]],
                },
                {"bbox": [10, 10, 30, 30], "bbox_mode": 0, "category_id": 0},
            ],
        }
    ]
    truth = build_ground_truth(records, {"thing_classes": ["damage"]}, name="d")
    # Pixels whose centres lie inside the triangle are about 20·20/2.
    assert truth.parts[0]["area"] == pytest.approx(200, abs=20)
    assert truth.parts[1]["area"] == 400
    assert truth.category_ids == [0]
    assert truth.parents == truth.part_parents == []
    with pytest.raises(DatasetError, match="annotation number 1 of image a has no usable"):
        truth.part_masks()
    with pytest.raises(DatasetError, match="two images have the id 'a'"):
        build_ground_truth(records * 2, {}, name="d")


def test_classes_that_the_file_lacks_have_an_id_of_their_own():
    metadata = {
        "thing_classes": ["Slight", "Severe", "Debris"],
        "thing_dataset_id_to_contiguous_id": {3: 1},
    }
    ids = build_ground_truth([], metadata).category_ids
    assert ids[1] == 3
    assert len(set(ids)) == 3


def test_areas_of_more_masks_than_a_byte_counts(dataset):
    # pycocotools 2.0.11 keeps the number of masks that it measures at once in 8 bits, and raises
    # from the 256th on. All but the best are 1 pixel; AP of COCO counts 100 of them.
    one, forty = np.zeros((2, 120, 160), np.uint8)
    one[0, 0] = 1
    forty[20:60, 20:60] = 1
    rles = [mask_util.encode(np.asfortranarray(mask)) for mask in (one, forty)]
    rles = [{**rle, "counts": rle["counts"].decode()} for rle in rles]
    entries = [
        {**GOOD, "bbox": [0, 0, 1, 1], "segmentation": rles[0], "score": 0.1} for _ in range(299)
    ]
    entries.append({**GOOD, "segmentation": rles[1], "score": 0.9})
    figures = score_results(load_ground_truth(dataset), entries, tasks=["segm"])
    # The only part of its level is found by the best detection, so precision is 1 throughout.
    assert figures["segm"]["AP-Debris"] == pytest.approx(100)
