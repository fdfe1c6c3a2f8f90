"""Streams of frames: their refiner against the rule applied offline, tracks, its config."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.config import get_msnet_cfg
from msnet_d2.errors import ConfigError, InputError
from msnet_d2.score_refinement.refinement_frame import (
    FRAME_KEY,
    RefinementFrame,
    attach_refinement_frames,
)
from msnet_d2.score_refinement.refiner import NEIGHBOURS, ScoreRefiner, refine_scores


class FakeNetwork:
    """Embeds a box by its first two coordinates, so that a test can say what is similar to what."""

    in_features = ("p2",)

    def __init__(self):
        self.calls = []

    def embed_boxes(self, features, boxes):
        self.calls.append(float(features["p2"].flatten()[0]))
        return boxes[0].tensor[:, :2, None, None].clone()


def frame_output(detections, net, number=0, size=(100, 100), image=None):
    """An output with detections (direction in degrees, score, class) and its frame."""
    angles = torch.tensor([math.radians(d[0]) for d in detections])
    corner = (
        torch.stack([angles.cos(), angles.sin()], dim=1) * 10 + 20
        if len(angles)
        else torch.zeros(0, 2)
    )
    # relative to (20, 20) the corner points in the direction; FakeNetwork sees the corner itself,
    # so shift
    boxes = torch.cat([corner - 20, corner + 60], dim=1)
    instances = Instances(
        size,
        pred_boxes=Boxes(boxes),
        scores=torch.tensor([float(d[1]) for d in detections]),
        pred_classes=torch.tensor(
            [d[2] if len(d) > 2 else 0 for d in detections], dtype=torch.int64
        ),
        pred_masks=torch.rand(len(detections), *size) > 0.5,
    )
    features = {"p2": torch.full((1, 1, 1, 1), float(number))}
    return {
        "instances": instances,
        "parents": "untouched",
        "number": number,
        FRAME_KEY: RefinementFrame(net, features, size, image),
    }


def run(refiner, outputs, video_id="a"):
    done = []
    for output in outputs:
        done += refiner.push(output, video_id=video_id, frame_index=output["number"])
    return done + refiner.flush()


def scores(outputs):
    return [[round(float(s), 4) for s in output["instances"].scores] for output in outputs]


class TestStream:
    # One object seen three times, once with a distractor that is less similar.
    def sequence(self, net):
        return [
            frame_output([(0, 0.9)], net, 0),
            frame_output([(90, 0.3), (5, 0.5)], net, 1),
            frame_output([(10, 0.6)], net, 2),
        ]

    @pytest.mark.parametrize(
        ("neighbour", "expected"),
        [
            # frame 1: its first (90°) and second (5°) both have only (0°, 0.9) before them; frame 2
            # has (5°, 0.5)
            ("previous", [[0.9], [0.6, 0.7], [0.55]]),
            # frame 1 has (10°, 0.6) behind it, frame 2 nothing, frame 0 is out of the range
            ("next", [[0.9], [0.45, 0.55], [0.6]]),
            # 90° is nearer to 10° than to 0°, and 5° is as near to 0° as to 10°: the previous
            # frame's is kept
            ("both", [[0.9], [0.45, 0.7], [0.55]]),
        ],
    )
    def test_three_frames_by_hand(self, neighbour, expected):
        net = FakeNetwork()
        done = run(ScoreRefiner(neighbour=neighbour), self.sequence(net))
        assert [o["number"] for o in done] == [0, 1, 2]
        assert scores(done) == expected
        assert net.calls == [0, 1, 2]  # each frame embedded once

    @pytest.mark.parametrize(
        ("neighbour", "counts"), [("previous", [1, 1, 1, 0]), ("both", [0, 1, 1, 1])]
    )
    def test_delay(self, neighbour, counts):
        refiner = ScoreRefiner(neighbour=neighbour)
        got = [
            len(refiner.push(o, video_id="a", frame_index=o["number"]))
            for o in self.sequence(FakeNetwork())
        ]
        assert [*got, len(refiner.flush())] == counts
        assert refiner.flush() == []

    def test_fields_of_a_finished_output(self):
        net = FakeNetwork()
        before = self.sequence(net)[1]
        raw = before["instances"]
        run_before = frame_output([(0, 0.9)], net, 0)
        after = run(ScoreRefiner(), [run_before, before])[1]
        instances = after["instances"]
        assert FRAME_KEY not in after
        assert after["parents"] == "untouched"
        assert torch.equal(instances.scores_raw, raw.scores)
        assert instances.match_similarity.tolist() == pytest.approx(
            [0.0, math.cos(math.radians(5))], abs=1e-5
        )
        assert torch.equal(instances.pred_boxes.tensor, raw.pred_boxes.tensor)
        assert torch.equal(instances.pred_masks, raw.pred_masks)
        assert torch.equal(instances.pred_classes, raw.pred_classes)
        assert raw.scores.tolist() == pytest.approx(
            [0.3, 0.5]
        )  # the model's own output is as it was
        assert FRAME_KEY in before

    def test_not_refined_is_nan(self):
        first = run(ScoreRefiner(), self.sequence(FakeNetwork()))[0]["instances"]
        assert first.match_similarity.isnan().all()
        assert torch.equal(first.scores, first.scores_raw)

    def test_unrefined_scores_of_the_neighbour_are_used(self):
        # 0.3 → (0.3 + 0.9) / 2 = 0.6 in frame 1; frame 2 averages with 0.3, not with 0.6.
        net = FakeNetwork()
        outputs = [frame_output([(0, s)], net, i) for i, s in enumerate((0.9, 0.3, 0.5))]
        assert scores(run(ScoreRefiner(), outputs)) == [[0.9], [0.6], [0.4]]

    @pytest.mark.parametrize(
        ("neighbour", "expected"),
        [
            # (0.3 + 0.9) / 2 = 0.6, (0.5 + 0.6) / 2 = 0.55, and 0.1 lies outside the range
            ("previous", [0.9, 0.6, 0.55, 0.1]),
            # the frame before is as similar as the one behind, and taken
            ("both", [0.9, 0.6, 0.55, 0.1]),
            # nothing is carried back
            ("next", [0.9, 0.4, 0.3, 0.1]),
        ],
    )
    def test_carried_scores(self, neighbour, expected):
        net = FakeNetwork()
        outputs = [frame_output([(0, s)], net, i) for i, s in enumerate((0.9, 0.3, 0.5, 0.1))]
        done = run(ScoreRefiner(neighbour=neighbour, carry=True), outputs)
        assert [o[0] for o in scores(done)] == pytest.approx(expected)
        assert [float(o["instances"].scores_raw[0]) for o in done] == pytest.approx(
            [0.9, 0.3, 0.5, 0.1]
        )

    def test_nothing_is_carried_over_a_gap(self):
        net = FakeNetwork()
        outputs = [frame_output([(0, s)], net, i) for i, s in ((0, 0.9), (1, 0.3), (99, 0.5))]
        assert scores(run(ScoreRefiner(carry=True), outputs)) == [[0.9], [0.6], [0.5]]

    @pytest.mark.parametrize("neighbour", NEIGHBOURS)
    def test_identical_frames_change_nothing(self, neighbour):
        net = FakeNetwork()
        outputs = [frame_output([(0, 0.3), (40, 0.5), (80, 0.7)], net, i) for i in range(3)]
        assert scores(run(ScoreRefiner(neighbour=neighbour), outputs)) == [[0.3, 0.5, 0.7]] * 3

    @pytest.mark.parametrize("neighbour", NEIGHBOURS)
    @pytest.mark.parametrize("numbers", [(0, 31), (5, 4), (5, 5)])
    def test_a_gap_or_a_step_back_starts_afresh(self, neighbour, numbers):
        net = FakeNetwork()
        outputs = [frame_output([(0, s)], net, i) for i, s in zip(numbers, (0.3, 0.5))]
        done = run(ScoreRefiner(neighbour=neighbour, max_gap=30), outputs)
        assert scores(done) == [[0.3], [0.5]]
        assert net.calls == []

    def test_a_gap_of_max_gap_is_adjacent(self):
        net = FakeNetwork()
        outputs = [frame_output([(0, s)], net, i) for i, s in zip((0, 30), (0.3, 0.5))]
        assert scores(run(ScoreRefiner(max_gap=30), outputs)) == [[0.3], [0.4]]

    @pytest.mark.parametrize("neighbour", NEIGHBOURS)
    def test_a_new_video_or_size_starts_afresh_and_loses_no_frame(self, neighbour):
        net = FakeNetwork()
        refiner = ScoreRefiner(neighbour=neighbour)
        done = refiner.push(frame_output([(0, 0.3)], net, 0), video_id="a", frame_index=0)
        done += refiner.push(frame_output([(0, 0.5)], net, 1), video_id="b", frame_index=1)
        done += refiner.push(
            frame_output([(0, 0.7)], net, 2, size=(50, 60)), video_id="b", frame_index=2
        )
        done += refiner.push(frame_output([(0, 0.4)], net, 3, size=(50, 60)), frame_index=3)
        done += refiner.push(
            frame_output([(0, 0.6)], net, 4, size=(50, 60)), video_id="b", frame_index=4
        )
        done += refiner.flush()
        assert [o["number"] for o in done] == [0, 1, 2, 3, 4]
        assert scores(done) == [[0.3], [0.5], [0.7], [0.4], [0.6]]

    @pytest.mark.parametrize("threshold", [0.0, 0.7])
    def test_a_cut(self, threshold):
        """A frame darkened and shifted is of the same shot, another picture is not."""
        net = FakeNetwork()
        g = torch.Generator().manual_seed(0)
        wide = torch.rand(2, 3, 15, 24, generator=g) * 255
        wide = torch.nn.functional.interpolate(wide, size=(120, 192), mode="bilinear")
        scene, moved, other = wide[0, :, :, :160], wide[0, :, :, 32:] * 0.8, wide[1, :, :, :160]
        outputs = [
            frame_output([(0, s)], net, i, image=image)
            for i, (s, image) in enumerate(((0.3, scene), (0.5, moved), (0.7, other)))
        ]
        done = run(ScoreRefiner(cut_threshold=threshold), outputs)
        assert scores(done) == [[0.3], [0.4], [0.6] if threshold == 0 else [0.7]]

    def test_a_picture_without_a_video_passes_through(self):
        output = frame_output([(0, 0.5)], FakeNetwork())
        output.pop(FRAME_KEY)
        for neighbour in NEIGHBOURS:
            (done,) = ScoreRefiner(neighbour=neighbour).push(output)
            assert done["instances"].scores_raw.tolist() == [0.5]
            assert done["instances"].track_id.tolist() == [-1]

    def test_a_frame_without_features(self):
        output = frame_output([(0, 0.5)], FakeNetwork())
        output.pop(FRAME_KEY)
        with pytest.raises(InputError, match="wrap the model in RefinedModel"):
            ScoreRefiner().push(output, video_id="a", frame_index=7)

    def test_numbers_are_counted_where_none_are_given(self):
        net, refiner = FakeNetwork(), ScoreRefiner(max_gap=1)
        outputs = [frame_output([(0, s)], net) for s in (0.3, 0.5)]
        assert scores([refiner.push(o, video_id="a")[0] for o in outputs]) == [[0.3], [0.4]]

    @pytest.mark.parametrize("neighbour", NEIGHBOURS)
    def test_frames_without_detections(self, neighbour):
        net = FakeNetwork()
        outputs = [frame_output(d, net, i) for i, d in enumerate(([], [(0, 0.5)], [], []))]
        done = run(ScoreRefiner(neighbour=neighbour), outputs)
        assert scores(done) == [[], [0.5], [], []]
        assert net.calls == []  # nothing to match, nothing embedded
        assert done[0]["instances"].track_id.shape == (0,)

    @pytest.mark.parametrize(
        ("neighbour", "calls"), [("previous", []), ("next", [0, 1]), ("both", [0, 1])]
    )
    def test_what_cannot_be_refined_is_not_embedded(self, neighbour, calls):
        net = FakeNetwork()
        outputs = [frame_output([(0, s)], net, i) for i, s in enumerate((0.5, 0.9, 0.95))]
        run(ScoreRefiner(neighbour=neighbour, track=False), outputs)
        assert net.calls == calls

    def test_same_class_and_minimum_similarity_reach_the_stream(self):
        net = FakeNetwork()

        def pair():
            return [frame_output([(0, 0.9, 1)], net, 0), frame_output([(60, 0.5, 2)], net, 1)]

        assert scores(run(ScoreRefiner(), pair()))[1] == [0.7]
        assert scores(run(ScoreRefiner(same_class=True), pair()))[1] == [0.5]
        assert scores(run(ScoreRefiner(min_similarity=0.51), pair()))[1] == [0.5]  # cos 60° = 0.5
        assert scores(run(ScoreRefiner(min_similarity=0.49), pair()))[1] == [0.7]

    def test_boxes_are_scaled_to_the_networks_input(self):
        seen = []
        net = SimpleNamespace(
            in_features=["p2"], embed_boxes=lambda f, b: seen.append(b[0].tensor) or torch.zeros(1)
        )
        frame = RefinementFrame(net, {"p2": torch.zeros(1, 1, 1, 1)}, (50, 200))
        boxes = Boxes(torch.tensor([[10.0, 20, 30, 40]]))
        frame.embed(boxes, (100, 100))
        assert seen[0].tolist() == [[20.0, 10.0, 60.0, 20.0]]
        assert boxes.tensor.tolist() == [[10.0, 20, 30, 40]]


class TestTracks:
    def test_by_hand(self):
        # Frame 1's detections are those of frame 0 in another order, and a new one; frame 2 lost
        # 0°, whose place the new one does not take: 85° and 80° are each other's best.
        net = FakeNetwork()
        outputs = [
            frame_output([(0, 0.9), (45, 0.9)], net, 0),
            frame_output([(46, 0.9), (1, 0.9), (80, 0.9)], net, 1),
            frame_output([(85, 0.9), (47, 0.9)], net, 2),
        ]
        ids = [o["instances"].track_id.tolist() for o in run(ScoreRefiner(), outputs)]
        assert ids == [[0, 1], [1, 0, 2], [2, 1]]

    def test_numbers_are_unique_in_a_video_and_start_again_in_the_next(self):
        net, refiner = FakeNetwork(), ScoreRefiner(max_gap=1)
        ids = []
        for video, number in (("a", 0), ("a", 5), ("b", 6)):
            (done,) = refiner.push(
                frame_output([(0, 0.9)], net), video_id=video, frame_index=number
            )
            ids += done["instances"].track_id.tolist()
        assert ids == [0, 1, 0]

    def test_off(self):
        net = FakeNetwork()
        outputs = [frame_output([(0, 0.9)], net, i) for i in range(2)]
        done = run(ScoreRefiner(track=False), outputs)
        assert [o["instances"].track_id.tolist() for o in done] == [[-1], [-1]]


def offline(sequence, neighbour, mutual):
    """The rule applied to a whole video at once: the reference for the stream."""
    results = []
    for i, (s, e) in enumerate(sequence):
        candidates = []
        if neighbour in ("previous", "both") and i > 0:
            candidates.append(sequence[i - 1])
        if neighbour in ("next", "both") and i + 1 < len(sequence):
            candidates.append(sequence[i + 1])
        refined = s.clone()
        best = torch.full_like(s, -2.0)
        for scores_q, q in candidates:
            if len(q) == 0 or len(s) == 0:
                continue
            unit = torch.nn.functional.normalize
            similarity = torch.stack(
                [
                    (unit(e[n : n + 1], dim=1) * unit(q, dim=1)).sum(1).mean((1, 2))
                    for n in range(len(s))
                ]
            )
            alone = refine_scores(s, e, scores_q, q, mutual=mutual)
            for n in range(len(s)):
                match = int(similarity[n].argmax())
                if mutual and int(similarity[:, match].argmax()) != n:
                    continue
                if similarity[n, match] > best[n] + 1e-6:
                    best[n], refined[n] = similarity[n, match], alone[n]
        results.append(refined)
    return results


@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    neighbour=st.sampled_from(NEIGHBOURS),
    mutual=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_stream_equals_offline(seed, counts, neighbour, mutual):
    g = torch.Generator().manual_seed(seed)
    sequence = [(torch.rand(n, generator=g), torch.randn(n, 4, 2, 2, generator=g)) for n in counts]
    outputs = []
    for i, (s, e) in enumerate(sequence):
        net = SimpleNamespace(in_features=[], embed_boxes=lambda f, b, e=e: e)
        corner = torch.rand(len(s), 2, generator=g) * 50
        boxes = Boxes(torch.cat([corner, corner + 9], dim=1))
        classes = torch.zeros(len(s), dtype=torch.int64)
        instances = Instances((64, 64), pred_boxes=boxes, scores=s, pred_classes=classes)
        frame = SimpleNamespace(image_size=(64, 64), embed=lambda boxes, size, e=e: e)
        outputs.append({"instances": instances, FRAME_KEY: frame, "number": i})
        assert net.in_features == []
    done = run(ScoreRefiner(neighbour=neighbour, mutual=mutual), outputs)
    for output, before, expected in zip(done, outputs, offline(sequence, neighbour, mutual)):
        assert torch.allclose(output["instances"].scores, expected, atol=1e-6)
        assert output["instances"].pred_boxes is before["instances"].pred_boxes


def test_frames_are_attached_to_videos_alone():
    features = {"p2": torch.arange(3.0).view(3, 1, 1, 1), "p6": torch.zeros(3, 1, 1, 1)}
    outputs = [{}, {}, {}]
    inputs = [{"video_id": "a", "image": torch.zeros(3, 8, 8)}, {}, {"video_id": None}]
    attach_refinement_frames(outputs, inputs, FakeNetwork(), features)
    assert [FRAME_KEY in output for output in outputs] == [True, False, False]


def test_features_are_dropped_once_embedded():
    net = FakeNetwork()
    frame = RefinementFrame(net, {"p2": torch.full((1, 1, 1, 1), 3.0)}, (10, 10))
    boxes = Boxes(torch.tensor([[1.0, 2, 3, 4]]))
    first = frame.embed(boxes, (10, 10))
    assert frame.embed(boxes, (10, 10)) is first
    assert net.calls == [3.0]
    assert frame._features == {}


class TestConfig:
    def test_the_papers_is_the_default(self):
        refiner = ScoreRefiner(get_msnet_cfg())
        assert refiner.score_range == (0.2, 0.7)
        assert refiner.neighbour == "previous"
        assert refiner.delay == 0
        assert refiner.same_class is False
        assert refiner.min_similarity == -1.0
        assert refiner.mutual is False
        assert refiner.carry is False

    @pytest.mark.parametrize(
        ("opts", "message"),
        [
            (["MODEL.SRN.NEIGHBOUR", "sideways"], "NEIGHBOUR is 'sideways'"),
            (["MODEL.SRN.SCORE_RANGE", "(0.7, 0.2)"], "0 <= C0 <= C1 <= 1"),
            (["MODEL.SRN.MAX_GAP", 0], "MAX_GAP is 0"),
        ],
    )
    def test_what_contradicts_itself(self, opts, message):
        with pytest.raises(ConfigError, match=message):
            ScoreRefiner(get_msnet_cfg(opts=opts))
