"""BCNet's configs build, train a step, and differ in the mask head alone; it learns an image."""

from __future__ import annotations

from pathlib import Path

import bcnet
import pytest
import torch
from bcnet.losses import boundaries
from bcnet.mask_head import BCNetMaskHead
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from msnet_d2.cli import main
from msnet_d2.config import get_msnet_cfg

PROJECT = Path(bcnet.__file__).resolve().parents[1]
QUICK, R50 = "quick/bcnet_lite0_FPN.yaml", "bcnet_R50_FPN.yaml"
AMODAL, BASELINE = "quick/bcnet_amodal_lite0_FPN.yaml", "quick/mask_rcnn_amodal_lite0_FPN.yaml"


@pytest.mark.parametrize(
    ("config", "stock"),
    [
        (QUICK, "quick/mask_rcnn_D_lite0_FPN.yaml"),
        (R50, "mask_rcnn_D_R50_FPN.yaml"),
        (AMODAL, BASELINE),
    ],
    ids=["quick", "R50", "amodal"],
)
def test_all_but_the_mask_head_is_mask_rcnns(config, stock):
    ours, theirs = get_msnet_cfg(config), get_msnet_cfg(stock)
    assert ours.MODEL.ROI_MASK_HEAD.NAME == "BCNetMaskHead"
    ours.MODEL.ROI_MASK_HEAD.NAME = theirs.MODEL.ROI_MASK_HEAD.NAME
    ours.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = theirs.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK
    ours.INPUT.MAPPER, ours.INPUT.MASK_FORMAT = theirs.INPUT.MAPPER, theirs.INPUT.MASK_FORMAT
    assert ours == theirs


def two_houses(size=(96, 128)) -> Instances:
    """A house behind another, whole masks; the one in front is the occluder."""
    gt = Instances(size)
    gt.gt_boxes = Boxes(torch.tensor([[16.0, 20, 80, 68], [56, 28, 120, 76]]))
    gt.gt_classes = torch.tensor([0, 1])
    masks = torch.zeros(2, *size, dtype=torch.bool)
    masks[0, 20:68, 16:80], masks[1, 28:76, 56:120] = True, True
    occluders = torch.zeros_like(masks)
    occluders[0] = masks[0] & masks[1]
    gt.gt_masks, gt.gt_occluder_masks = BitMasks(masks), BitMasks(occluders)
    return gt


def picture_of(gt: Instances, size=(96, 128)) -> torch.Tensor:
    image = torch.full((3, *size), 90, dtype=torch.uint8)
    for mask, color in zip(gt.gt_masks.tensor, ((200, 60, 60), (60, 60, 200))):
        image[:, mask] = torch.tensor(color, dtype=torch.uint8)[:, None]
    return image


@pytest.mark.parametrize("config", [QUICK, R50, AMODAL], ids=["quick", "R50", "amodal"])
def test_a_step_and_a_detection(config):
    if config != R50:
        pytest.importorskip("timm")
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", ""]
    opts += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 5]
    model = build_model(get_msnet_cfg(config, opts))
    assert type(model.roi_heads.mask_head) is BCNetMaskHead
    gt = two_houses()
    inputs = {"image": picture_of(gt), "height": 48, "width": 64}
    with EventStorage():
        losses = model.train()([{**inputs, "instances": gt}])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_occluder_mask"] > 0, "no region has an occluder"
    with torch.no_grad():
        (output,) = model.eval()([inputs])
    assert output["instances"].pred_masks.shape[1:] == (48, 64)
    assert output["instances"].pred_occluder_masks.shape[1:] == (1, 28, 28)
    # "others" are no order: nothing is known to be hidden.
    assert output["instances"].has("pred_hidden_masks") == (config == AMODAL)


def test_it_learns_what_is_whole_and_what_hides_it():
    """The head alone, on features that show what is seen of a house and what is before it."""
    torch.manual_seed(0)
    whole, occluder = torch.zeros(8, 14, 14), torch.zeros(8, 14, 14)
    for number in range(8):
        whole[number, 2:11, 1 : 7 + number // 2] = 1
        occluder[number, 4 : 6 + number, 4 + number // 2 :] = number % 4 > 0
    head = BCNetMaskHead(ShapeSpec(channels=32, height=14, width=14), num_classes=1, num_conv=2)
    features = torch.zeros(8, 32, 14, 14)
    features[:, 0], features[:, 1] = whole * (1 - occluder), occluder

    def upscaled(masks):
        return BitMasks(masks.repeat_interleave(2, 1).repeat_interleave(2, 2) > 0.5)

    truth = Instances((28, 28), proposal_boxes=Boxes(torch.tensor([[0.0, 0, 28, 28]] * 8)))
    truth.gt_masks, truth.gt_occluder_masks = upscaled(whole), upscaled(occluder)
    truth.gt_classes = torch.zeros(8, dtype=torch.int64)
    optimizer = torch.optim.AdamW(head.train().parameters(), lr=2e-3)
    with EventStorage():
        for _ in range(300):
            losses = head(features, [truth])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
    detections = Instances((28, 28), pred_classes=truth.gt_classes)
    with torch.no_grad():
        (found,) = head.eval()(features, [detections])

    def iou(probabilities, masks):
        predicted = probabilities[:, 0] > 0.5
        return (predicted & masks).sum() / (predicted | masks).sum()

    hidden = truth.gt_masks.tensor & truth.gt_occluder_masks.tensor
    assert hidden.flatten(1).any(1).sum() == 6
    assert (found.pred_masks[:, 0][hidden] > 0.5).float().mean() > 0.95
    assert iou(found.pred_masks, truth.gt_masks.tensor) > 0.9
    assert iou(found.pred_occluder_masks, truth.gt_occluder_masks.tensor) > 0.9
    for name, masks in (
        ("boundaries", truth.gt_masks),
        ("occluder_boundaries", truth.gt_occluder_masks),
    ):
        assert iou(found.get(f"pred_{name}"), boundaries(masks.tensor)) > 0.4


SMALL = ["INPUT.MIN_SIZE_TRAIN", "(64,64)", "INPUT.MIN_SIZE_TEST", "64", "MODEL.TIMM.WEIGHTS", ""]
SMALL += ["SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "1", "SOLVER.WARMUP_ITERS", "0"]
SMALL += ["DATALOADER.NUM_WORKERS", "0"]


def test_the_commands_train_and_evaluate_it(tiny_data, tmp_path, capsys):
    pytest.importorskip("timm")
    data = ["DATASETS.TRAIN", f"{tiny_data}:train", "DATASETS.TEST", f"{tiny_data}:val"]
    out = tmp_path / "run"
    command = ["train", "--config-file", QUICK, "OUTPUT_DIR", str(out)]
    assert main([*command, *SMALL, *data]) == 0
    assert (out / "inference" / "metrics.json").is_file()
    wrong = [*command, *SMALL, *data, "MODEL.BCNET.TARGET", "amodal"]
    capsys.readouterr()
    assert main([*wrong[:4], str(tmp_path / "other"), *wrong[5:]]) == 2
    assert "needs amodal truth" in capsys.readouterr().err
