"""Annotations and predictions of any content: an error or sound records, never a crash.

The loops run in a process of their own, so that a crash in C code is seen as such, under a limit of
memory, and with a clock for each file.
"""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import os
import random
import resource
import signal

import numpy as np
import pytest
from pycocotools import mask as mask_util

from msnet_d2.damage_map.buildings.observations import MapVideo, observations_of
from msnet_d2.damage_map.buildings.parts import outlines_px
from msnet_d2.data import find_issues, load_isbda_json
from msnet_d2.errors import DatasetError, MSNetError
from msnet_d2.evaluation import score_file
from msnet_d2.evaluation.ground_truth import GroundTruth
from msnet_d2.video.results import read_results

# `make fuzz` raises it.
FILES = int(os.environ.get("MSNET_FUZZ_FILES", "400"))
_MEMORY = 512 << 20  # bytes that a loop may take beyond what it begins with
_SECONDS = 5  # for one file

NASTY = [
    None, True, False, 0, 1, -1, 2**31, 2**53, 2**63, 10**400, 1e308, -1e308, 1e-320, 1e9, -1e9,
    math.nan, math.inf, -math.inf, "", "1", "0", "x" * 300, "\ud800", "\0", "../x", "a/../../x",
    "http://h/x.png", [], [[]], [[[]]], {}, {"id": 1}, [1, 2, 3, 4], [0, 0, 1e9, 1e9],
    [0, 0, math.nan, 1], [[0, 0, 1e6, 1e6, 0, 1e6]], [[0, 0, math.nan, 1, 2, 2]],
    [[1e9, 1e9, 2e9, 1e9, 1e9, 2e9]], [[math.inf, 0, 1, 1, 2, 0]], [[0, 0, 1, 1]],
    [[0, 0] * 5000], {"size": [80, 100], "counts": "0"}, {"size": [80, 100], "counts": []},
    {"size": [80, 100], "counts": [1e300]}, {"size": [80, 100], "counts": [8000]},
    {"size": [80, 100], "counts": [0, 2**40]}, {"size": [80, 100], "counts": [-5, 8005]},
    {"size": [80, 100], "counts": "oooooooooo"}, {"size": [2**31, 2**31], "counts": "0"},
    {"size": [80, 100], "counts": "\udcff"}, {"counts": "0"}, {"size": None, "counts": None},
]  # fmt: skip


def sound_content():
    images = [{"id": i, "file_name": f"5_{i}.png", "width": 100, "height": 80} for i in range(1, 4)]
    annotations = []
    for number in range(1, 7):
        x, y = 3.0 * number, 2.0 * number
        shape = [[x, y, x + 20, y, x + 20, y + 20, x, y + 20]]
        if number == 6:
            grid = np.zeros((80, 100), np.uint8, order="F")
            grid[12:32, 18:38] = 1
            shape = mask_util.encode(grid)
            shape["counts"] = shape["counts"].decode()
        annotations.append(
            {
                "id": number,
                "image_id": (number - 1) % 3 + 1,
                "category_id": (number - 1) % 3 + 1,
                "segmentation": shape,
                "area": 400,
                "iscrowd": 0,
                "damage_bbox": [x, y, 20, 20],
                "house_bbox": [0, 0, 60, 60],
            }
        )
    categories = [{"id": i, "name": str(i)} for i in (1, 2, 3)]
    return {"images": images, "annotations": annotations, "categories": categories}


def sound_predictions():
    return [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": a["damage_bbox"],
            "segmentation": a["segmentation"],
            "score": 0.5,
            "parent_bbox": a["house_bbox"],
        }
        for a in sound_content()["annotations"]
    ]


def sound_video():
    """What `msnet video --results` writes of two frames."""
    instances = [
        {
            "category_id": a["category_id"],
            "bbox": a["damage_bbox"],
            "score": 0.9,
            "score_raw": 0.8,
            "segmentation": a["segmentation"],
            "parent_bbox": a["house_bbox"],
            "parent_score": 0.7,
            "track_id": a["id"],
        }
        for a in sound_content()["annotations"]
    ]
    names = ("Slight", "Severe", "Debris")
    return {
        "format": "msnet video results",
        "version": 1,
        "video": {"name": "a", "width": 100, "height": 80, "fps": 10.0, "duration_s": 0.2},
        "model": {"weights_sha256": "0" * 64},
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
        "frames": [
            {"index": 0, "time_s": 0.0, "instances": instances[:3]},
            {"index": 1, "time_s": 0.1, "instances": instances[3:]},
        ],
        "summary": {"problems": []},
    }


