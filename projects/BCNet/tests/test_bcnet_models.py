"""The head in other models than Faster R-CNN, and behind a stock checkpoint."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks
from detectron2.utils.events import EventStorage
from helpers.batches import make_batch, two_parts_one_parent

from msnet_d2.checkpoint import MSNetCheckpointer


def with_bcnet(cfg, **keys):
    cfg.MODEL.ROI_MASK_HEAD.NAME, cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = "BCNetMaskHead", 2
    for key, value in keys.items():
        cfg.MODEL.BCNET[key] = value
    return cfg


def batch():
    gt = two_parts_one_parent()
    masks = torch.zeros(2, *gt.image_size, dtype=torch.bool)
    masks[0, 30:46, 30:50], masks[1, 34:60, 52:70] = True, True
    gt.gt_masks, gt.gt_occluder_masks = BitMasks(masks), BitMasks(masks.cummax(1)[0])
    return make_batch(gt)


@pytest.mark.parametrize("heads", ["StandardROIHeads", "MaskedClassROIHeads", "CascadeROIHeads"])
@pytest.mark.parametrize("generator", ["HierarchicalRPN", "RPN"])
def test_it_stands_in_any_roi_heads(tiny_cfg, heads, generator):
    cfg = with_bcnet(tiny_cfg)
    cfg.MODEL.ROI_HEADS.NAME = heads
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE = 0.0, 3
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = heads == "CascadeROIHeads"
    if generator == "RPN":
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.PROPOSAL_GENERATOR.NAME = "GeneralizedRCNN", "RPN"
    torch.manual_seed(0)
    model = build_model(cfg)
    with EventStorage():
        losses = model.train()(batch())
    assert {"loss_mask", "loss_boundary", "loss_occluder_mask"} <= losses.keys()
    assert all(torch.isfinite(loss) for loss in losses.values())
    with torch.no_grad():
        (output,) = model.eval()(batch())
    assert output["instances"].pred_masks.shape == (3, 96, 128)


def test_half_precision_trains_without_nan(tiny_cfg):
    torch.manual_seed(0)
    model = build_model(with_bcnet(tiny_cfg)).train()
    with EventStorage(), torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch())
    sum(losses.values()).backward()
    head = model.roi_heads.mask_head
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())
    assert losses["loss_occluder_mask"] > 0
    assert all(x.dtype == torch.float32 for n, x in losses.items() if "occluder" in n)


def test_a_stock_checkpoint_sets_all_but_what_bcnet_adds(tiny_cfg, tmp_path):
    stock = tiny_cfg.clone()
    stock.MODEL.ROI_MASK_HEAD.NUM_CONV = 2
    given = build_model(stock)
    torch.save({"model": given.state_dict()}, tmp_path / "stock.pth")
    model = build_model(with_bcnet(tiny_cfg))
    checkpointer = MSNetCheckpointer(model)
    checkpointer.load(str(tmp_path / "stock.pth"))
    report = checkpointer.report
    differing = [d.name for d in (*report.expected, *report.suspicious)]
    added = ("occluder", "boundary", "mask_gcn")
    prefix = "roi_heads.mask_head."
    assert differing
    assert all(name.removeprefix(prefix).startswith(added) for name in differing)
    for name in ("mask_fcn1", "mask_fcn2", "deconv", "predictor"):
        assert f"{prefix}{name}.weight" in report.loaded
        ours, theirs = (m.get_parameter(f"{prefix}{name}.weight") for m in (model, given))
        assert torch.equal(ours, theirs)
