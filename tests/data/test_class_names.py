"""Data sets of one model are matched by the names of their classes, not by their numbers."""

from __future__ import annotations

import json
import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msnet_d2.config import get_msnet_cfg
from msnet_d2.data import resolve_dataset
from msnet_d2.data.class_names import (
    dataset_with_classes,
    with_matched_datasets,
    with_training_data,
)
from msnet_d2.errors import ConfigError, DatasetError
from msnet_d2.evaluation import load_ground_truth

NAMES = ["crack", "collapse", "rubble"]


def write(folder, categories, classes=("crack", "collapse", "rubble"), name="own"):
    """A JSON with one square of 20 pixels for each of ``classes``; ``categories``: id -> name."""
    ids = {category_name: category_id for category_id, category_name in categories.items()}
    content = {
        "images": [{"id": 1, "file_name": "1_1.png", "width": 128, "height": 96}],
        "annotations": [
            {
                "id": n,
                "image_id": 1,
                "category_id": ids[class_name],
                "bbox": [10 + 30 * n, 10, 20, 20],
                "segmentation": [
                    [10 + 30 * n, 10, 30 + 30 * n, 10, 30 + 30 * n, 30, 10 + 30 * n, 30]
                ],
                "iscrowd": 0,
            }
            for n, class_name in enumerate(classes, start=1)
        ],
        "categories": [{"id": i, "name": n} for i, n in categories.items()],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return str(path)


def config(train=(), test=(), count=3, **model):
    cfg = get_msnet_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = tuple(train), tuple(test)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = count
    for key, value in model.items():
        cfg.MODEL[key] = value
    return cfg


def targets(names):
    """Box corner -> class number, of all annotations of registered data sets."""
    records = get_detection_dataset_dicts(list(names), filter_empty=False)
    return sorted((a["bbox"][0], a["category_id"]) for r in records for a in r["annotations"])


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    order=st.permutations(NAMES),
    ids=st.lists(st.integers(0, 10**6), min_size=3, max_size=3, unique=True),
    spelling=st.sampled_from([str, str.upper, str.title, "  {} ".format]),
)
def test_training_targets_do_not_depend_on_ids_order_or_spelling(tmp_path, order, ids, spelling):
    categories = {i: spelling(n) for i, n in zip(ids, order)}
    path = write(tmp_path, categories, [spelling(n) for n in NAMES], name="permuted")
    before = set(DatasetCatalog)
    (name,) = resolve_dataset(path)
    matched = dataset_with_classes(name, NAMES)
    # The squares are written in the order of NAMES, 30 pixels apart, the first at 40.
    assert targets([matched]) == [(40, 0), (70, 1), (100, 2)]
    metadata = MetadataCatalog.get(matched)
    assert metadata.thing_classes == NAMES
    numbers = metadata.thing_dataset_id_to_contiguous_id
    assert {i: NAMES[numbers[i]] for i in ids} == dict(zip(ids, order))
    truth = load_ground_truth(matched)
    assert [p["category_id"] for p in truth.parts] == [0, 1, 2]
    assert truth.category_ids == [ids[order.index(n)] for n in NAMES]
    for added in set(DatasetCatalog) - before:
        DatasetCatalog.remove(added)
        MetadataCatalog.remove(added)


def test_the_names_of_the_training_data_become_the_models(tmp_path):
    path = write(tmp_path, {5: "rubble", 7: "crack", 9: "collapse"})
    cfg = with_training_data(config([path]))
    assert cfg.MODEL.CLASS_NAMES == ["rubble", "crack", "collapse"]
    assert cfg.MODEL.CLASS_COLORS == []
    assert cfg.DATASETS.TRAIN == ("own",)


def test_isbdas_levels_bring_their_colors(tmp_path):
    path = write(tmp_path, {1: "1", 2: "2", 3: "3"}, classes=("1", "2", "3"))
    cfg = with_training_data(config([path]))
    assert cfg.MODEL.CLASS_NAMES == ["Slight", "Severe", "Debris"]
    assert cfg.MODEL.CLASS_COLORS[2] == [214, 32, 39]


def test_two_training_sets_in_another_order_are_trained_together(tmp_path):
    first = write(tmp_path, dict(enumerate(NAMES)), name="first")
    second = write(tmp_path, {0: "rubble", 1: "crack"}, classes=("crack", "rubble"), name="second")
    cfg = with_training_data(config([first, second]))
    assert cfg.MODEL.CLASS_NAMES == NAMES
    assert cfg.DATASETS.TRAIN[0] == "first"
    # second: crack at 40, rubble at 70; first as above.
    assert targets(cfg.DATASETS.TRAIN) == [(40, 0), (40, 0), (70, 1), (70, 2), (100, 2)]


def test_a_validation_set_in_another_order_without_a_class_is_matched(tmp_path):
    train = write(tmp_path, dict(enumerate(NAMES)), name="train")
    val = write(tmp_path, {0: "rubble", 1: "crack"}, classes=("crack", "rubble"), name="val")
    cfg = with_training_data(config([train], [val]))
    assert targets(cfg.DATASETS.TEST) == [(40, 0), (70, 2)]
    truth = load_ground_truth(cfg.DATASETS.TEST[0])
    assert truth.class_names == NAMES
    # Its own ids, and one that it does not use for collapse.
    assert (truth.category_ids[0], truth.category_ids[2]) == (1, 0)
    assert truth.category_ids[1] not in (0, 1)
    again = with_matched_datasets(config([], [val], CLASS_NAMES=NAMES))
    assert again.DATASETS.TEST == cfg.DATASETS.TEST


