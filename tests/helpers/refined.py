"""Small refined detectors, and what they are trained and run on."""

from __future__ import annotations

import torch
from detectron2.modeling import build_model


def with_detector(cfg, name):
    """The config with another detector: Detectron2's own, on the same backbone."""
    model = cfg.MODEL
    model.SRN.DETECTOR = name
    if name != "MSNet":
        model.PROPOSAL_GENERATOR.NAME = "RPN"
    if name == "RetinaNet":
        model.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
        model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = ["res3", "res4", "res5"]
        model.RETINANET.NUM_CLASSES = 3
    return cfg


def build(cfg, seed=0):
    torch.manual_seed(seed)
    return build_model(cfg)


def triplet(frames=4, size=(64, 96), seed=0):
    g = torch.Generator().manual_seed(seed)
    return {"triplet": (torch.rand(frames, 3, *size, generator=g) * 255).to(torch.uint8)}


def video(count=3, size=(96, 128), seed=0):
    g = torch.Generator().manual_seed(seed)
    image = (torch.rand(3, *size, generator=g) * 255).to(torch.uint8)
    return [
        {
            "image": image.roll(3 * i, dims=2),
            "height": size[0],
            "width": size[1],
            "video_id": "flight",
            "frame_index": i,
        }
        for i in range(count)
    ]
