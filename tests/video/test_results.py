"""The results file of a video: written, read and described by the same types."""

from __future__ import annotations

import json
import os
from fractions import Fraction

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.errors import InputError
from msnet_d2.structures.mask_crop import MaskCrop
from msnet_d2.video import results as module
from msnet_d2.video.detections import Detections, Parents
from msnet_d2.video.results import (
    Category,
    FrameResults,
    ModelInfo,
    ParentDetection,
    PartDetection,
    ResultsHeader,
    ResultsSummary,
    VideoResults,
    read_results,
    results_schema,
)
from msnet_d2.video.results_writer import frame_results, write_results
from msnet_d2.video.stream import Frame, ReadReport, VideoInfo

INFO = VideoInfo("v.mp4", "file", 100, 80, Fraction(30000, 1001), Fraction(1, 1000), 3, 0.1, "h264")
LEVELS = [Category(1, "Slight"), Category(2, "Severe"), Category(3, "Debris")]
RLE = {"size": [80, 100], "counts": "0oN2"}


def header(info=INFO):
    return ResultsHeader.of(info, ModelInfo("ab" * 32, "float32", "MSNet", "previous"), LEVELS)


def whole(*frames):
    report = ReadReport(frames_read=3, time_gaps=[(1.0, 2.5)], time_gap_count=1)
    summary = ResultsSummary.of("incomplete", len(frames), {"Slight": 1}, report)
    return header().with_frames(list(frames), summary)


numbers = st.floats(-1e6, 1e6)
scores = st.floats(0, 1)
boxes = st.tuples(numbers, numbers, st.floats(0, 1e6), st.floats(0, 1e6))
polygons = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5).map(
    lambda points: [v for p in points for v in p]
)
parts = st.builds(
    PartDetection,
    category_id=st.integers(1, 3),
    bbox=boxes,
    score=scores,
    score_raw=st.none() | scores,
    segmentation=st.none() | st.lists(polygons, max_size=3),
    parent_bbox=st.none() | boxes,
    parent_score=st.none() | scores,
    track_id=st.none() | st.integers(0, 2**53),
)
frames = st.builds(
    FrameResults,
    index=st.integers(0, 2**53),
    time_s=st.floats(0, 1e9),
    damaged=st.booleans(),
    instances=st.lists(parts, max_size=3),
    parents=st.none() | st.lists(st.builds(ParentDetection, bbox=boxes, score=scores), max_size=2),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(frames, max_size=4, unique_by=lambda f: f.index))
def test_what_is_written_is_read_and_fits_the_schema(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("results") / "r.json"
    written = whole(*sorted(found, key=lambda f: f.index))
    write_results(path, written)
    assert read_results(path) == written
    jsonschema.validate(json.loads(path.read_text()), results_schema())


def test_the_schema_in_the_package_is_that_of_the_types():
    """If not: python -m msnet_d2.video.results."""
    assert module.SCHEMA_FILE.read_text() == module.schema_text()


@pytest.mark.parametrize(
    ("place", "value"),
    [("score", 1.5), ("bbox", [1, 2, 3]), ("track_id", "7"), ("segmentation", [[1, "x"]])],
)
def test_the_schema_refuses_what_the_reader_refuses(tmp_path, place, value):
    path = tmp_path / "r.json"
    write_results(
        path, whole(FrameResults(0, 0.0, instances=[PartDetection(1, (0, 0, 1, 1), 0.5)]))
    )
    content = json.loads(path.read_text())
    content["frames"][0]["instances"][0][place] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, results_schema())
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"frames\[0\].instances\[0\].{place}"):
        read_results(path)


def test_a_file_of_the_first_version_is_read_whole(tmp_path):
    # As msnet video wrote it before there were types: nulls, integers as floats, other keys.
    text = """{"format":"msnet video results","version":1,"video":{"name":"v.mp4","kind":"file",
    "width":100,"height":80,"fps":10,"frame_count":null,"duration_s":null,"codec":null,
    "pixel_format":null,"rotation":0,"seen_by":"nobody"},"model":{"weights_sha256":null,
    "precision":"bfloat16","meta_architecture":"MSNet","refined_by":null},
    "categories":[{"id":1,"name":"Slight","color":[1,2,3]}],"frames":[
    {"index":0,"time_s":0,"instances":[{"category_id":1,"bbox":[1,2,3,4],"score":1,
    "segmentation":null}],"parents":[]},
    {"index":4,"time_s":0.4,"damaged":true,"width":50,"height":40,"instances":[]}],
    "summary":{"status":"complete","frames_processed":2,"instances":{"Slight":1},"frames_read":5,
    "frames_lost":0,"frames_damaged":1,"decode_errors":0,"truncated":false,"time_gaps":[[1.0,2.0]],
    "time_gap_count":1,"size_changes":[[4,50,40]],"size_change_count":1,"timestamps_repaired":0,
    "variable_frame_rate":false,"problems":["1 frames are damaged"],"notes":[]}}"""
    (tmp_path / "r.json").write_text(text)
    found = read_results(tmp_path / "r.json")
    assert found.frames[0].instances == [PartDetection(1, (1.0, 2.0, 3.0, 4.0), 1.0)]
    assert found.frame_size(found.frames[0]) == (100, 80)
    assert found.frame_size(found.frames[1]) == (50, 40)
    # No length in the header: the last frame, at 0.4 s, lasts a tenth of a second.
    assert found.duration_s == pytest.approx(0.5)
    assert found.summary.problems == ["1 frames are damaged"]