def test_a_class_that_the_model_lacks_is_refused_with_both_lists(tmp_path):
    path = write(tmp_path, dict(enumerate(["crack", "collapse", "dust"])), ("crack", "dust"))
    with pytest.raises(
        DatasetError,
        match="crack, collapse, dust, but the model has crack, collapse, rubble .*: dust is",
    ):
        with_matched_datasets(config([], [path], CLASS_NAMES=NAMES))


def test_a_class_that_the_model_lacks_and_nobody_uses_is_left_out(tmp_path, caplog):
    path = write(tmp_path, dict(enumerate([*NAMES, "dust"])))
    with caplog.at_level(logging.WARNING):
        cfg = with_matched_datasets(config([], [path], CLASS_NAMES=NAMES))
    assert "no annotation has the class dust" in caplog.text
    assert targets(cfg.DATASETS.TEST) == [(40, 0), (70, 1), (100, 2)]


def test_training_sets_that_differ_in_a_name_are_shown_with_both_lists(tmp_path):
    first = write(tmp_path, dict(enumerate(NAMES)), name="first")
    names = ("crack", "colapse", "rubble")
    second = write(tmp_path, dict(enumerate(names)), names, name="second")
    with pytest.raises(
        ConfigError,
        match="NUM_CLASSES is 3, but first and second have 4 classes "
        r"\(first: crack, collapse, rubble; second: crack, colapse, rubble\)",
    ):
        with_training_data(config([first, second]))


def test_the_number_of_classes_is_that_of_the_meta_architecture(tmp_path):
    path = write(tmp_path, dict(enumerate(NAMES)))
    cfg = config([path], META_ARCHITECTURE="RetinaNet")
    with pytest.raises(ConfigError, match="MODEL.RETINANET.NUM_CLASSES is 80, .*; set it to 3"):
        with_training_data(cfg)
    cfg.MODEL.RETINANET.NUM_CLASSES = 3
    assert with_training_data(cfg).MODEL.CLASS_NAMES == NAMES


def test_a_class_for_parents_has_no_name(tmp_path):
    path = write(tmp_path, dict(enumerate(NAMES)))
    cfg = config([path], count=4)
    cfg.MODEL.ROI_HEADS.PARENT_CLASS = 3
    assert with_training_data(cfg).MODEL.CLASS_NAMES == NAMES


@pytest.mark.parametrize(
    ("names", "colors", "message"),
    [
        (["a", "b"], [], "CLASS_NAMES has 2 names .* set MODEL.ROI_HEADS.NUM_CLASSES 2"),
        (["a", "b", "A "], [], "two of them are the same"),
        (["a", "b", ""], [], "each must be a text"),
        (NAMES, [[1, 2, 3]], "CLASS_COLORS is"),
        (NAMES, [[1, 2, 3], [1, 2, 256], [0, 0, 0]], "CLASS_COLORS is"),
    ],
)
def test_names_that_contradict_the_model_are_refused(tmp_path, names, colors, message):
    path = write(tmp_path, dict(enumerate(NAMES)))
    with pytest.raises(ConfigError, match=message):
        with_training_data(config([path], CLASS_NAMES=names, CLASS_COLORS=colors))


def test_data_of_another_loader_are_matched_too():
    record = {"file_name": "a.png", "image_id": 1, "height": 8, "width": 8}
    annotation = {"bbox": [1, 1, 3, 3], "bbox_mode": 1, "category_id": 0}
    DatasetCatalog.register("foreign", lambda: [{**record, "annotations": [annotation]}])
    MetadataCatalog.get("foreign").set(thing_classes=["rubble", "crack"], evaluator_type="coco")
    name = dataset_with_classes("foreign", NAMES)
    assert targets([name]) == [(1, 2)]
    assert MetadataCatalog.get(name).evaluator_type == "coco"
    assert annotation["category_id"] == 0


def test_labels_of_pixels_are_matched_by_name_too(tmp_path):
    (tmp_path / "annotations").mkdir()
    labels = [{"id": 3, "name": "Water"}, {"id": 7, "name": "dry"}]
    document = {"images": [], "labels": labels}
    (tmp_path / "annotations" / "semantic_val.json").write_text(json.dumps(document))
    (name,) = resolve_dataset(f"semantic@{tmp_path}:val")
    DatasetCatalog.get(name)
    matched = dataset_with_classes(name, ["dry", "mud", "water"])
    assert MetadataCatalog.get(matched).stuff_classes == ["dry", "mud", "water"]
    table = MetadataCatalog.get(matched).label_lut
    # 3 is water, the third class; 7 is dry, the first; all else is ignored.
    assert {n: int(v) for n, v in enumerate(table) if v != 255} == {3: 2, 7: 0}
    assert dataset_with_classes(name, ["dry", "mud", "water"]) == matched
    with pytest.raises(DatasetError, match="Water is none of these"):
        dataset_with_classes(name, ["dry", "mud"])
