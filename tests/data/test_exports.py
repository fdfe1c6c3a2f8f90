"""Data sets as other tools export them: recognised, or refused by what is otherwise in them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from msnet_d2.cli import main
from msnet_d2.data import dataset_files, load_isbda_json, resolve_dataset
from msnet_d2.data.isbda.conventions import ReadOptions, box_format
from msnet_d2.data.isbda.fitness import doubtful_scenes
from msnet_d2.data.isbda.reading import read_and_validate
from msnet_d2.errors import DatasetError

WIDTH, HEIGHT = 320, 180
LEVELS = [{"id": i, "name": n} for i, n in enumerate(("Slight", "Severe", "Debris"), 1)]


def content(count=6, name="{video}_{frame}.png", categories=LEVELS, **annotation):
    """Three squares of 40 pixels an image at x 30, 130, 230, in the order of the categories."""
    images = [
        {
            "id": i + 1,
            "file_name": name.format(i=i, video=1 + i // 3, frame=100 * (i % 3 + 1)),
            "width": WIDTH,
            "height": HEIGHT,
        }
        for i in range(count)
    ]
    annotations = []
    for image in images:
        for n, x in enumerate((30, 130, 230)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": categories[n % len(categories)]["id"],
                    "bbox": [x, 60, 40, 40],
                    "area": 1600,
                    "iscrowd": 0,
                    "segmentation": [[x, 60, x + 40, 60, x + 40, 100, x, 100]],
                    **annotation,
                }
            )
    return {"images": images, "annotations": annotations, "categories": categories}


def save(path, data, images=None):
    """Write a JSON, and its images below the folder ``images``, by their base names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    if images is not None:
        images.mkdir(parents=True, exist_ok=True)
        gray = Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        for image in data["images"]:
            gray.save(images / image["file_name"].replace("\\", "/").split("/")[-1])
    return path


def kinds(issues):
    return [(issue.severity, issue.kind) for issue in issues]


def test_roboflows_layout_and_names(tmp_path):
    name = "{video}_{frame}_png.rf.ab12ab12ab12ab12ab12ab12ab12ab1{i}.png"
    for split in ("train", "valid"):
        data = content(name=name)
        save(tmp_path / split / "_annotations.coco.json", data, tmp_path / split)
    train, valid = resolve_dataset(tmp_path)
    assert dataset_files(train)[1] == str(tmp_path / "train")
    assert resolve_dataset(f"{tmp_path}:val") == [valid]
    first = DatasetCatalog.get(train)[0]
    assert (first["video_id"], first["frame_index"]) == ("1", 100)


@pytest.mark.parametrize(
    ("json_file", "images"),
    [
        ("annotations/instances_default.json", "images/default"),  # CVAT
        ("annotations/instances_train.json", "train"),  # ISBDA
        ("annotations/instances_train2017.json", "train2017"),  # COCO
        ("annotations/instances_val.json", "images"),
        ("labels.json", "data"),  # FiftyOne
        ("ds.json", "."),
    ],
)
def test_the_images_are_where_the_usual_tools_put_them(tmp_path, json_file, images):
    path = save(tmp_path / json_file, content(), tmp_path / images)
    (name,) = resolve_dataset(path)
    assert dataset_files(name)[1] == str(tmp_path / images)
    assert main(["check", str(path), "--no-progress"]) == 0
    if json_file != "ds.json":
        assert resolve_dataset(tmp_path) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "images\\{video}_{frame}.png",
        "..\\..\\label-studio\\media\\upload\\4\\{video}_{frame}.png",
        "C:\\data\\{video}_{frame}.png",
        "/home/somebody/fiftyone/{video}_{frame}.png",
        "{video}_{frame}",  # a stem
    ],
)
def test_names_of_another_machine_are_matched_with_the_files_there_are(tmp_path, name):
    data = content(name=name)
    path = save(tmp_path / "result.json", data)
    plain = content()
    save(tmp_path / "plain.json", plain, tmp_path / "images")
    found = read_and_validate(path, tmp_path)
    assert not any(issue.fatal for issue in found.issues)
    for record, image in zip(found.records, plain["images"]):
        assert record["file_name"] == str(tmp_path / "images" / image["file_name"])
    if name != "{video}_{frame}":
        assert [r["frame_index"] for r in found.records] == [100, 200, 300] * 2


