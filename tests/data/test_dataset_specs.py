"""What a user may call a data set by."""

from __future__ import annotations

import shutil

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from msnet_d2.data import dataset_files, resolve_dataset, resolve_datasets
from msnet_d2.errors import DatasetError


@pytest.fixture
def layout(isbda_content, write_isbda, tmp_path):
    for split in ("val", "train", "extra"):
        write_isbda(isbda_content, split)
    return tmp_path / "data"


def test_a_registered_name_is_itself(layout):
    assert resolve_dataset("isbda_train") == ["isbda_train"]
    assert resolve_dataset("coco_2017_val") == ["coco_2017_val"]


def test_a_folder_is_all_of_its_splits_with_training_first(layout):
    names = resolve_dataset(layout)
    assert names == ["data_train", "data_val", "data_extra"]
    assert dataset_files("data_val") == (
        str(layout / "annotations" / "instances_val.json"),
        str(layout / "val"),
    )
    assert len(DatasetCatalog.get("data_val")) == 2


def test_one_split_by_colon_or_by_its_json(layout):
    assert resolve_dataset(f"{layout}:val") == ["data_val"]
    assert resolve_dataset(f"{layout}/annotations/../annotations/instances_val.json") == [
        "data_val"
    ]


def test_any_other_json_has_its_images_beside_it_or_where_it_is_said(layout, tmp_path):
    path = tmp_path / "my labels.json"
    shutil.copy(layout / "annotations" / "instances_val.json", path)
    assert resolve_dataset(path) == ["my_labels"]
    assert dataset_files("my_labels") == (str(path), str(tmp_path))
    # Other images: another data set, and so another name.
    (name,) = resolve_dataset(path, layout / "val")
    assert name.startswith("my_labels_")
    assert dataset_files(name) == (str(path), str(layout / "val"))


def test_again_gives_the_same_name_and_a_namesake_another(layout, tmp_path, isbda_content):
    (name,) = resolve_dataset(f"{layout}:train")
    assert resolve_dataset(f"{layout}:train") == [name]
    shutil.copytree(layout, tmp_path / "elsewhere" / "data")
    (other,) = resolve_dataset(tmp_path / "elsewhere" / "data:train")
    assert other != name
    assert resolve_dataset(tmp_path / "elsewhere" / "data:train") == [other]
    assert MetadataCatalog.get(other).json_file != MetadataCatalog.get(name).json_file


def test_names_can_be_file_names(isbda_content, write_isbda):
    # Detectron2 writes results into folders that are called like the data set.
    json_file, _ = write_isbda(isbda_content, folder=".a b:c")
    (name,) = resolve_dataset(json_file)
    assert name == "a_b_c_train"


def test_several_specs(layout):
    assert resolve_datasets([f"{layout}:val", "isbda_val"]) == ["data_val", "isbda_val"]
    assert resolve_datasets(f"{layout}:val") == ["data_val"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("isbda_tain", "neither a registered name .*isbda_train.* nor an existing JSON file"),
        ("{layout}:test", "the splits of '.*data' are: train, val, extra"),
        ("{layout}/train", "has no annotations/instances_"),
        ("{layout}/annotations/instances_none.json", "there is no data set"),
        ("", "there is no data set ''"),
    ],
)
def test_an_unknown_one_says_in_one_line_what_was_looked_for(layout, spec, message):
    with pytest.raises(DatasetError, match=message) as caught:
        resolve_dataset(spec.format(layout=layout))
    assert "\n" not in str(caught.value)


def test_an_image_folder_belongs_to_a_json(layout):
    with pytest.raises(DatasetError, match="3 splits, which do not share an image folder"):
        resolve_dataset(layout, layout / "val")


def test_files_of_a_data_set_that_has_none():
    DatasetCatalog.register("in_memory", list)
    with pytest.raises(DatasetError, match="without a JSON file"):
        dataset_files("in_memory")
