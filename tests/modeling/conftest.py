"""Fixtures of this folder: feature maps and models."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.proposal_generator import build_proposal_generator
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from helpers.batches import SIZE

from msnet_d2.modeling.proposal_generator.hierarchical_rpn import HierarchicalRPN

FEATURES = ["p2", "p3", "p4", "p5", "p6"]
STRIDES = [4, 8, 16, 32, 64]
CHANNELS = 32


@pytest.fixture
def input_shape():
    return {f: ShapeSpec(channels=CHANNELS, stride=s) for f, s in zip(FEATURES, STRIDES)}


@pytest.fixture
def tiny_model(tiny_cfg):
    """An MSNet that detects something although untrained: all scores pass."""
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    torch.manual_seed(0)
    return build_model(tiny_cfg)


@pytest.fixture
def make_inputs():
    """(n, seed) -> images and features of n images of SIZE."""

    def make(n: int = 2, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        images = ImageList(torch.zeros(n, 3, *SIZE), [SIZE] * n)
        features = {
            f: torch.randn(n, CHANNELS, -(-SIZE[0] // s), -(-SIZE[1] // s), generator=generator)
            for f, s in zip(FEATURES, STRIDES)
        }
        return images, features

    return make


@pytest.fixture
def storage():
    """The event storage that Detectron2's losses write to."""
    with EventStorage() as storage:
        yield storage


@pytest.fixture
def make_hrpn(tiny_cfg, input_shape):
    """Overrides of config keys (in MODEL.HRPN unless dotted) -> reproducible HierarchicalRPN."""

    def make(seed: int = 0, **keys) -> HierarchicalRPN:
        cfg = tiny_cfg.clone()
        for key, value in keys.items():
            full = key.replace("__", ".") if "__" in key else f"MODEL.HRPN.{key}"
            cfg.merge_from_list([full, value])
        torch.manual_seed(seed)
        hrpn = build_proposal_generator(cfg, input_shape)
        assert isinstance(hrpn, HierarchicalRPN)
        # Weights as initialised predict the anchors themselves at probabilities of one half; spread
        # them out.
        for rpn in (hrpn, hrpn.parent_rpn):
            torch.nn.init.normal_(rpn.rpn_head.objectness_logits.weight, std=0.1)
            torch.nn.init.normal_(rpn.rpn_head.anchor_deltas.weight, std=0.05)
        return hrpn

    return make


@pytest.fixture
def fix_parents(monkeypatch):
    """A function after which the parent RPN proposes just the given boxes."""

    def fix(hrpn, boxes_per_image, logits=None, size=(96, 128)):
        """Let the parent RPN propose just these boxes (best first)."""

        def predict_proposals(anchors, pred_logits, deltas, image_sizes):
            result = []
            for boxes in boxes_per_image:
                boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
                values = torch.zeros(len(boxes)) if logits is None else torch.tensor(logits)
                result.append(
                    Instances(size, proposal_boxes=Boxes(boxes), objectness_logits=values)
                )
            return result

        monkeypatch.setattr(hrpn.parent_rpn, "predict_proposals", predict_proposals)

    return fix


@pytest.fixture
def record_labels(monkeypatch):
    """A function that returns the dict in which forward will leave the part RPN's labels."""

    def record_of(hrpn):
        """What the part RPN's loss is given: "labels", "matched" and "anchors"."""
        seen = {}
        losses = hrpn.losses

        def record(anchors, logits, labels, deltas, matched):
            seen.update(labels=labels, matched=matched, anchors=Boxes.cat(anchors).tensor)
            return losses(anchors, logits, labels, deltas, matched)

        monkeypatch.setattr(hrpn, "losses", record)
        return seen

    return record_of