def test_a_name_that_two_files_have_is_not_guessed(tmp_path):
    data = content(1, name="C:\\x\\a.png")
    for folder in ("one", "two"):
        save(tmp_path / "x.json", data, tmp_path / folder)
        shutil.copy(tmp_path / folder / "a.png", tmp_path / folder / "b.png")
    found = read_and_validate(tmp_path / "x.json", tmp_path)
    assert kinds(found.issues) == [("fatal", "file-name")]


def test_the_folder_of_the_images_goes_with_the_json(tmp_path):
    path = save(tmp_path / "labels" / "ds.json", content(), tmp_path / "pictures")
    (name,) = resolve_dataset(f"{path}:{tmp_path / 'pictures'}")
    assert dataset_files(name)[1] == str(tmp_path / "pictures")
    assert resolve_dataset(path, tmp_path / "pictures") == [name]


@pytest.mark.parametrize("same_name", [False, True])
def test_the_unused_root_of_roboflow_is_left_out(tmp_path, same_name):
    root = "Slight" if same_name else "flood-survey"
    categories = [{**c, "supercategory": root} for c in LEVELS]
    data = content(categories=categories)
    data["categories"] = [{"id": 0, "name": root, "supercategory": "none"}, *categories]
    found = read_and_validate(save(tmp_path / "a.json", data), tmp_path)
    assert kinds(found.issues) == [("kept", "root-category")]
    assert found.categories.thing_classes == ["Slight", "Severe", "Debris"]


def test_a_root_that_is_used_is_a_class(tmp_path):
    categories = [{"id": 0, "name": "damage", "supercategory": "none"}]
    categories += [{**c, "supercategory": "damage"} for c in LEVELS[1:]]
    found = read_and_validate(save(tmp_path / "a.json", content(categories=categories)), tmp_path)
    assert kinds(found.issues) == []
    assert found.categories.thing_classes == ["damage", "Severe", "Debris"]


def test_crowds_are_counted_and_can_be_objects(tmp_path):
    data = content()
    for annotation in data["annotations"][::3]:
        annotation["iscrowd"] = 1
    path = save(tmp_path / "a.json", data)
    found = read_and_validate(path, tmp_path)
    assert kinds(found.issues) == [("kept", "crowd")]
    assert "6 of 18 annotations are crowds" in found.issues[0].message
    options = ReadOptions(crowd_as_objects=True)
    found = read_and_validate(path, tmp_path, options=options)
    assert kinds(found.issues) == []
    assert not any(a["iscrowd"] for r in found.records for a in r["annotations"])
    (plain,), (objects,) = resolve_dataset(path), resolve_dataset(path, None, options)
    assert plain != objects
    assert sum(a["iscrowd"] for r in DatasetCatalog.get(plain) for a in r["annotations"]) == 6
    assert not any(a["iscrowd"] for r in DatasetCatalog.get(objects) for a in r["annotations"])


