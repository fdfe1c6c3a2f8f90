"""The configuration keys of this project."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

from msnet_d2.config.ranges import OVERLAP, RANGES, Range

__all__ = ["add_bcnet_config"]


def add_bcnet_config(cfg: CN) -> None:
    """Add ``MODEL.BCNET`` to ``cfg``, in place.

    Width and depth of the head are Detectron2's ``MODEL.ROI_MASK_HEAD.CONV_DIM`` (that of the
    feature maps) and ``NUM_CONV`` (even). "Paper" below is BCNet (Ke, Tai, Tang, CVPR 2021),
    "code" what its authors published.
    """
    RANGES.update(
        {
            "MODEL.BCNET.MIN_IOU": OVERLAP,
            "MODEL.BCNET.MIN_PIXELS": Range(0, 1_000_000),
            "MODEL.BCNET.WEIGHTS": Range(0, 1000),
        }
    )
    cfg.MODEL.BCNET = CN()
    # Whether there is an occluder layer. Paper: yes; without it the occludee layer stands alone
    # (the paper's "single" rows).
    cfg.MODEL.BCNET.BILAYER = True
    # Whether a graph convolution stands in the middle of each layer. Paper: yes ("GCN" against
    # "FCN").
    cfg.MODEL.BCNET.GCN = True
    # Its normalisation: "LN" (paper: LayerNorm, then ReLU) or "BN" (code: batch normalisation
    # without ReLU; it starts at zero here, as a comment in the code wants it).
    cfg.MODEL.BCNET.GCN_NORM = "LN"
    # Whether boundaries are predicted beside masks. Paper: yes.
    cfg.MODEL.BCNET.BOUNDARY = True
    # Weights of the losses of the mask, the occluders' mask, the boundary and the occluders'
    # boundary. The paper names none; these are the code's, whose boundary loss is 0.5 times twice
    # the same.
    cfg.MODEL.BCNET.WEIGHTS = (1.0, 0.25, 1.0, 1.0)
    # What an object's occluders are. "others" (code): all others whose boxes overlap its own;
    # no order is known or used. "front": what of it other objects hide. "front+cover": what of it
    # anything hides, such as trees. The latter two need amodal truth.
    cfg.MODEL.BCNET.OCCLUDERS = "others"
    # Of "others": the boxes' IoU must be above this (code: 0.05).
    cfg.MODEL.BCNET.MIN_IOU = 0.05
    # Occluders of so few pixels in an object's box are none (code: 20).
    cfg.MODEL.BCNET.MIN_PIXELS = 20
    # What the mask of an object is: "visible", or "amodal", all of it, which needs amodal truth.
    cfg.MODEL.BCNET.TARGET = "visible"