def spoiled(content, generator):
    """A copy with some values replaced, doubled or taken away, as text; sometimes bytes too."""
    content = copy.deepcopy(content)
    for _ in range(generator.randint(1, 4)):
        target = content
        while True:
            keys = list(target) if isinstance(target, dict) else list(range(len(target)))
            if not keys:
                break
            key = generator.choice(keys)
            if isinstance(target[key], (dict, list)) and generator.random() < 0.8:
                target = target[key]
                continue
            action = generator.random()
            if action < 0.75:
                target[key] = copy.deepcopy(generator.choice(NASTY))
            elif action < 0.85 and isinstance(target, list):
                target.append(copy.deepcopy(target[key]))
            else:
                del target[key]
            break
    data = bytearray(json.dumps(content).encode("utf-8", "surrogatepass"))
    if generator.random() < 0.2:
        for _ in range(generator.randint(1, 5)):
            data[generator.randrange(len(data))] = generator.choice(b'0123456789.-e"[]{},\xff')
    return bytes(data)


def read_file(folder):
    """Check and load; what is let through can be rasterised."""
    issues = find_issues(folder / "x.json", folder, check_images=False)
    try:
        records = load_isbda_json(folder / "x.json", folder)
    except DatasetError:
        assert any(issue.fatal for issue in issues)
        return
    for record in records:
        size = record["height"], record["width"]
        for annotation in record["annotations"]:
            assert all(math.isfinite(v) for v in annotation["bbox"])
            shape = annotation.get("segmentation")
            if isinstance(shape, list):
                mask_util.area(mask_util.merge(mask_util.frPyObjects(shape, *size)))
            elif shape is not None:
                assert mask_util.decode(shape).shape == size


def score(folder):
    truth = GroundTruth(
        name="x",
        image_sizes=dict.fromkeys((1, 2, 3), (80, 100)),
        category_ids=[1, 2, 3],
        class_names=["1", "2", "3"],
        annotated=True,
    )
    for annotation in sound_content()["annotations"]:
        part = {
            **{key: annotation[key] for key in ("id", "image_id", "segmentation", "area")},
            "category_id": annotation["category_id"] - 1,
            "bbox": annotation["damage_bbox"],
            "iscrowd": 0,
        }
        truth.parts.append(part)
    try:
        figures = score_file(truth, folder / "x.json")
    except MSNetError:
        return
    for row in figures.values():
        assert all(math.isnan(v) or 0 <= v <= 100 + 1e-9 for v in row.values())


def read_video(folder):
    """Read for a map; what is let through has outlines, votes and finite times."""
    try:
        found = read_results(folder / "x.json")
        seen = observations_of(MapVideo(folder / "x.mp4", 0, found), min_score=0.0)
    except MSNetError:
        return
    assert math.isfinite(found.duration_s)
    for observation in seen:
        assert np.isfinite(observation.box).all()
        for part in observation.parts:
            assert 0 <= part.score <= 1
            for outline in outlines_px(part, observation.size):
                assert np.isfinite(outline).all()


JOBS = {
    "data set": (sound_content, read_file),
    "predictions": (sound_predictions, score),
    "predictions for a video": (sound_video, read_video),
}


def work(kind, folder, seed, count, done):
    """In the child."""

    def too_long(*_):
        raise TimeoutError(f"{count} took over {_SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    with open("/proc/self/statm") as statm:
        size = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY, size + _MEMORY))
    make, use = JOBS[kind]
    generator = random.Random(seed)
    for _ in range(count):
        (folder / "x.json").write_bytes(spoiled(make(), generator))
        signal.alarm(_SECONDS)
        use(folder)
        signal.alarm(0)
        with done.get_lock():
            done.value += 1