def test_fields_are_as_the_detections_were():
    found = Detections(
        pred_boxes=np.array([[1.006, 2, 11, 22.129], [0, 0, 5, 5], [3, 3, 4, 4]]),
        scores=np.array([0.91234567, 0.5, 0.2]),
        pred_classes=np.array([2, 0, 1]),
        pred_masks=[MaskCrop(np.ones((2, 3), np.uint8), 4, 5), None, None],
        scores_raw=np.array([0.8, 0.4, 0.2]),
        pred_parent_boxes=np.array([[0, 0, 50, 60], [0, 0, 0, 0], [0, 0, 0, 0]]),
        parent_scores=np.array([0.7, 0.0, 0.0]),
        track_id=np.array([4, -1, 5]),
        parents=Parents(np.array([[0, 0, 50, 60], [1, 1, 2, 2]]), np.array([0.7, 0.1])),
    )
    frame = Frame(np.zeros((80, 120, 3), np.uint8), 7, 0.25, 1, Fraction(1), damaged=True)
    got = frame_results(frame, found, [1, 2, 3], source_size=(100, 80), min_score=0.4)
    assert (got.index, got.time_s, got.damaged, got.width, got.height) == (7, 0.25, True, 120, 80)
    first, second = got.instances
    assert first.category_id == 3
    assert first.bbox == (1.01, 2.0, 9.99, 20.13)  # 11 - 1.006 and 22.129 - 2, rounded
    assert (first.score, first.score_raw) == (0.912346, 0.8)
    assert (first.parent_bbox, first.parent_score, first.track_id) == ((0, 0, 50, 60), 0.7, 4)
    assert first.segmentation["size"] == [80, 120]
    assert (second.segmentation, second.parent_bbox, second.track_id) == (None, None, None)
    assert got.parents == [ParentDetection((0, 0, 50, 60), 0.7)]


def spoil(**changes):
    content = json.loads(msgspec.json.encode(whole(FrameResults(0, 0.0), FrameResults(3, 0.1))))
    content["frames"][1]["instances"] = [{"category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}]
    for place, value in changes.items():
        target, (*path, last) = content, place.split("__")
        for key in path:
            target = target[int(key) if key.isdigit() else key]
        target[last] = value
    return content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames__1__index": 0}, "frame 0 comes after frame 0"),
        ({"frames__1__width": 2**16, "frames__1__height": 2**16}, "frame 3: 65536 x 65536 pixels"),
        ({"video__width": 2**16, "video__height": 2**14}, "frames of 65536 x 16384 pixels"),
        ({"categories": [{"id": 1, "name": "a"}] * 2}, "two categories have the same id"),
        ({"frames__1__instances__0__category_id": 9}, "frame 3, instance 0: category_id 9"),
        ({"frames__1__instances__0__segmentation": {"size": [80, 100], "counts": [5]}}, "add up"),
        ({"frames__1__instances__0__segmentation": {"size": [80, 9], "counts": "0"}}, "its size"),
        ({"frames__1__instances__0__segmentation": [[1, 2, 3]]}, "odd number of coordinates"),
        ({"video__name": "x" * 5000}, "length <= 4096"),
        ({"video__fps": 0}, "video.fps"),
        ({"frames__1__time_s": -1}, "time_s"),
        ({"version": 2}, "newer version of msnet"),
        ({"format": "coco"}, "not the results of a video"),
    ],
)
def test_what_does_not_fit_together_is_one_line_with_its_place(tmp_path, changes, message):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(spoil(**changes)))
    with pytest.raises(InputError) as error:
        read_results(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "r.json"
    path.touch()
    os.truncate(path, module.MAX_BYTES + 1)  # of zeros, which take no room
    with pytest.raises(InputError, match="files of its kind may have"):
        read_results(path)


def test_a_type_has_no_field_that_the_schema_does_not_tell_of():
    names = set(results_schema()["$defs"])
    assert {"VideoResults", "FrameResults", "PartDetection", "ResultsSummary"} <= names
    assert VideoResults.__struct_fields__[:5] == ResultsHeader.__struct_fields__
