"""The configuration keys of this project."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

from msnet_d2.config.ranges import COUNT, OVERLAP, PROBABILITY, RANGES, Range
from msnet_d2.config.renamed_keys import RENAMED_KEYS

__all__ = ["add_polarmask_config"]


def add_polarmask_config(cfg: CN) -> None:
    """Add ``MODEL.POLARMASK`` to ``cfg``, in place. Classes are ``MODEL.ROI_HEADS.NUM_CLASSES``.

    "Paper" below is PolarMask (Xie et al., CVPR 2020).
    """
    RENAMED_KEYS["MODEL.POLARMASK.CENTRE"] = "MODEL.POLARMASK.CENTER"
    RENAMED_KEYS["MODEL.POLARMASK.CENTRE_SAMPLING_RADIUS"] = (
        "MODEL.POLARMASK.CENTER_SAMPLING_RADIUS"
    )
    RANGES.update(
        {
            "MODEL.POLARMASK.NMS_THRESH_TEST": OVERLAP,
            "MODEL.POLARMASK.NUM_RAYS": Range(3, 3600),
            "MODEL.POLARMASK.SCORE_THRESH_TEST": PROBABILITY,
            "MODEL.POLARMASK.TOPK_CANDIDATES_TEST": COUNT,
        }
    )
    cfg.MODEL.POLARMASK = CN()
    # Feature maps of the head, finest first. Each is responsible for objects of its scale: a
    # location takes an object if the farthest side of its box is 4 to 8 strides away; the first
    # takes smaller ones too, the last larger ones.
    cfg.MODEL.POLARMASK.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # Rays at equal angles. Paper: 36, that is one every 10 degrees.
    cfg.MODEL.POLARMASK.NUM_RAYS = 36
    # A ray that meets no contour is as long as this, in pixels (paper: 1e-6).
    cfg.MODEL.POLARMASK.MIN_RAY_LENGTH = 1e-6
    # Centre of an object: "mass" (paper, its better choice) or "box".
    cfg.MODEL.POLARMASK.CENTER = "mass"
    # Locations within so many strides of the centre, along both axes, are positive. Paper: 1.5.
    cfg.MODEL.POLARMASK.CENTER_SAMPLING_RADIUS = 1.5
    # Convolutions of each of the head's two branches, and their normalisation ("" for none). Paper:
    # 4, GN.
    cfg.MODEL.POLARMASK.NUM_CONVS = 4
    cfg.MODEL.POLARMASK.NORM = "GN"
    # Probability of an object that the classifier starts from, and the parameters of its focal
    # loss.
    cfg.MODEL.POLARMASK.PRIOR_PROB = 0.01
    cfg.MODEL.POLARMASK.FOCAL_LOSS_ALPHA = 0.25
    cfg.MODEL.POLARMASK.FOCAL_LOSS_GAMMA = 2.0
    # Detections: least score, most candidates per feature map, and the NMS threshold on the masks'
    # boxes. A score is the root of class probability times centerness, as in Detectron2's FCOS; the
    # paper takes the product, which ranks the detections alike. So its threshold of 0.05 on the
    # product corresponds to 0.22 here.
    cfg.MODEL.POLARMASK.SCORE_THRESH_TEST = 0.05
    cfg.MODEL.POLARMASK.TOPK_CANDIDATES_TEST = 1000
    cfg.MODEL.POLARMASK.NMS_THRESH_TEST = 0.5
