"""The rule that refines scores: by hand, and its invariants."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.errors import ConfigError
from msnet_d2.score_refinement.matching import AppearanceRule


def cells(*vectors):
    """Embeddings (N, C, 1, 1) with one cell each."""
    return torch.tensor(vectors, dtype=torch.float32)[:, :, None, None]


def detections(scores, embeddings, classes=None):
    """Instances with what the rule reads."""
    scores = torch.as_tensor(scores, dtype=torch.float32)
    classes = torch.zeros(len(scores), dtype=torch.int64) if classes is None else classes
    return Instances((9, 9), scores=scores, pred_classes=classes, embeddings=embeddings)


def refine_scores(scores_p, p, scores_q, q, *, classes_p=None, classes_q=None, **options):
    """The scores of a frame P, refined by those of a frame Q."""
    rule = AppearanceRule(same_class=classes_p is not None, **options)
    p, q = detections(scores_p, p, classes_p), detections(scores_q, q, classes_q)
    matches = rule.match(p, q)
    return rule.refine(p.scores, [matches.forward.with_scores(q.scores)])[0]


def refine(scores_p, p, scores_q, q, **options):
    return refine_scores(scores_p, p, scores_q, q, **options)


class TestRule:
    def test_by_hand(self):
        # P's first is most like Q's second (cos 0.96 against 0.6): (0.4 + 0.9) / 2. P's second
        # equals Q's first: (0.6 + 0.1) / 2. P's third and fourth lie outside [0.2, 0.7] and stay.
        p = cells((3, 4), (1, 0), (1, 0), (1, 0))
        q = cells((1, 0), (4, 3))
        new = refine([0.4, 0.6, 0.1, 0.8], p, [0.1, 0.9], q)
        assert new.tolist() == pytest.approx([0.65, 0.35, 0.1, 0.8])

    def test_similarity_is_the_mean_over_cells(self):
        # Against Q's first the cells' cosines are 1 and 0, mean 0.5; against its second 0.6 and
        # 0.6, mean 0.6.
        p = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]])
        q = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]], [[[3.0, 3.0]], [[4.0, 4.0]]]])
        assert refine([0.5], p, [0.9, 0.3], q).tolist() == pytest.approx([0.4])

    @pytest.mark.parametrize(
        ("score", "refined"), [(0.2, True), (0.7, True), (0.19, False), (0.71, False)]
    )
    def test_both_ends_of_the_range_are_refined(self, score, refined):
        new = refine([score], cells((1, 0)), [1.0], cells((1, 0)))
        expected = torch.tensor((score + 1) / 2 if refined else score)
        assert new[0] == pytest.approx(float(expected))

    def test_another_range(self):
        new = refine(
            [0.05, 0.5], cells((1, 0), (1, 0)), [0.25], cells((1, 0)), score_range=(0.0, 0.1)
        )
        assert new.tolist() == pytest.approx([0.15, 0.5])

    def test_no_detection_in_q_or_in_p(self):
        assert refine([0.5], cells((1, 0)), [], torch.zeros(0, 2, 1, 1)).tolist() == [0.5]
        assert refine([], torch.zeros(0, 2, 1, 1), [0.5], cells((1, 0))).shape == (0,)

    def test_same_class(self):
        # Without the option the match is Q's first (equal); with it only Q's second has P's class.
        p, q = cells((1, 0)), cells((1, 0), (1, 1))
        classes = {"classes_p": torch.tensor([2]), "classes_q": torch.tensor([0, 2])}
        assert refine([0.5], p, [0.9, 0.3], q).tolist() == pytest.approx([0.7])
        assert refine([0.5], p, [0.9, 0.3], q, **classes).tolist() == pytest.approx([0.4])
        classes["classes_q"] = torch.tensor([0, 1])
        assert refine([0.5], p, [0.9, 0.3], q, **classes).tolist() == [0.5]

    def test_minimum_similarity(self):
        # cos((3, 4), (1, 0)) = 0.6
        p, q = cells((3, 4)), cells((1, 0))
        assert refine([0.5], p, [0.9], q, min_similarity=0.59).tolist() == pytest.approx([0.7])
        assert refine([0.5], p, [0.9], q, min_similarity=0.61).tolist() == [0.5]

    def test_mutual(self):
        # P's two are both most like Q's only one, (1, 0): cosines 1 and 0.8. It is most like P's
        # first, so that alone is refined: (0.4 + 0.9) / 2.
        p, q = cells((1, 0), (4, 3)), cells((1, 0))
        assert refine([0.4, 0.3], p, [0.9], q).tolist() == pytest.approx([0.65, 0.6])
        assert refine([0.4, 0.3], p, [0.9], q, mutual_nn=True).tolist() == pytest.approx(
            [0.65, 0.3]
        )

    def test_mutual_among_those_of_one_class(self):
        # P's second is the only one of Q's class: less similar than P's first, but the match.
        p, q = cells((1, 0), (4, 3)), cells((1, 0))
        classes = {"classes_p": torch.tensor([0, 1]), "classes_q": torch.tensor([1])}
        new = refine([0.4, 0.3], p, [0.9], q, mutual_nn=True, **classes)
        assert new.tolist() == pytest.approx([0.4, 0.6])

    def test_mutual_without_detections(self):
        none = torch.zeros(0, 2, 1, 1)
        assert refine([0.5], cells((1, 0)), [], none, mutual_nn=True).tolist() == [0.5]
        assert refine([], none, [0.5], cells((1, 0)), mutual_nn=True).shape == (0,)

    def test_a_box_under_two_classes_counts_with_its_higher_score(self):
        p, q = cells((1, 2)), cells((2, 1), (1, 2), (1, 2))
        assert refine([0.5], p, [1.0, 0.3, 0.7], q).tolist() == pytest.approx([0.6])
        assert refine([0.5], p, [1.0, 0.7, 0.3], q).tolist() == pytest.approx([0.6])

    def test_the_scores_given_are_not_changed(self):
        scores = torch.tensor([0.4])
        new = refine_scores(scores, cells((1, 0)), torch.tensor([0.9]), cells((1, 0)))
        assert scores.tolist() == pytest.approx([0.4])
        assert new.tolist() == pytest.approx([0.65])

    def test_embeddings_of_two_networks_are_not_compared(self):
        with pytest.raises(ValueError, match=r"\(1, 2, 1, 1\) and \(1, 3, 1, 1\)"):
            refine([0.5], cells((1, 0)), [0.5], cells((1, 0, 0)))

    @pytest.mark.parametrize("score_range", [(0.7, 0.2), (-0.1, 0.5), (0.5, 1.1)])
    def test_a_range_that_is_none(self, score_range):
        with pytest.raises(ConfigError, match="0 <= C0 <= C1 <= 1"):
            AppearanceRule(score_range=score_range)

    def test_of_two_frames_the_more_similar_match_counts(self):
        # Like the frame before by 0.6 and the one behind by 0.8: (0.4 + 0.2) / 2. A match equally
        # similar in both counts with the frame before.
        rule, p = AppearanceRule(), detections([0.4], cells((1, 0)))
        before, behind = detections([0.9], cells((3, 4))), detections([0.2], cells((4, 3)))
        candidates = [rule.match(p, q).forward.with_scores(q.scores) for q in (before, behind)]
        scores, similarity = rule.refine(p.scores, candidates)
        assert (scores.item(), similarity.item()) == pytest.approx((0.3, 0.8))
        scores, _ = rule.refine(p.scores, [candidates[0], candidates[0]])
        assert scores.item() == pytest.approx(0.65)


frames = st.tuples(st.integers(0, 10_000), st.integers(0, 6), st.integers(0, 6))


def random_frames(seed, n, m):
    g = torch.Generator().manual_seed(seed)
    p, q = (torch.randn(k, 5, 2, 2, generator=g) for k in (n, m))
    return torch.rand(n, generator=g), p, torch.rand(m, generator=g), q


class TestInvariants:
    @given(frames)
    @settings(max_examples=50, deadline=None)
    def test_scores_outside_the_range_are_untouched_and_others_are_averages(self, frame):
        scores_p, p, scores_q, q = random_frames(*frame)
        new = refine_scores(scores_p, p, scores_q, q)
        outside = (scores_p < 0.2) | (scores_p > 0.7)
        assert torch.equal(new[outside], scores_p[outside])
        for i in (~outside).nonzero().flatten():
            averages = (scores_p[i] + scores_q) / 2 if len(scores_q) else scores_p[i : i + 1]
            assert (averages - new[i]).abs().min() < 1e-6

    @given(frames, st.randoms(use_true_random=False))
    @settings(max_examples=50, deadline=None)
    def test_the_order_of_detections_is_irrelevant(self, frame, random):
        scores_p, p, scores_q, q = random_frames(*frame)
        order_p, order_q = list(range(len(p))), list(range(len(q)))
        random.shuffle(order_p)
        random.shuffle(order_q)
        new = refine_scores(scores_p, p, scores_q, q)
        shuffled = refine_scores(scores_p[order_p], p[order_p], scores_q[order_q], q[order_q])
        assert torch.allclose(shuffled, new[order_p])

    @given(frames)
    @settings(max_examples=30, deadline=None)
    def test_a_frame_refined_by_itself_stays(self, frame):
        scores, p, _, _ = random_frames(*frame)
        assert torch.allclose(refine_scores(scores, p, scores, p), scores)
