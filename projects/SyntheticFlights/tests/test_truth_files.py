"""What `msnet synth` writes beside ISBDA's files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util
from synthetic_flights.config import SceneConfig
from synthetic_flights.flow import flow_between
from synthetic_flights.materials import LABEL_TABLES, Material
from synthetic_flights.scene import Flight
from synthetic_flights.truth_files import TruthOptions
from synthetic_flights.writer import DatasetPlan, write_dataset

from msnet_d2.cli import main
from msnet_d2.errors import InputError

SCENE = SceneConfig(width=240, height=135, fps=4.0, seconds=1.0, seed=5, trees=2.0)
ALL = TruthOptions(panoptic=True, amodal=True, flow_gaps=(1, 2), clean=True, tracks=True)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _plan(out: Path, **more) -> DatasetPlan:
    return DatasetPlan(out, SCENE, 2, every=2, write_videos=False, **more)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("truth") / "data"
    write_dataset(_plan(out, truth=ALL))
    return out


def _json(folder: Path, name: str) -> dict:
    return json.loads((folder / "annotations" / f"{name}.json").read_text())


def test_layout(written):
    names = {n for n in _digests(written) if not n.startswith((".", "train/", "val/", "ground"))}
    kinds = ("instances", "semantic", "panoptic", "amodal", "flow", "tracks")
    expected = {f"annotations/{kind}_{side}.json" for kind in kinds for side in ("train", "val")}
    for side, video in (("train", 1), ("val", 2)):
        for frame in (0, 2):
            expected |= {f"{kind}/{side}/{video}_{frame}.png" for kind in ("semantic", "panoptic")}
            expected |= {f"clean/{side}/{video}_{frame}{end}" for end in (".jpg", "_cover.png")}
        # Frame 0 has none before it.
        expected |= {f"flow/{side}/{video}_2_{k}.npz" for k in (1, 0)}
    assert names == expected


def test_isbdas_files_are_those_without_options(written, tmp_path):
    write_dataset(_plan(tmp_path / "plain"))
    plain, full = _digests(tmp_path / "plain"), _digests(written)
    for name in (".msnet-synth.json", ".msnet-files.json"):  # they hold the options
        plain.pop(name)
    assert plain.items() <= full.items()


def test_the_same_seed_gives_the_same_bytes_in_two_processes(written, tmp_path):
    write_dataset(_plan(tmp_path / "again", truth=ALL, workers=2))
    assert _digests(tmp_path / "again") == _digests(written)


@pytest.mark.parametrize("side", ["train", "val"])
def test_panoptic_pictures_and_json_agree_and_tile_the_frame(written, side):
    document = _json(written, f"panoptic_{side}")
    names = {c["id"]: c["name"] for c in document["categories"]}
    instances = _json(written, f"instances_{side}")["annotations"]
    for image, annotation in zip(document["images"], document["annotations"]):
        picture = cv2.imread(str(written / "panoptic" / side / annotation["file_name"]))
        ids = picture.astype(int) @ [65536, 256, 1]  # BGR
        segments = annotation["segments_info"]
        assert {s["id"] for s in segments} == set(np.unique(ids)) - {0}
        assert sum(s["area"] for s in segments) + (ids == 0).sum() == 240 * 135
        labels = cv2.imread(
            str(written / "semantic" / side / annotation["file_name"]), cv2.IMREAD_UNCHANGED
        )
        assert labels.shape == (135, 240)
        for segment in segments:
            there = ids == segment["id"]
            ys, xs = np.nonzero(there)
            assert segment["area"] == there.sum()
            assert segment["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            if names[segment["category_id"]] == "vegetation":
                assert set(labels[there]) <= {Material.TREE, Material.FALLEN_TREE}
            if segment["category_id"] < 4:
                parents = [
                    s["id"]
                    for s in segments
                    if s["category_id"] == 4 and s["building_id"] == segment["building_id"]
                ]
                # Of a collapsed building nothing is left but the part.
                assert segment["parent_id"] == (parents[0] if parents else None)
        # ISBDA's polygons and the segments are of the same parts.
        parts = {s["part_id"] for s in segments if s["category_id"] < 4}
        assert parts >= {a["part_id"] for a in instances if a["image_id"] == image["id"]}


def test_semantic_json_names_the_labels_and_the_tables(written):
    document = _json(written, "semantic_val")
    assert [label["name"] for label in document["labels"]] == [m.name.lower() for m in Material]
    assert document["label_tables"] == LABEL_TABLES
    for image in document["images"]:
        assert (written / "val" / image["file_name"]).is_file()
        assert (written / "semantic" / "val" / image["sem_seg_file_name"]).is_file()


def test_tracks_are_the_amodal_masks_over_frames(written):
    for side in ("train", "val"):
        tracks, amodal = _json(written, f"tracks_{side}"), _json(written, f"amodal_{side}")
        (video,) = tracks["videos"]
        assert video["file_names"] == [i["file_name"] for i in amodal["images"]]
        assert video["length"] == 2
        masks = {}
        for annotation in amodal["annotations"]:
            key = annotation["track_id"], annotation["image_id"] - 1
            masks[key] = annotation["segmentation"]
        found = {
            (track["id"], position): mask
            for track in tracks["annotations"]
            for position, mask in enumerate(track["segmentations"])
            if mask is not None
        }
        assert found == masks
        for track in tracks["annotations"]:
            areas = [None if m is None else mask_util.area(m) for m in track["segmentations"]]
            assert areas == track["areas"]
        # Somebody is seen in both frames.
        assert any(None not in track["areas"] for track in tracks["annotations"])


def test_flow_files_hold_the_flow_of_every_second_pixel(written):
    document = _json(written, "flow_train")
    assert document["step"] == 2
    assert [(p["frame_index"], p["to_frame_index"]) for p in document["pairs"]] == [(2, 1), (2, 0)]
    flight = Flight(SCENE)
    for pair in document["pairs"]:
        stored = np.load(written / "flow" / "train" / pair["flow_file_name"])
        flow, valid = flow_between(flight, 2, pair["to_frame_index"])
        assert stored["flow"].dtype == np.float16
        assert stored["flow"].shape == (68, 120, 2)
        # Half precision has 11 bits: 1/16 px from 64 px on.
        np.testing.assert_allclose(stored["flow"], flow[::2, ::2], rtol=2**-11, atol=2e-3)
        assert (stored["valid"] == valid[::2, ::2]).mean() > 0.999


def test_clean_frames_are_those_without_trees(written):
    cover = cv2.imread(str(written / "clean/val/2_0_cover.png"), cv2.IMREAD_UNCHANGED)
    frame = Flight(SceneConfig(**{**SCENE.__dict__, "video": 2})).frame(0, with_truth=True)
    np.testing.assert_array_equal(cover, frame.truth.tree_cover)
    clean = cv2.imread(str(written / "clean/val/2_0.jpg")).astype(int)
    image = cv2.imread(str(written / "val/2_0.jpg")).astype(int)
    near = cv2.dilate(cover, np.ones((31, 31), np.uint8)) > 0
    np.testing.assert_array_equal(clean[~near], image[~near])


def test_water_depth_of_buildings_stands_in_the_truth_of_a_flood(tmp_path):
    scene = SceneConfig(**{**SCENE.__dict__, "flood": 0.5})
    write_dataset(DatasetPlan(tmp_path / "d", scene, 1, every=4, write_videos=False))
    truth = json.loads((tmp_path / "d" / "ground_truth.json").read_text())
    depths = [b["water_depth"] for b in truth["videos"][0]["buildings"]]
    assert min(depths) == 0
    assert 0.05 < max(depths) < 2


def test_other_truth_is_another_data_set(tmp_path):
    out = tmp_path / "d"
    scene = SceneConfig(64, 36, 2.0, 1.0, supersample=1.0)
    more = {"every": 2, "write_videos": False}
    flow = TruthOptions(flow_gaps=(-1,))
    write_dataset(DatasetPlan(out, scene, 1, truth=flow, **more))
    assert (out / "flow" / "train" / "1_0_1.npz").is_file()
    with pytest.raises(InputError, match="made with other settings"):
        write_dataset(DatasetPlan(out, scene, 1, **more))
    (out / "clean").mkdir()
    (out / "clean" / "mine.txt").write_text("precious")
    write_dataset(DatasetPlan(out, scene, 1, overwrite=True, **more))
    # What this program wrote is gone, what it did not stays.
    assert not (out / "flow").exists()
    assert (out / "clean" / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--flow-gaps", "1", "0"], "a flow gap of 0 frames"),
        (["--flow-gaps", "5", "1", "5"], "flow gaps 5 1 5: one is there twice"),
        (["--trees", "0"], "0.0 times the trees"),
        (["--flood", "40"], "a flood over 40.0 of the ground: expected a share in 0..0.9"),
    ],
)
def test_command_refuses_in_one_line_and_writes_nothing(tmp_path, capsys, arguments, message):
    assert main(["synth", "--out", str(tmp_path / "d"), *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "d").exists()


def test_command_writes_all_truth(tmp_path):
    arguments = "--videos 1 --seconds 1 --fps 2 --size 96x54 --every 1 --no-video --panoptic"
    more = "--amodal --flow-gaps 1 --clean --tracks --trees 3 --flood 0.4"
    out = tmp_path / "d"
    assert main(["synth", "--out", str(out), *arguments.split(), *more.split()]) == 0
    labels = cv2.imread(str(out / "semantic/train/1_0.png"), cv2.IMREAD_UNCHANGED)
    assert (labels == Material.WATER).any()
    assert (out / "flow/train/1_1_0.npz").is_file()


def test_the_sheet_of_every_truth_has_nine_pictures():
    from synthetic_flights.truth_sheet import SIZE, truth_sheet

    sheet = truth_sheet(3)
    # Each is SIZE with a title of 20 pixels and 2 on the other sides.
    assert sheet.shape == (3 * (SIZE[1] + 22), 3 * (SIZE[0] + 4), 3)
    pictures = [
        sheet[y * 262 + 20 : y * 262 + 260, x * 430 + 2 : x * 430 + 428]
        for y in range(3)
        for x in range(3)
    ]
    assert min(p.std() for p in pictures) > 10
    assert len({p.tobytes() for p in pictures}) == 9
