"""Streams of frames: their refiner against the rule applied offline, tracks, its config."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.config import get_msnet_cfg
from msnet_d2.config.refinement import refines_scores
from msnet_d2.errors import ConfigError, InputError
from msnet_d2.score_refinement import ScoreRefiner, build_score_refiner
from msnet_d2.score_refinement.homography import gray_image
from msnet_d2.score_refinement.matching import AppearanceRule
from msnet_d2.score_refinement.refiner import NEIGHBORS
from msnet_d2.score_refinement.shots import shot_difference, thumbnail


class CountingRule(AppearanceRule):
    """The paper's rule; says how many pairs of frames it was asked for."""

    count = 0

    def match(self, p, q):
        type(self).count += 1
        return super().match(p, q)


@pytest.fixture
def counting_rule():
    CountingRule.count = 0
    return CountingRule()


def frame_output(detections, number=0, size=(100, 100), image=None):
    """An output with detections (direction in degrees, score, class), embedded by direction."""
    angles = torch.tensor([math.radians(d[0]) for d in detections])
    corner = (
        torch.stack([angles.cos(), angles.sin()], dim=1) * 10 + 20
        if len(angles)
        else torch.zeros(0, 2)
    )
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
    instances.embeddings = boxes[:, :2, None, None].clone()
    output = {"instances": instances, "parents": "untouched", "number": number}
    return output if image is None else {**output, "thumbnail": thumbnail(image)}


def run(refiner, outputs, video_id="a"):
    done = []
    for output in outputs:
        done += refiner.update(output, video_id=video_id, frame_index=output["number"])
    return done + refiner.flush()


def scores(outputs):
    return [[round(float(s), 4) for s in output["instances"].scores] for output in outputs]


