"""Splits by scene."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from msnet_d2.cli import main
from msnet_d2.data import find_issues, resolve_dataset
from msnet_d2.data.isbda.catalog import dataset_files
from msnet_d2.data.isbda.splits import choose_train_scenes, write_splits
from msnet_d2.errors import DatasetError, InputError

CATEGORIES = [{"id": i, "name": str(i)} for i in (1, 2, 3)]


def make_folder(root, splits):
    """ISBDA's layout with ``{split: {video: number of frames}}``, one part a frame, ids from 1."""
    for split, videos in splits.items():
        images, annotations = [], []
        (root / split).mkdir(parents=True)
        for video, frames in videos.items():
            for frame in range(frames):
                number = len(images) + 1
                name = f"{video}_{frame * 10}.png"
                Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(root / split / name)
                images.append({"id": number, "file_name": name, "width": 20, "height": 20})
                annotations.append(
                    {
                        "id": number,
                        "image_id": number,
                        "category_id": 1,
                        "iscrowd": 0,
                        "area": 16,
                        "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6]],
                        "damage_bbox": [2, 2, 4, 4],
                        "house_bbox": [1, 1, 8, 8],
                    }
                )
        path = root / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        path.write_text(json.dumps(content))
    return root


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "data", {"train": {"1": 4, "2": 3, "3": 2}, "val": {"4": 1}})


def load(split):
    train, val = (DatasetCatalog.get(name) for name in resolve_dataset(split.folder))
    return train, val


def test_three_splits_that_load_and_share_no_scene(folder, tmp_path):
    splits = write_splits(folder, tmp_path / "out", ratio=0.7, seeds=[0, 1, 2])
    assert [s.folder for s in splits] == [tmp_path / "out" / f"seed_{i}" for i in range(3)]
    for split in splits:
        train, val = load(split)
        videos = [{record["video_id"] for record in side} for side in (train, val)]
        assert videos == [set(scenes) for scenes in split.scenes]
        assert not videos[0] & videos[1]
        assert videos[0] | videos[1] == {"1", "2", "3", "4"}
        # Of 4, 3, 2 and 1 frames, 7 can be had exactly: 4 + 3 or 4 + 2 + 1.
        assert (len(train), len(val)) == split.images == (7, 3)


def test_pictures_and_labels_are_the_original_ones(folder, tmp_path):
    (split,) = write_splits(folder, tmp_path / "out", ratio=0.5, seeds=[5])
    originals = {
        r["file_name"]: r for name in resolve_dataset(folder) for r in DatasetCatalog.get(name)
    }
    for name in resolve_dataset(split.folder):
        assert find_issues(*dataset_files(name)) == []
        for record in DatasetCatalog.get(name):
            with Image.open(record["file_name"]) as image:
                pixel = image.getpixel((0, 0))
            path = record["file_name"].replace(f"{split.folder}/train", str(folder))
            path = path.replace(f"{split.folder}/val", str(folder))
            original = originals[path]
            # Both JSON files count from 1, so numbers had to change; pictures hold the old ones.
            assert pixel == (original["image_id"],) * 3
            assert record["video_id"] == original["video_id"]
            assert record["frame_index"] == original["frame_index"]
            (part,), (before,) = record["annotations"], original["annotations"]
            assert {**part, "id": 0} == {**before, "id": 0}
    assert not (split.folder / "train").is_dir() or (split.folder / "train").is_symlink()


def test_ids_stay_where_they_can(tmp_path):
    folder = make_folder(tmp_path / "data", {"train": {"1": 2, "2": 2}})
    (split,) = write_splits(f"{folder}:train", tmp_path / "out", ratio=0.5, seeds=[0])
    sides = [json.loads((split.folder / "annotations" / f"instances_{s}.json").read_text())
             for s in ("train", "val")]  # fmt: skip
    frames = {i["id"]: i["file_name"] for side in sides for i in side["images"]}
    assert frames == {1: "1_0.png", 2: "1_10.png", 3: "2_0.png", 4: "2_10.png"}


def test_one_video_in_both_files_is_one_scene(tmp_path):
    folder = make_folder(tmp_path / "data", {"train": {"1": 3, "2": 2}, "val": {"1": 1}})
    (split,) = write_splits(folder, tmp_path / "out", ratio=0.6, seeds=[0])
    assert split.scenes == (["1"], ["2"])
    assert split.images == (4, 2)