def test_boxes_as_two_corners_are_seen(tmp_path):
    data = content(segmentation=[])
    for annotation in data["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]
    found = read_and_validate(save(tmp_path / "a.json", data), tmp_path)
    assert kinds(found.issues) == [("fatal", "box-format")]
    assert "18 boxes that look like x1, y1, x2, y2" in found.issues[0].message


def test_coordinates_from_0_to_1_are_seen(tmp_path):
    data = content(segmentation=[])
    for annotation in data["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT]
    found = read_and_validate(save(tmp_path / "a.json", data), tmp_path)
    assert kinds(found.issues) == [("fatal", "box-format")]
    assert "from 0 to 1" in found.issues[0].message


def test_few_boxes_or_proper_ones_settle_nothing():
    size = (100, 100)
    assert box_format([([10, 10, 20, 20], size), ([50, 20, 60, 40], size)]) is None
    assert box_format([([0, 0, 100, 100], size)] * 9) is None
    assert box_format([([10, 10, 20, 20], size)] * 9) is None
    assert box_format([([60, 60, 30, 30], size)] * 9) is None
    assert box_format([]) is None


def test_an_area_that_is_not_the_masks_is_named(tmp_path):
    data = content()
    data["annotations"][0]["area"] = 16.0  # the square has 1600
    found = read_and_validate(save(tmp_path / "a.json", data), tmp_path)
    assert kinds(found.issues) == [("kept", "area-mismatch")]
    assert found.issues[0].annotation_id == 1


BUILDING = [{"id": 1, "name": "Building"}, {"id": 2, "name": "damage"}]


def with_buildings():
    """Squares of damage, each in a building that is 20 pixels larger on all sides but the last."""
    data = content(categories=BUILDING[1:])
    data["categories"] = BUILDING
    for part in list(data["annotations"])[:-1]:
        x, y, width, height = part["bbox"]
        data["annotations"].append(
            {
                "id": 100 + part["id"],
                "image_id": part["image_id"],
                "category_id": 1,
                "bbox": [x - 20, y - 20, width + 40, height + 40],
                "iscrowd": 0,
            }
        )
    return data


def test_a_category_of_buildings_gives_the_parents(tmp_path):
    path = save(tmp_path / "a.json", with_buildings())
    found = read_and_validate(path, tmp_path)
    assert kinds(found.issues) == [("kept", "parents-of-category")]
    assert "17 annotations of 'Building' are the buildings of the other 18, 1 of which" in str(
        found.issues[0]
    )
    assert found.categories.thing_classes == ["damage"]
    annotations = [a for r in found.records for a in r["annotations"]]
    assert {a["category_id"] for a in annotations} == {0}
    assert annotations[0]["parent_bbox"] == [10, 40, 80, 80]
    assert annotations[-1]["parent_bbox"] == annotations[-1]["bbox"]
    assert len({a["parent_id"] for a in found.records[0]["annotations"]}) == 3


def test_a_category_of_buildings_by_name_or_not_at_all(tmp_path):
    data = with_buildings()
    data["categories"][0]["name"] = "Haus"
    path = save(tmp_path / "a.json", data)
    # Without masks, which the parts have, the objects of a class of buildings are left out.
    plain = read_and_validate(path, tmp_path)
    assert plain.categories.thing_classes == ["Haus", "damage"]
    named = read_and_validate(path, tmp_path, options=ReadOptions(parent_category="haus"))
    assert named.categories.thing_classes == ["damage"]
    wrong = read_and_validate(path, tmp_path, options=ReadOptions(parent_category="hut"))
    assert ("fatal", "parent-category") in kinds(wrong.issues)
    data["categories"][0]["name"] = "building"
    off = read_and_validate(
        save(tmp_path / "b.json", data), tmp_path, options=ReadOptions(parent_category="")
    )
    assert off.categories.thing_classes == ["building", "damage"]


def test_levels_beside_buildings_stay_isbdas(tmp_path):
    data = content()
    data["categories"] = [*LEVELS, {"id": 9, "name": "building"}]
    found = read_and_validate(save(tmp_path / "a.json", data), tmp_path)
    assert found.categories.is_isbda
    assert found.categories.thing_colors is not None


def test_a_byte_order_mark_is_no_flaw(tmp_path):
    text = json.dumps(content())
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "a.json").write_text(text, encoding=encoding)
        assert len(load_isbda_json(tmp_path / "a.json", tmp_path)) == 6


TILES = [f"ortho{o}_{x}_{y}.png" for o in "AB" for x in (0, 1) for y in (0, 1)]
FRAMES = [f"{v}_{f}.png" for v in (1, 2) for f in (100, 200)]


@pytest.mark.parametrize(
    ("names", "doubtful"),
    [
        (TILES, True),
        (FRAMES, False),
        ([f"DJI_{n:04d}.png" for n in range(6)], False),
        (["DJI_0001_10.png", "DJI_0001_20.png", "DJI_0002_10.png"], False),
    ],
)
def test_names_of_tiles_are_doubtful(tmp_path, names, doubtful):
    data = content(len(names))
    for image, name in zip(data["images"], names):
        image["file_name"] = name
    found = read_and_validate(save(tmp_path / "a.json", data), tmp_path)
    assert (doubtful_scenes(found.records) is not None) == doubtful


class TestCheckByConfig:
    @pytest.fixture
    def check(self, tmp_path, capsys):
        def check(*arguments):
            command = ["check", *map(str, arguments), "--no-images", "--no-progress"]
            return main(command), capsys.readouterr().out

        return check

    def test_boxes_alone_are_fatal_for_a_model_with_masks(self, check, tmp_path):
        path = save(tmp_path / "a.json", content(segmentation=[], house_bbox=[5, 5, 300, 170]))
        code, output = check(path)
        assert code == 1
        assert "set MODEL.MASK_ON False to train on boxes alone" in output
        assert "1 issue: 0 fatal" in output
        code, output = check(path, "--config-file", "quick/msnet_lite0_FPN.yaml")
        assert code == 1
        assert "no-masks" in output
        assert "1 issue: 1 fatal" in output

    def test_classes_and_parents_are_judged_by_the_config(self, check, tmp_path):
        categories = [{"id": 1, "name": "crack"}, {"id": 2, "name": "rubble"}]
        path = save(tmp_path / "a.json", content(categories=categories))
        assert check(path)[0] == 0
        output = check(path, "--config-file", "quick/msnet_lite0_FPN.yaml")[1]
        assert "class-number" in output
        assert "MODEL.ROI_HEADS.NUM_CLASSES makes 3 classes, but the data set has 2" in output
        assert "no annotation has a house_bbox" in output

    def test_run_lengths_need_bitmasks(self, check, tmp_path):
        runs = {"size": [HEIGHT, WIDTH], "counts": [0, 1600, HEIGHT * WIDTH - 1600]}
        path = save(tmp_path / "a.json", content(segmentation=runs, house_bbox=[5, 5, 300, 170]))
        output = check(path, "--config-file", "msnet_R50_FPN.yaml")[1]
        assert "set INPUT.MASK_FORMAT bitmask" in output

    def test_splits_are_compared(self, check, tmp_path):
        save(tmp_path / "annotations" / "instances_train.json", content())
        val = content(2)
        val["categories"] = [*LEVELS[:2], {"id": 3, "name": "Dust"}]
        save(tmp_path / "annotations" / "instances_val.json", val)
        code, output = check(tmp_path)
        assert code == 1
        assert "train has the classes Slight, Severe, Debris" in output
        assert "scene-leak" in output
        assert "frames of the same videos (1: 1)" in output

    def test_an_unused_class_is_named(self, check, tmp_path):
        categories = [{"id": i, "name": n} for i, n in enumerate("abcd")]
        code, output = check(save(tmp_path / "a.json", content(categories=categories)))
        assert code == 1
        assert "no annotation has the class d" in output


def test_metadata_of_options_are_those_of_the_registered(tmp_path):
    path = save(tmp_path / "a.json", content())
    (name,) = resolve_dataset(path)
    assert MetadataCatalog.get(name).read_options == ReadOptions()
    with pytest.raises(DatasetError, match="registered with its own image folder"):
        resolve_dataset(name, tmp_path)