class TestStream:
    # One object seen three times, once with a distractor that is less similar.
    def sequence(self):
        return [
            frame_output([(0, 0.9)], 0),
            frame_output([(90, 0.3), (5, 0.5)], 1),
            frame_output([(10, 0.6)], 2),
        ]

    @pytest.mark.parametrize(
        ("neighbors", "expected"),
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
    def test_three_frames_by_hand(self, counting_rule, neighbors, expected):
        done = run(ScoreRefiner(rule=counting_rule, neighbors=neighbors), self.sequence())
        assert [o["number"] for o in done] == [0, 1, 2]
        assert scores(done) == expected
        assert counting_rule.count == 2  # each pair of frames compared once

    @pytest.mark.parametrize(
        ("neighbors", "counts"), [("previous", [1, 1, 1, 0]), ("both", [0, 1, 1, 1])]
    )
    def test_delay(self, neighbors, counts):
        refiner = ScoreRefiner(neighbors=neighbors)
        got = [
            len(refiner.update(o, video_id="a", frame_index=o["number"])) for o in self.sequence()
        ]
        assert [*got, len(refiner.flush())] == counts
        assert refiner.flush() == []

    def test_fields_of_a_finished_output(self):
        before = self.sequence()[1]
        raw = before["instances"]
        run_before = frame_output([(0, 0.9)], 0)
        after = run(ScoreRefiner(), [run_before, before])[1]
        instances = after["instances"]
        assert "thumbnail" not in after
        assert not instances.has("embeddings")
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
        assert before["instances"].has("embeddings")

    def test_not_refined_is_nan(self):
        first = run(ScoreRefiner(), self.sequence())[0]["instances"]
        assert first.match_similarity.isnan().all()
        assert torch.equal(first.scores, first.scores_raw)

    def test_unrefined_scores_of_the_neighbor_are_used(self):
        # 0.3 → (0.3 + 0.9) / 2 = 0.6 in frame 1; frame 2 averages with 0.3, not with 0.6.
        outputs = [frame_output([(0, s)], i) for i, s in enumerate((0.9, 0.3, 0.5))]
        assert scores(run(ScoreRefiner(), outputs)) == [[0.9], [0.6], [0.4]]

    @pytest.mark.parametrize(
        ("neighbors", "expected"),
        [
            # (0.3 + 0.9) / 2 = 0.6, (0.5 + 0.6) / 2 = 0.55, and 0.1 lies outside the range
            ("previous", [0.9, 0.6, 0.55, 0.1]),
            # the frame before is as similar as the one behind, and taken
            ("both", [0.9, 0.6, 0.55, 0.1]),
            # nothing is carried back
            ("next", [0.9, 0.4, 0.3, 0.1]),
        ],
    )
    def test_carried_scores(self, neighbors, expected):
        outputs = [frame_output([(0, s)], i) for i, s in enumerate((0.9, 0.3, 0.5, 0.1))]
        done = run(ScoreRefiner(neighbors=neighbors, running_mean=True), outputs)
        assert [o[0] for o in scores(done)] == pytest.approx(expected)
        assert [float(o["instances"].scores_raw[0]) for o in done] == pytest.approx(
            [0.9, 0.3, 0.5, 0.1]
        )

    def test_nothing_is_carried_over_a_gap(self):
        outputs = [frame_output([(0, s)], i) for i, s in ((0, 0.9), (1, 0.3), (99, 0.5))]
        assert scores(run(ScoreRefiner(running_mean=True), outputs)) == [[0.9], [0.6], [0.5]]

    @pytest.mark.parametrize("neighbors", NEIGHBORS)
    def test_identical_frames_change_nothing(self, neighbors):
        outputs = [frame_output([(0, 0.3), (40, 0.5), (80, 0.7)], i) for i in range(3)]
        assert scores(run(ScoreRefiner(neighbors=neighbors), outputs)) == [[0.3, 0.5, 0.7]] * 3

    @pytest.mark.parametrize("neighbors", NEIGHBORS)
    @pytest.mark.parametrize("numbers", [(0, 31), (5, 4), (5, 5)])
    def test_a_gap_or_a_step_back_starts_afresh(self, counting_rule, neighbors, numbers):
        outputs = [frame_output([(0, s)], i) for i, s in zip(numbers, (0.3, 0.5))]
        refiner = ScoreRefiner(rule=counting_rule, neighbors=neighbors, max_frame_gap=30)
        assert scores(run(refiner, outputs)) == [[0.3], [0.5]]
        assert counting_rule.count == 0

    def test_a_gap_of_max_gap_is_adjacent(self):
        outputs = [frame_output([(0, s)], i) for i, s in zip((0, 30), (0.3, 0.5))]
        assert scores(run(ScoreRefiner(max_frame_gap=30), outputs)) == [[0.3], [0.4]]

    @pytest.mark.parametrize("neighbors", NEIGHBORS)
    def test_a_new_video_or_size_starts_afresh_and_loses_no_frame(self, neighbors):
        refiner = ScoreRefiner(neighbors=neighbors)
        done = refiner.update(frame_output([(0, 0.3)], 0), video_id="a", frame_index=0)
        done += refiner.update(frame_output([(0, 0.5)], 1), video_id="b", frame_index=1)
        done += refiner.update(
            frame_output([(0, 0.7)], 2, size=(50, 60)), video_id="b", frame_index=2
        )
        done += refiner.update(frame_output([(0, 0.4)], 3, size=(50, 60)), frame_index=3)
        done += refiner.update(
            frame_output([(0, 0.6)], 4, size=(50, 60)), video_id="b", frame_index=4
        )
        done += refiner.flush()
        assert [o["number"] for o in done] == [0, 1, 2, 3, 4]
        assert scores(done) == [[0.3], [0.5], [0.7], [0.4], [0.6]]

    @pytest.mark.parametrize("threshold", [0.0, 0.7])
    def test_a_cut(self, threshold):
        """A frame darkened and shifted is of the same shot, another picture is not."""
        g = torch.Generator().manual_seed(0)
        wide = torch.rand(2, 3, 15, 24, generator=g) * 255
        wide = torch.nn.functional.interpolate(wide, size=(120, 192), mode="bilinear")
        scene, moved, other = wide[0, :, :, :160], wide[0, :, :, 32:] * 0.8, wide[1, :, :, :160]
        outputs = [
            frame_output([(0, s)], i, image=image)
            for i, (s, image) in enumerate(((0.3, scene), (0.5, moved), (0.7, other)))
        ]
        done = run(ScoreRefiner(shot_change_thresh=threshold), outputs)
        assert scores(done) == [[0.3], [0.4], [0.6] if threshold == 0 else [0.7]]

    def test_a_frame_that_has_moved_far_is_of_the_same_shot(self):
        """Most of the ground is new: the thumbnails differ, but points are found again."""
        noise = np.random.default_rng(0)
        wide = torch.from_numpy(noise.integers(0, 256, (2, 3, 200, 780), dtype=np.uint8))
        pictures = scene, moved, _ = wide[0, :, :, :480], wide[0, :, :, 300:], wide[1, :, :, :480]
        grays = [gray_image(picture) for picture in pictures]
        assert shot_difference(*map(thumbnail, (scene, moved))) > 0.7
        outputs = [
            {**frame_output([(0, s)], i, image=picture), "gray": gray}
            for i, (s, picture, gray) in enumerate(zip((0.3, 0.5, 0.7), pictures, grays))
        ]
        done = run(ScoreRefiner(shot_change_thresh=0.7), outputs)
        assert scores(done) == [[0.3], [0.4], [0.7]]
        assert "gray" not in done[0]

    def test_a_picture_without_a_video_passes_through(self):
        output = frame_output([(0, 0.5)])
        output["instances"].remove("embeddings")
        for neighbors in NEIGHBORS:
            (done,) = ScoreRefiner(neighbors=neighbors).update(output)
            assert done["instances"].scores_raw.tolist() == [0.5]
            assert done["instances"].track_id.tolist() == [-1]

    def test_a_frame_without_embeddings(self):
        output = frame_output([(0, 0.5)])
        output["instances"].remove("embeddings")
        with pytest.raises(InputError, match="frame 7 of video 'a' have no embeddings: set MODEL"):
            ScoreRefiner().update(output, video_id="a", frame_index=7)

    def test_numbers_are_counted_where_none_are_given(self):
        refiner = ScoreRefiner(max_frame_gap=1)
        outputs = [frame_output([(0, s)]) for s in (0.3, 0.5)]
        assert scores([refiner.update(o, video_id="a")[0] for o in outputs]) == [[0.3], [0.4]]

    @pytest.mark.parametrize("neighbors", NEIGHBORS)
    def test_frames_without_detections(self, counting_rule, neighbors):
        outputs = [frame_output(d, i) for i, d in enumerate(([], [(0, 0.5)], [], []))]
        done = run(ScoreRefiner(rule=counting_rule, neighbors=neighbors), outputs)
        assert scores(done) == [[], [0.5], [], []]
        assert counting_rule.count == 0  # nothing to match
        assert done[0]["instances"].track_id.shape == (0,)

    @pytest.mark.parametrize(("neighbors", "pairs"), [("previous", 0), ("next", 1), ("both", 1)])
    def test_what_cannot_be_refined_is_not_matched(self, counting_rule, neighbors, pairs):
        outputs = [frame_output([(0, s)], i) for i, s in enumerate((0.5, 0.9, 0.95))]
        run(ScoreRefiner(rule=counting_rule, neighbors=neighbors, track=False), outputs)
        assert counting_rule.count == pairs

    def test_same_class_and_minimum_similarity_reach_the_stream(self):
        def refined(**options):
            pair = [frame_output([(0, 0.9, 1)], 0), frame_output([(60, 0.5, 2)], 1)]
            return scores(run(ScoreRefiner(rule=AppearanceRule(**options)), pair))[1]

        assert refined() == [0.7]
        assert refined(same_class=True) == [0.5]
        assert refined(min_similarity=0.51) == [0.5]  # cos 60° = 0.5
        assert refined(min_similarity=0.49) == [0.7]

    @pytest.mark.parametrize("neighbors", NEIGHBORS)
    def test_one_frame_at_most_is_kept_of_a_long_stream(self, neighbors):
        refiner, embeddings = ScoreRefiner(neighbors=neighbors), []
        for i in range(20):
            output = frame_output([(i, 0.5)], i)
            embeddings.append(weakref.ref(output["instances"].embeddings))
            refiner.update(output, video_id="a", frame_index=i)
            del output
            assert sum(ref() is not None for ref in embeddings) == 1
        refiner.flush()
        assert all(ref() is None for ref in embeddings)


class TestTracks:
    def test_by_hand(self):
        # Frame 1's detections are those of frame 0 in another order, and a new one; frame 2 lost
        # 0°, whose place the new one does not take: 85° and 80° are each other's best.
        outputs = [
            frame_output([(0, 0.9), (45, 0.9)], 0),
            frame_output([(46, 0.9), (1, 0.9), (80, 0.9)], 1),
            frame_output([(85, 0.9), (47, 0.9)], 2),
        ]
        ids = [o["instances"].track_id.tolist() for o in run(ScoreRefiner(), outputs)]
        assert ids == [[0, 1], [1, 0, 2], [2, 1]]

    def test_numbers_are_unique_in_a_video_and_start_again_in_the_next(self):
        refiner = ScoreRefiner(max_frame_gap=1)
        ids = []
        for video, number in (("a", 0), ("a", 5), ("b", 6)):
            (done,) = refiner.update(frame_output([(0, 0.9)]), video_id=video, frame_index=number)
            ids += done["instances"].track_id.tolist()
        assert ids == [0, 1, 0]

    def test_off(self):
        outputs = [frame_output([(0, 0.9)], i) for i in range(2)]
        done = run(ScoreRefiner(track=False), outputs)
        assert [o["instances"].track_id.tolist() for o in done] == [[-1], [-1]]


def offline(sequence, neighbors, mutual):
    """The rule applied to a whole video at once: the reference for the stream."""
    results = []
    for i, (s, e) in enumerate(sequence):
        candidates = []
        if neighbors in ("previous", "both") and i > 0:
            candidates.append(sequence[i - 1])
        if neighbors in ("next", "both") and i + 1 < len(sequence):
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
            for n in range(len(s)):
                match = int(similarity[n].argmax())
                if mutual and int(similarity[:, match].argmax()) != n:
                    continue
                if 0.2 <= s[n] <= 0.7 and similarity[n, match] > best[n] + 1e-6:
                    best[n], refined[n] = similarity[n, match], (s[n] + scores_q[match]) / 2
        results.append(refined)
    return results


@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    neighbors=st.sampled_from(NEIGHBORS),
    mutual=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_stream_equals_offline(seed, counts, neighbors, mutual):
    g = torch.Generator().manual_seed(seed)
    sequence = [(torch.rand(n, generator=g), torch.randn(n, 4, 2, 2, generator=g)) for n in counts]
    outputs = []
    for i, (s, e) in enumerate(sequence):
        corner = torch.rand(len(s), 2, generator=g) * 50
        boxes = Boxes(torch.cat([corner, corner + 9], dim=1))
        classes = torch.zeros(len(s), dtype=torch.int64)
        instances = Instances(
            (64, 64), pred_boxes=boxes, scores=s, pred_classes=classes, embeddings=e
        )
        outputs.append({"instances": instances, "number": i})
    rule = AppearanceRule(mutual_nn=mutual)
    done = run(ScoreRefiner(rule=rule, neighbors=neighbors), outputs)
    for output, before, expected in zip(done, outputs, offline(sequence, neighbors, mutual)):
        assert torch.allclose(output["instances"].scores, expected, atol=1e-6)
        assert output["instances"].pred_boxes is before["instances"].pred_boxes


class TestConfig:
    def test_the_papers_is_the_default(self):
        refiner = ScoreRefiner(get_msnet_cfg())
        assert refiner.rule == AppearanceRule()
        assert refiner.rule.score_range == (0.2, 0.7)
        assert refiner.neighbors == "previous"
        assert refiner.delay == 0
        assert refiner.rule.same_class is False
        assert refiner.rule.min_similarity == -1.0
        assert refiner.rule.mutual_nn is False
        assert refiner.running_mean is False

    @pytest.mark.parametrize(
        ("opts", "message"),
        [
            (["TEST.SCORE_REFINEMENT.NEIGHBORS", "sideways"], "NEIGHBORS is 'sideways'"),
            (["TEST.SCORE_REFINEMENT.SCORE_RANGE", "(0.7, 0.2)"], "0 <= C0 <= C1 <= 1"),
            (["TEST.SCORE_REFINEMENT.MAX_FRAME_GAP", 0], "MAX_FRAME_GAP is 0"),
            # the names of earlier versions
            (["MODEL.SRN.NEIGHBOUR", "sideways"], "NEIGHBORS is 'sideways'"),
            (["MODEL.SRN.SCORE_RANGE", "(0.7, 0.2)"], "0 <= C0 <= C1 <= 1"),
            (["MODEL.SRN.MAX_GAP", 0], "MAX_FRAME_GAP is 0"),
        ],
    )
    def test_what_contradicts_itself(self, opts, message):
        with pytest.raises(ConfigError, match=message):
            ScoreRefiner(get_msnet_cfg(opts=opts))

    def test_scores_of_a_refined_detector_alone_are_refined(self):
        cfg = get_msnet_cfg()
        assert not refines_scores(cfg)
        assert build_score_refiner(cfg) is None
        cfg.MODEL.META_ARCHITECTURE = "RefinedDetector"
        assert refines_scores(cfg)
        assert isinstance(build_score_refiner(cfg), ScoreRefiner)
        cfg.TEST.SCORE_REFINEMENT.ENABLED = False
        assert build_score_refiner(cfg) is None