def test_the_same_again_and_a_split_of_a_split(folder, tmp_path):
    (first,) = write_splits(folder, tmp_path / "out", ratio=0.7, seeds=[3])
    files = sorted(first.folder.glob("annotations/*"))
    before = [f.read_bytes() for f in files]
    assert write_splits(folder, tmp_path / "out", ratio=0.7, seeds=[3, 3]) == [first]
    assert [f.read_bytes() for f in files] == before
    (again,) = write_splits(first.folder, tmp_path / "again", ratio=0.7, seeds=[3])
    assert again.scenes == first.scenes
    assert [len(side) for side in load(again)] == [7, 3]


@pytest.mark.parametrize(
    ("videos", "message"),
    [({"7": 5}, "has one scene; to split by scene takes two"), ({}, "has no scene;")],
)
def test_too_few_scenes(tmp_path, videos, message):
    folder = make_folder(tmp_path / "data", {"train": videos})
    with pytest.raises(DatasetError, match=message):
        write_splits(folder, tmp_path / "out", ratio=0.8, seeds=[0])
    assert not (tmp_path / "out").exists()


def test_images_of_no_video(tmp_path):
    folder = make_folder(tmp_path / "data", {"train": {"1": 2, "2": 2}})
    path = folder / "annotations" / "instances_train.json"
    path.write_text(path.read_text().replace("1_10.png", "none.png"))
    with pytest.raises(DatasetError, match=r"image 2 \(none.png\) belongs to no video"):
        write_splits(folder, tmp_path / "out", ratio=0.8, seeds=[0])


def test_fatal_issues_and_different_categories_are_refused(tmp_path):
    folder = make_folder(tmp_path / "data", {"train": {"1": 1}, "val": {"2": 1}})
    path = folder / "annotations" / "instances_val.json"
    sound = path.read_text()
    path.write_text(sound.replace('"category_id": 1', '"category_id": 7'))
    with pytest.raises(DatasetError, match="unknown-category"):
        write_splits(folder, tmp_path / "out", ratio=0.8, seeds=[0])
    path.write_text(sound.replace('"name": "3"', '"name": "Debris"'))
    with pytest.raises(DatasetError, match="different categories"):
        write_splits(folder, tmp_path / "out", ratio=0.8, seeds=[0])


def test_it_writes_over_nothing_but_its_own(folder, tmp_path):
    (tmp_path / "out" / "seed_0" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds other files \(train\)"):
        write_splits(folder, tmp_path / "out", ratio=0.7, seeds=[0])


def test_what_json_cannot_hold_is_no_defect(folder, tmp_path):
    path = folder / "annotations" / "instances_val.json"
    path.write_text(path.read_text().replace('"area": 16', '"area": NaN'))
    with pytest.raises(DatasetError, match="contains NaN or infinity"):
        write_splits(folder, tmp_path / "out", ratio=0.7, seeds=[0])


def test_seeds_that_give_the_same_are_said_so(tmp_path, caplog):
    folder = make_folder(tmp_path / "data", {"train": {"1": 3, "2": 1}})
    with caplog.at_level(logging.WARNING):
        write_splits(folder, tmp_path / "out", ratio=0.75, seeds=[0, 1])
    assert "some seeds gave the same one" in caplog.text


# --- the choice itself --------------------------------------------------------------------------


def test_ten_videos_give_different_splits_that_are_balanced():
    # Frames as uneven as flights are; 103 in all.
    counts = dict(zip("abcdefghij", (20, 5, 7, 14, 3, 9, 16, 8, 11, 10)))
    chosen = [choose_train_scenes(counts, 0.8, seed) for seed in range(6)]
    assert len(set(map(tuple, chosen))) > 3
    for scenes in chosen:
        assert abs(sum(counts[s] for s in scenes) - 0.8 * 103) <= 0.02 * 103


def test_the_closest_where_none_is_close():
    # Of 90, 6 and 4 images for a half: 90 (40 away), 96, 94 or 10 (40 away), 6, 4.
    assert choose_train_scenes({"a": 90, "b": 6, "c": 4}, 0.5, 0) in (["a"], ["b", "c"])
    # For a fifth: 10 is 10 away, 6 and 4 are 14 and 16 away.
    assert choose_train_scenes({"a": 90, "b": 6, "c": 4}, 0.2, 0) == ["b", "c"]


def test_the_order_of_the_scenes_is_irrelevant():
    counts = {str(i): i + 1 for i in range(12)}
    backwards = dict(reversed(counts.items()))
    assert choose_train_scenes(counts, 0.8, 4) == choose_train_scenes(backwards, 0.8, 4)


@pytest.mark.parametrize("ratio", [0, 1, -1, 80, float("nan")])
def test_ratios_out_of_range(ratio):
    with pytest.raises(InputError, match="between 0 and 1"):
        choose_train_scenes({"a": 1, "b": 1}, ratio, 0)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.dictionaries(st.text(max_size=3), st.integers(1, 40), min_size=2, max_size=7),
    ratio=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
)
def test_as_balanced_as_can_be_and_both_sides_have_a_scene(counts, ratio, seed):
    chosen = choose_train_scenes(counts, ratio, seed)
    assert 0 < len(chosen) < len(counts)
    assert set(chosen) < set(counts)
    total, names = sum(counts.values()), list(counts)
    gap = abs(sum(counts[s] for s in chosen) - ratio * total)
    # Against all subsets; 2,000 draws among at most 126 of them do not miss the best.
    best = min(
        abs(sum(counts[n] for i, n in enumerate(names) if bits >> i & 1) - ratio * total)
        for bits in range(1, 2 ** len(names) - 1)
    )
    assert gap <= max(best, 0.02 * total) + 1e-9


