"""Streams refined by geometry: pictures that move, cuts, what leaves, and the rule done offline."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.config import get_msnet_cfg
from msnet_d2.errors import ConfigError, InputError
from msnet_d2.score_refinement import ScoreRefiner, build_score_refiner
from msnet_d2.score_refinement.geometry_refiner import GeometryRefiner, _Frame
from msnet_d2.score_refinement.homography import (
    estimate_homography,
    find_keypoints,
    gray_image,
)

SIZE = (160, 240)
CARRY, MISS = 0.65, 0.75


def ground(seed):
    """A large picture with texture of all sizes, (3, 500, 700) uint8."""
    noise = np.random.default_rng(seed)
    picture = sum(
        cv2.resize(noise.uniform(0, 80, (500 // k, 700 // k)), (700, 500)) for k in (4, 8, 20)
    )
    return torch.from_numpy(picture.astype(np.uint8)).expand(3, -1, -1)


@pytest.fixture(scope="module")
def place():
    return ground(1)


@pytest.fixture(scope="module")
def elsewhere():
    return ground(2)


def view(place, x, y):
    """What a camera above (x, y) sees."""
    return gray_image(place[:, y : y + SIZE[0], x : x + SIZE[1]])


def frame_output(parts, gray=None, number=0):
    """An output; parts are (x0, y0, score) of squares of 24 pixels, and optionally their class."""
    corner = torch.tensor([part[:2] for part in parts], dtype=torch.float32).reshape(-1, 2)
    instances = Instances(
        SIZE,
        pred_boxes=Boxes(torch.cat([corner, corner + 24], dim=1)),
        scores=torch.tensor([float(part[2]) for part in parts]),
        pred_classes=torch.tensor(
            [part[3] if len(part) > 3 else 0 for part in parts], dtype=torch.int64
        ),
    )
    output = {"instances": instances, "number": number}
    return output if gray is None else {**output, "gray": gray}


def run(refiner, outputs, video_id="a"):
    done = []
    for number, output in enumerate(outputs):
        done += refiner.update(output, video_id=video_id, frame_index=number)
    return done + refiner.flush()


def scores(outputs):
    return [[round(float(s), 4) for s in output["instances"].scores] for output in outputs]


# A part at (300, 200) on the ground, seen by a camera that moves by (30, 8) from frame to frame.
WAY = [(200, 120), (230, 128), (260, 136)]


def moving(place, seen):
    """Frames along WAY in which the part is found with these scores; None: it is not."""
    return [
        frame_output([] if s is None else [(300 - x, 200 - y, s)], view(place, x, y))
        for (x, y), s in zip(WAY, seen)
    ]


def test_the_motion_of_a_picture_is_found(place):
    size = (2 * SIZE[0], 2 * SIZE[1])  # pixels of an output that is larger than the picture
    a, b = (find_keypoints(view(place, *WAY[i])) for i in (0, 1))
    matrix = estimate_homography(a, b, size)
    for point in ([0, 0, 1], [480, 0, 1], [480, 320, 1], [100, 300, 1]):
        x, y, w = matrix @ point
        assert (x / w - point[0], y / w - point[1]) == pytest.approx((-60, -16), abs=1.0)


def test_pictures_of_other_ground_or_of_none_have_no_homography(place, elsewhere):
    flat = find_keypoints(torch.full(SIZE, 90, dtype=torch.uint8))
    a, b = find_keypoints(view(place, 200, 120)), find_keypoints(view(elsewhere, 200, 120))
    assert estimate_homography(a, b, SIZE) is None
    assert estimate_homography(a, flat, SIZE) is None
    assert estimate_homography(flat, flat, SIZE) is None


def test_large_pictures_are_looked_at_with_480_pixels(place):
    assert gray_image(place).shape == (343, 480)
    assert gray_image(place[:1, :50, :60]).shape == (50, 60)


def test_a_part_is_averaged_over_the_frames_it_is_matched_in(place):
    done = run(GeometryRefiner(), moving(place, [0.9, 0.6, 0.3]))
    # First: one frame ahead. Second: both sides. Third: F = 0.3 + 0.65 * (0.6 + 0.65 * 0.9).
    first = (0.9 + CARRY * 0.6) / (1 + CARRY)
    second = (0.6 + CARRY * 0.9 + CARRY * 0.3) / (1 + 2 * CARRY)
    third = (0.3 + CARRY * (0.6 + CARRY * 0.9)) / (1 + CARRY * (1 + CARRY))
    assert scores(done) == [[round(first, 4)], [round(second, 4)], [round(third, 4)]]
    assert [float(o["instances"].scores_raw[0]) for o in done] == pytest.approx([0.9, 0.6, 0.3])
    assert [int(o["instances"].track_id[0]) for o in done] == [0, 0, 0]
    assert all(float(o["instances"].match_similarity[0]) > 0.9 for o in done)
    assert "gray" not in done[0]


def test_a_frame_that_misses_the_part_in_view_lowers_it(place):
    done = run(GeometryRefiner(), moving(place, [None, 0.6, None]))
    assert scores(done) == [[], [round(0.6 / (1 + 2 * CARRY * MISS), 4)], []]
    assert done[1]["instances"].match_similarity.isnan().all()


def test_a_part_that_leaves_the_frame_keeps_its_score(place):
    # 30 pixels later the left edge has passed its right one.
    outputs = [frame_output([(2, 50, 0.6)], view(place, 200, 120))]
    outputs += [frame_output([], view(place, 230, 120))]
    assert scores(run(GeometryRefiner(), outputs)) == [[0.6], []]


def test_nothing_is_taken_over_a_cut(place, elsewhere):
    outputs = [frame_output([(100, 80, 0.9)], view(place, 200, 120))]
    outputs += [frame_output([(100, 80, 0.3)], view(elsewhere, 200, 120))]
    done = run(GeometryRefiner(), outputs)
    assert scores(done) == [[0.9], [0.3]]
    assert [int(o["instances"].track_id[0]) for o in done] == [0, 1]


def test_frames_without_texture_stay(place):
    flat = torch.full(SIZE, 128, dtype=torch.uint8)
    done = run(GeometryRefiner(), [frame_output([(100, 80, s)], flat) for s in (0.9, 0.3)])
    assert scores(done) == [[0.9], [0.3]]


def test_one_frame_stays(place):
    assert scores(run(GeometryRefiner(), moving(place, [0.6])[:1])) == [[0.6]]


@pytest.mark.parametrize(
    ("neighbors", "expected"),
    [
        ("previous", [0.9, (0.6 + CARRY * 0.9) / (1 + CARRY)]),
        ("next", [(0.9 + CARRY * 0.6) / (1 + CARRY), 0.6]),
    ],
)
def test_one_side_alone_refines(place, neighbors, expected):
    refiner = GeometryRefiner(neighbors=neighbors)
    done = run(refiner, moving(place, [0.9, 0.6]))
    assert scores(done) == [[round(s, 4)] for s in expected]
    assert refiner.delay == (neighbors == "next")


def test_frames_too_far_apart_or_of_other_videos_stay(place):
    a, b = moving(place, [0.9, 0.3])[:2]
    refiner = GeometryRefiner(max_frame_gap=5)
    done = refiner.update(a, video_id="a", frame_index=0)
    done += refiner.update(b, video_id="a", frame_index=6)
    done += refiner.update(b, video_id="b", frame_index=0)
    done += refiner.update(b)  # a picture that belongs to no video, without delay
    assert scores(done) == [[0.9], [0.3], [0.3], [0.3]]


def test_a_frame_waits_for_as_many_as_are_looked_ahead(place):
    refiner = GeometryRefiner(lookahead=2)
    outputs = moving(place, [0.9, 0.6, 0.3])
    done = [refiner.update(o, video_id="a", frame_index=i) for i, o in enumerate(outputs)]
    assert [len(d) for d in done] == [0, 0, 1]
    weights = [1, CARRY, CARRY**2]
    expected = sum(w * s for w, s in zip(weights, (0.9, 0.6, 0.3))) / sum(weights)
    assert scores(done[2]) == [[round(expected, 4)]]
    assert len(refiner.flush()) == 2


def test_a_video_that_ends_gives_back_all_that_waits(place):
    refiner = GeometryRefiner(lookahead=8)
    outputs = moving(place, [0.9, 0.6, 0.3])
    for i, output in enumerate(outputs):
        assert refiner.update(output, video_id="a", frame_index=i) == []
    done = refiner.update(outputs[0], video_id="b", frame_index=0)
    assert [o["instances"].scores_raw.tolist() for o in done] == [
        pytest.approx([s]) for s in (0.9, 0.6, 0.3)
    ]


class Still(GeometryRefiner):
    """Of a camera that stands still, so that no picture is needed."""

    class frame_type(_Frame):
        def homography_to(self, other):
            return np.eye(3)

    def can_refine(self, output):
        return True


part = st.tuples(
    st.integers(0, 200), st.integers(0, 130), st.integers(1, 20).map(lambda k: k / 20),
    st.integers(0, 1),
)  # fmt: skip
videos = st.lists(st.lists(part, max_size=4), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(videos, st.randoms())
def test_the_order_of_detections_is_irrelevant(frames, random):
    # Of detections that are alike in all any one may match.
    frames = [list({p[:2]: p for p in parts}.values()) for parts in frames]
    shuffled = [random.sample(parts, len(parts)) for parts in frames]
    results = []
    for video in (frames, shuffled):
        done = run(Still(lookahead=3), [frame_output(parts) for parts in video])
        results.append([dict(zip(map(tuple, p), s)) for p, s in zip(video, scores(done))])
    assert results[0] == results[1]


@settings(max_examples=40, deadline=None)
@given(videos)
def test_time_reversed_gives_the_same_if_all_frames_are_looked_at(frames):
    frames = [list({p[:2]: p for p in parts}.values()) for parts in frames]
    done = run(Still(lookahead=9), [frame_output(parts) for parts in frames])
    back = run(Still(lookahead=9), [frame_output(parts) for parts in frames[::-1]])
    for a, b in zip(scores(done), scores(back)[::-1]):
        assert a == pytest.approx(b, abs=2e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 20)), max_size=4), st.integers(1, 4))
def test_identical_frames_change_nothing_but_duplicates(places, count):
    parts = [(40 * place, 50, k / 20) for place, k in dict(places).items()]  # none overlaps
    done = run(Still(), [frame_output(parts) for _ in range(count)])
    for output in scores(done):
        assert output == pytest.approx([p[2] for p in parts], abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 20)), min_size=1, max_size=8))
def test_a_stream_gives_what_the_rule_gives_offline(seen):
    """One place; None: a frame that misses it. Offline, every frame weighs what lies between."""
    seen = [None if s is None else s / 20 for s in seen]
    done = run(Still(lookahead=8), [frame_output([] if s is None else [(50, 50, s)]) for s in seen])

    def one_side(i, step):
        if not 0 <= i + step < len(seen):
            return seen[i], 1.0
        if seen[i + step] is None:
            return seen[i], 1 + CARRY * MISS
        total, weight = one_side(i + step, step)
        return seen[i] + CARRY * total, 1 + CARRY * weight

    for i, output in enumerate(scores(done)):
        if seen[i] is None:
            assert output == []
            continue
        (f, w), (b, v) = one_side(i, -1), one_side(i, 1)
        assert output == pytest.approx([(f + b - seen[i]) / (w + v - 1)], abs=1e-4)


def test_duplicates_are_damped_after_refinement():
    outputs = [frame_output([(50, 50, 0.8), (52, 50, 0.6, 1)]) for _ in range(2)]
    done = run(Still(mask_soft_nms_thresh=0.25), outputs)
    damped = round(0.6 * math.sqrt(1 - 0.8), 4)
    assert scores(done) == [[0.8, damped], [0.8, damped]]


class TestConfig:
    def cfg(self, *opts):
        refined = ["MODEL.META_ARCHITECTURE", "RefinedDetector"]
        return get_msnet_cfg(opts=[*refined, "TEST.SCORE_REFINEMENT.RULE", "geometry", *opts])

    def test_a_key_chooses_the_rule(self):
        opts = ["TEST.SCORE_REFINEMENT.NEIGHBORS", "both", "TEST.SCORE_REFINEMENT.LOOKAHEAD", 3]
        refiner = build_score_refiner(self.cfg(*opts, "TEST.MASK_SOFT_NMS_THRESH", 0.25))
        assert isinstance(refiner, GeometryRefiner)
        assert (refiner.delay, refiner.mask_soft_nms_thresh) == (3, 0.25)
        assert build_score_refiner(self.cfg()).delay == 0  # NEIGHBORS is "previous" by default

    def test_an_unknown_rule_is_refused(self):
        with pytest.raises(ConfigError, match="RULE is 'geometrie'; there are: appearance, geom"):
            build_score_refiner(self.cfg("TEST.SCORE_REFINEMENT.RULE", "geometrie"))

    def test_a_refiner_by_appearance_does_not_take_its_config(self):
        with pytest.raises(ConfigError, match="build_score_refiner"):
            ScoreRefiner(self.cfg())

    def test_a_frame_ahead_is_the_least(self):
        with pytest.raises(ConfigError, match="LOOKAHEAD is 0"):
            GeometryRefiner(lookahead=0)


def test_a_frame_of_a_video_without_its_picture_is_refused():
    with pytest.raises(InputError, match="frame 3 of video 'a' have no picture"):
        GeometryRefiner().update(frame_output([]), video_id="a", frame_index=3)
