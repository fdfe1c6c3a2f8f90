"""A fixed small model over a short flight: refined scores and tracks equal a reference in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.poolers import ROIPooler

from msnet_d2.score_refinement import ScoreRefiner
from msnet_d2.score_refinement.matching import AppearanceRule

PAPER = {}
STEADY = {"same_class": True, "mutual": True, "carry": True, "score_range": (0.0, 1.0)}
SIZE = (96, 128)  # of the network's input; outputs are twice as large


def flight(count=5):
    """Frames that move by 6 pixels each; the numbers of the last two are 40 apart."""
    g = torch.Generator().manual_seed(5)
    coarse = torch.rand(1, 3, 12, 32, generator=g) * 255
    wide = torch.nn.functional.interpolate(coarse, size=(96, 256), mode="bilinear")[0]
    numbers = [*range(count - 1), count + 38]
    return [
        {
            "image": wide[:, :, 6 * i : 6 * i + SIZE[1]].to(torch.uint8),
            "height": 2 * SIZE[0],
            "width": 2 * SIZE[1],
            "video_id": "flight",
            "frame_index": number,
        }
        for i, number in enumerate(numbers)
    ]


@pytest.fixture
def model(tiny_cfg):
    tiny_cfg.MODEL.META_ARCHITECTURE = "RefinedDetector"
    tiny_cfg.MODEL.SRN.DETECTOR = "MSNet"
    tiny_cfg.MODEL.SRN.FC_DIMS = [24, 16]
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 80
    torch.manual_seed(0)
    model = build_model(tiny_cfg).eval()
    # Spread out, so that scores lie within the paper's range and beyond it.
    predictor = model.detector.roi_heads.box_predictor
    torch.nn.init.normal_(predictor.cls_score.weight, std=0.003)
    predictor.test_score_thresh = 0.05
    return model


def embed_densely(model, frame, boxes):
    """(N, 16, 7, 7): all positions embedded, and pooled by Detectron2 at boxes of the output."""
    detector = model.detector
    features = detector.backbone(detector.preprocess_image([frame]).tensor)
    dense = model.srn(features)
    boxes = boxes.clone()
    boxes.scale(0.5, 0.5)
    pooler = ROIPooler(7, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 0, "ROIAlignV2")
    return pooler([dense[name] for name in ("p2", "p3", "p4", "p5")], [boxes]).double().numpy()


def similarities(p, q):
    """(N, M): cosines of cells, averaged."""
    p, q = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6) for x in (p, q))
    return np.einsum("nchw,mchw->nm", p, q) / p[0, 0].size


def reference(frames, neighbors, *, same_class, mutual, carry, score_range):
    """Refined scores and track numbers of frames (number, scores, classes, embeddings)."""
    pairs = {
        (i, j): similarities(frames[i][3], frames[j][3])
        for i in range(len(frames))
        for j in (i - 1, i + 1)
        if 0 <= j < len(frames)
    }

    def match(i, j, n):
        """(similarity, detection of frame j) that detection n of frame i matches; None."""
        (_, _, classes, _), (_, scores, others, _) = frames[i], frames[j]

        def best(similarity, allowed, scores):
            similarity = np.where(allowed, similarity, -np.inf)
            ties = np.flatnonzero(similarity >= similarity.max() - 1e-6)
            return ties[np.argmax(scores[ties])] if similarity.max() > -np.inf else None

        similarity = pairs[i, j]
        allowed = classes[:, None] == others if same_class else np.full(similarity.shape, True)
        found = best(similarity[n], allowed[n], scores)
        if found is None:
            return None
        back = best(similarity[:, found], allowed[:, found], frames[i][1])
        return None if mutual and back != n else (similarity[n, found], found)

    def adjacent(i, j):
        return i >= 0 and j < len(frames) and 0 < frames[j][0] - frames[i][0] <= 30

    low, high = score_range
    refined, tracks, carried, count = [], [], [], 0
    for i, (_, scores, _, _) in enumerate(frames):
        onward, result = scores.copy(), scores.copy()
        for n, score in enumerate(scores):
            options = []
            if neighbors != "next" and adjacent(i - 1, i) and (m := match(i, i - 1, n)):
                partner = (carried[i - 1] if carry else frames[i - 1][1])[m[1]]
                options.append((m[0], partner))
                onward[n] = (score + partner) / 2 if low <= score <= high else score
            if neighbors != "previous" and adjacent(i, i + 1) and (m := match(i, i + 1, n)):
                options.append((m[0], frames[i + 1][1][m[1]]))
            if options and low <= score <= high:
                first, last = options[0], options[-1]
                partner = last[1] if last[0] > first[0] + 1e-6 else first[1]
                result[n] = (score + partner) / 2
        ids = np.full(len(scores), -1)
        if adjacent(i - 1, i):
            similarity = pairs[i - 1, i]
            for n, m in enumerate(similarity.argmax(axis=0)):
                if similarity[m].argmax() == n and similarity[m, n] >= 0.5:
                    ids[n] = tracks[-1][m]
        new = ids < 0
        ids[new] = count + np.arange(new.sum())
        count += new.sum()
        refined.append(result)
        tracks.append(ids)
        carried.append(onward)
    return refined, tracks


def make_refiner(neighbors, options):
    """A refiner by the options of the reference."""
    rule = {k: v for k, v in options.items() if k in ("same_class", "score_range")}
    return ScoreRefiner(
        rule=AppearanceRule(mutual_nn=options.get("mutual", False), **rule),
        running_mean=options.get("carry", False),
        neighbors=neighbors,
    )


@pytest.mark.parametrize("neighbors", ["previous", "next", "both"])
@pytest.mark.parametrize("rule", [PAPER, STEADY], ids=["paper", "steady"])
def test_equals_a_reference(model, rule, neighbors):
    refiner = make_refiner(neighbors, rule)
    frames, outputs = [], []
    with torch.no_grad():
        for frame in flight():
            (output,) = model([frame])
            instances = output["instances"]
            frames.append(
                (
                    frame["frame_index"],
                    instances.scores.double().numpy(),
                    instances.pred_classes.numpy(),
                    embed_densely(model, frame, instances.pred_boxes),
                )
            )
            outputs += refiner.update(output, video_id="flight", frame_index=frame["frame_index"])
    outputs += refiner.flush()
    options = {"same_class": False, "mutual": False, "carry": False, "score_range": (0.2, 0.7)}
    refined, tracks = reference(frames, neighbors, **options | rule)
    assert len(outputs) == len(frames)
    changed = 0
    for output, (_, scores, _, _), expected, ids in zip(outputs, frames, refined, tracks):
        instances = output["instances"]
        assert instances.scores_raw.numpy() == pytest.approx(scores)
        assert instances.scores.numpy() == pytest.approx(expected, abs=1e-6)
        assert instances.track_id.tolist() == ids.tolist()
        changed += int((np.abs(expected - scores) > 1e-3).sum())
    assert changed >= 5  # the comparison was not one of scores as they came