def write_tiles(folder, names):
    """A data set of one square an image, whose names alone tell what belongs together."""
    images, annotations = [], []
    for number, name in enumerate(names, start=1):
        images.append({"id": number, "file_name": name, "width": 100, "height": 80})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": [10, 10, 20, 20],
                "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]],
                "iscrowd": 0,
            }
        )
    folder.mkdir()
    path = folder / "ds.json"
    categories = [{"id": 1, "name": "1"}]
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path


TILES = [f"ortho{o}_{x}_{y}.png" for o in "ABC" for x in (0, 1) for y in (0, 1)]


def test_tiles_are_doubtful_as_videos_and_split_by_their_mosaic(tmp_path, capsys):
    path = write_tiles(tmp_path / "tiles", TILES)
    out = tmp_path / "out"
    assert main(["split", str(path), "--out", str(out), "--seeds", "0"]) == 1
    assert "orthoA_0_0.png is taken for frame 0 of the video 'orthoA_0'" in capsys.readouterr().err
    command = ["split", str(path), "--out", str(out), "--by", "pattern", "--pattern", "(ortho.)_"]
    assert main([*command, "--ratio", "0.6"]) == 0
    for seed in (0, 1, 2):
        sides = []
        for side in ("train", "val"):
            file = out / f"seed_{seed}" / "annotations" / f"instances_{side}.json"
            sides.append({i["file_name"][:6] for i in json.loads(file.read_text())["images"]})
        assert sides[0].isdisjoint(sides[1])
        assert sides[0] | sides[1] == {"orthoA", "orthoB", "orthoC"}


def test_folders_are_scenes_if_asked(tmp_path):
    names = [f"{place}/{n}.png" for place in ("north", "south") for n in range(3)]
    path = write_tiles(tmp_path / "tiles", names)
    with pytest.raises(DatasetError, match="belongs to no video: .*split --by folder"):
        write_splits(path, tmp_path / "out", 0.5, [0])
    (split,) = write_splits(path, tmp_path / "out", 0.5, [0], by="folder")
    assert sorted([*split.scenes[0], *split.scenes[1]]) == ["north", "south"]


@pytest.mark.parametrize(
    ("by", "pattern", "message"),
    [
        ("pattern", None, "go together"),
        ("video", "(a)", "go together"),
        ("pattern", "(a", "no regular expression"),
        ("pattern", "a", "has no group"),
    ],
)
def test_a_pattern_that_tells_no_scene(tmp_path, by, pattern, message):
    path = write_tiles(tmp_path / "tiles", TILES)
    with pytest.raises(InputError, match=message):
        write_splits(path, tmp_path / "out", 0.5, [0], by=by, pattern=pattern)
