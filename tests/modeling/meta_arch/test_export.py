"""Models with a hierarchical RPN are traced as Detectron2's own are."""

from __future__ import annotations

import pytest
import torch
from detectron2.export import TracingAdapter, scripting_with_instances
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from torch import Tensor

from msnet_d2.errors import ConfigError


def detect(model, inputs):
    return [{"instances": model.inference(inputs, do_postprocess=False)[0]}]


def picture(seed, height=96, width=128):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 255


@pytest.mark.parametrize("metric", ["ioa", "iou"])
@pytest.mark.parametrize("architecture", ["MSNet", "GeneralizedRCNN"])
def test_a_traced_model_finds_in_other_pictures_what_the_model_finds(
    tiny_cfg, architecture, metric
):
    tiny_cfg.MODEL.META_ARCHITECTURE = architecture
    tiny_cfg.MODEL.HRPN.METRIC = metric
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    torch.manual_seed(0)
    model = build_model(tiny_cfg).eval()
    # So that some parents keep some of the anchors, and not all.
    with torch.no_grad():
        model.proposal_generator.parent_rpn.rpn_head.anchor_deltas.weight.mul_(30)
    inputs = [{"image": picture(0)}]
    adapter = TracingAdapter(model, inputs, detect)
    with torch.no_grad():
        traced = torch.jit.trace(adapter, (picture(0),), check_trace=False)
        sizes = set()
        for image in (picture(0), picture(1), picture(2, 120, 160), torch.full((3, 96, 128), 9.0)):
            (expected,) = model.inference([{"image": image}], do_postprocess=False)
            found = adapter.outputs_schema(traced(image))[0]["instances"]
            assert len(found) == len(expected)
            sizes.add(len(found))
            torch.testing.assert_close(
                found.pred_boxes.tensor, expected.pred_boxes.tensor, atol=1e-2, rtol=1e-3
            )
            torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-3)
            if architecture == "MSNet":
                torch.testing.assert_close(
                    found.pred_parent_boxes.tensor,
                    expected.pred_parent_boxes.tensor,
                    atol=1e-2,
                    rtol=1e-3,
                )
    assert max(sizes) > 0


def test_scripting_says_when_it_begins_that_it_cannot(tiny_cfg):
    model = build_model(tiny_cfg).eval()
    with pytest.raises(ConfigError, match="cannot be scripted, .* trace the model"):
        scripting_with_instances(model, {"proposal_boxes": Boxes, "objectness_logits": Tensor})
