"""MSNet with the rest of Detectron2: augmentation, precision, ROI heads, backbones, CUDA."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from detectron2.structures import BitMasks
from helpers.batches import SIZE, make_batch, make_gt, two_parts_one_parent

from msnet_d2.modeling.meta_arch.msnet import MSNet

RPN_LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_rpn_parent_cls", "loss_rpn_parent_loc"}


def test_test_time_augmentation(tiny_cfg, tiny_model):
    tiny_cfg.TEST.AUG.MIN_SIZES = (64, 96)
    tiny_cfg.TEST.AUG.MAX_SIZE = 160
    tta = GeneralizedRCNNWithTTA(tiny_cfg, tiny_model.eval())
    with torch.no_grad():
        output = tta(make_batch(None))[0]
    assert len(output["instances"]) > 0
    assert output["instances"].pred_masks.shape[1:] == SIZE


def test_mixed_precision(tiny_model, storage):
    """bfloat16: losses and outputs are finite, boxes and scores come in full precision."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = tiny_model(make_batch(two_parts_one_parent()))
        sum(losses.values()).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    tiny_model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = tiny_model(make_batch(None))[0]
    assert len(output["instances"]) > 0
    assert len(output["parents"]) > 0
    assert output["parents"].scores.dtype == torch.float32
    assert output["instances"].pred_parent_boxes.tensor.dtype == torch.float32
    assert torch.isfinite(output["instances"].parent_scores).all()


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_give_the_same(tiny_model, how):
    """Deep copies (weight averaging) and pickles (spawned workers)."""
    tiny_model.eval()
    batch = make_batch(None)
    with torch.no_grad():
        a, b = tiny_model(batch)[0], how(tiny_model)(batch)[0]
    assert torch.equal(
        a["instances"].pred_parent_boxes.tensor, b["instances"].pred_parent_boxes.tensor
    )
    assert torch.equal(a["parents"].scores, b["parents"].scores)


def cascade(cfg):
    cfg.MODEL.ROI_HEADS.NAME = "CascadeROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    return cfg


def point_rend(cfg):
    from detectron2.projects.point_rend import add_pointrend_config

    base = get_cfg()
    add_pointrend_config(base)
    cfg.MODEL.POINT_HEAD = base.MODEL.POINT_HEAD
    for key in ("OUTPUT_SIDE_RESOLUTION", "IN_FEATURES", "FC_DIM", "NUM_FC"):
        if key in base.MODEL.ROI_MASK_HEAD:
            cfg.MODEL.ROI_MASK_HEAD[key] = base.MODEL.ROI_MASK_HEAD[key]
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
    cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = ""
    cfg.MODEL.ROI_MASK_HEAD.FC_DIM = 64
    cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON = True
    cfg.MODEL.POINT_HEAD.FC_DIM = 32
    cfg.MODEL.POINT_HEAD.NUM_CLASSES = 3
    cfg.MODEL.POINT_HEAD.IN_FEATURES = ["p2"]
    return cfg


@pytest.mark.parametrize("heads", [cascade, point_rend])
def test_other_roi_heads(tiny_cfg, storage, heads):
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 5
    model = build_model(heads(tiny_cfg))
    batch = make_batch(two_parts_one_parent(), make_gt())
    if heads is point_rend:  # it takes masks as bitmaps alone
        for item in batch:
            polygons = item["instances"].gt_masks
            item["instances"].gt_masks = BitMasks.from_polygon_masks(polygons, *SIZE)
    losses = model(batch)
    assert set(losses) > RPN_LOSSES
    sum(losses.values()).backward()
    model.eval()
    with torch.no_grad():
        output = model(make_batch(None))[0]
    assert len(output["instances"]) == 5
    assert output["instances"].pred_masks.shape == (5, *SIZE)
    assert output["instances"].has("pred_parent_boxes")


def test_proposal_network(tiny_cfg, storage):
    """HierarchicalRPN under another meta-architecture."""
    tiny_cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    model = build_model(tiny_cfg)
    losses = model(make_batch(two_parts_one_parent()))
    assert set(losses) == RPN_LOSSES
    model.eval()
    with torch.no_grad():
        assert len(model(make_batch(None))[0]["proposals"]) > 0


def resnext(cfg):
    cfg.MODEL.RESNETS.DEPTH = 50
    cfg.MODEL.RESNETS.NUM_GROUPS = 4
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 16
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 32
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    return build_model(cfg)


def swin(cfg):
    from detectron2.modeling.backbone import FPN, SwinTransformer
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool

    body = SwinTransformer(
        embed_dim=8,
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 2, 2),
        window_size=4,
        out_indices=range(4),
    )
    return with_backbone(cfg, FPN(body, ["p0", "p1", "p2", "p3"], 32, top_block=LastLevelMaxPool()))


def vitdet(cfg):
    from detectron2.modeling.backbone import SimpleFeaturePyramid, ViT
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool

    body = ViT(
        img_size=128,
        patch_size=16,
        embed_dim=16,
        depth=2,
        num_heads=2,
        window_size=4,
        window_block_indexes=[0],
        use_rel_pos=True,
        out_feature="last_feat",
    )
    pyramid = SimpleFeaturePyramid(
        body,
        "last_feat",
        32,
        (4.0, 2.0, 1.0, 0.5),
        top_block=LastLevelMaxPool(),
        norm="LN",
        square_pad=128,
    )
    return with_backbone(cfg, pyramid)


def with_backbone(cfg, backbone):
    """An MSNet whose backbone Detectron2 has no YAML builder for; built as a LazyConfig does."""
    from detectron2.modeling import build_proposal_generator, build_roi_heads

    return MSNet(
        backbone=backbone,
        proposal_generator=build_proposal_generator(cfg, backbone.output_shape()),
        roi_heads=build_roi_heads(cfg, backbone.output_shape()),
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
    )


@pytest.mark.parametrize("build", [resnext, swin, vitdet])
def test_other_backbones(tiny_cfg, storage, build):
    model = build(tiny_cfg)
    losses = model(make_batch(two_parts_one_parent()))
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    model.eval()
    with torch.no_grad():
        assert set(model(make_batch(None))[0]) == {"instances", "parents"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_detects_what_cpu_detects(tiny_model):
    tiny_model.eval()
    batch = make_batch(None)
    with torch.no_grad():
        cpu = tiny_model(batch)[0]
        cuda = tiny_model.to("cuda")(batch)[0]
    assert cuda["instances"].pred_parent_boxes.device.type == "cuda"
    torch.testing.assert_close(
        cuda["parents"].scores[:20].cpu(), cpu["parents"].scores[:20], atol=1e-3, rtol=1e-3
    )