@pytest.mark.parametrize("kind", list(JOBS))
def test_no_file_crashes_hangs_or_takes_all_memory(tmp_path, kind, record_property):
    context = multiprocessing.get_context("fork")
    done = context.Value("i", 0)
    count = FILES if kind == "data set" else FILES // 4
    process = context.Process(target=work, args=(kind, tmp_path, 20211, count, done))
    process.start()
    process.join()
    record_property("tried", count)
    record_property("survived", done.value)
    assert process.exitcode == 0, (tmp_path / "x.json").read_bytes()
    assert done.value == count


def test_the_sound_files_are_sound(tmp_path):
    """Otherwise the fuzzing above would stop at the first check."""
    (tmp_path / "x.json").write_text(json.dumps(sound_video()))
    found = read_results(tmp_path / "x.json")
    seen = observations_of(MapVideo(tmp_path / "x.mp4", 0, found))
    assert sum(len(o.parts) for o in seen) == 6
    (tmp_path / "x.json").write_text(json.dumps(sound_content()))
    assert find_issues(tmp_path / "x.json", tmp_path, check_images=False) == []
    assert sum(len(r["annotations"]) for r in load_isbda_json(tmp_path / "x.json", tmp_path)) == 6


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e9, -1e9, 1e308, 10**400])
@pytest.mark.parametrize("place", ["first", "last", "box", "house"])
def test_numbers_that_crash_pycocotools_are_refused_by_name(tmp_path, value, place):
    content = sound_content()
    annotation = content["annotations"][3]
    if place in ("first", "last"):
        annotation["segmentation"][0][0 if place == "first" else -1] = value
    else:
        annotation["damage_bbox" if place == "box" else "house_bbox"][2] = value
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"annotation 4\b"):
        load_isbda_json(tmp_path / "x.json", tmp_path)


@pytest.mark.parametrize(
    "counts",
    [[7999], [8001], [1, 2], [], [0, 2**31], [8000, -1, 1], "0", "", "P", "oo", [4000.5, 3999.5]],
)
def test_run_lengths_that_do_not_fill_the_image_are_refused(tmp_path, counts):
    content = sound_content()
    content["annotations"][1]["segmentation"] = {"size": [80, 100], "counts": counts}
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"annotation 2\b.*run-length"):
        load_isbda_json(tmp_path / "x.json", tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("segmentation", {"size": [80, 100], "counts": [7999]}),
        ("segmentation", {"size": [80, 100], "counts": [0, 2**31]}),
        ("segmentation", {"size": [2**16, 2**16], "counts": "0"}),
        ("segmentation", [[math.nan, 0, 1, 1, 2, 2]]),
        ("segmentation", [[0, 0, 1, 1, 2]]),
        ("bbox", [0, 0, math.inf, 1]),
        ("parent_bbox", [0, 0, 10**400, 1]),
        ("score", math.nan),
        ("score", 1e9),
        ("track_id", 1e300),
    ],
)
def test_results_of_a_video_that_would_crash_a_map_are_refused(tmp_path, key, value):
    content = sound_video()
    content["frames"][1]["instances"][0][key] = value
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(MSNetError, match=r"x\.json: not (JSON|as msnet video writes it)"):
        read_results(tmp_path / "x.json")


def change(place, key, value):
    def spoil(content):
        content[place][1][key] = value

    return spoil


FAULTS = {
    "duplicate image id": (change("images", "id", 1), "two images have this id"),
    "duplicate category id": (change("categories", "id", 1), "id 1|same id|two categories"),
    "duplicate annotation id": (change("annotations", "id", 1), "two annotations have this id"),
    "orphan annotation": (change("annotations", "image_id", 77), "77 is not among the images"),
    "text as image id": (change("images", "id", "2"), "not an integer"),
    "text as annotation id": (change("annotations", "id", "2"), "not an integer"),
    "text as category": (change("annotations", "category_id", "2"), "category_id '2'"),
    "unknown category": (change("annotations", "category_id", 9), "category_id 9"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_contradictions_are_errors_and_listed(tmp_path, fault):
    spoil, words = FAULTS[fault]
    content = sound_content()
    spoil(content)
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=words):
        load_isbda_json(tmp_path / "x.json", tmp_path)
    issues = find_issues(tmp_path / "x.json", tmp_path, check_images=False)
    assert any(issue.fatal for issue in issues)
