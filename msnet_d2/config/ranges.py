"""The values that prediction can work with, in one table.

Outside of these a model sees nothing, such as at a score threshold of 2 or in pictures of one
pixel, and would answer "no damage" without a word; or it takes all memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode

from msnet_d2.errors import ConfigError
from msnet_d2.utils.text import brief

__all__ = ["COUNT", "OVERLAP", "PROBABILITY", "RANGES", "Range", "check_ranges"]


@dataclass(frozen=True)
class Range:
    """Finite numbers from ``low`` to ``high``, and ``off``, which switches something off."""

    low: float
    high: float
    off: float | None = None

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return value == self.off or (math.isfinite(value) and self.low <= value <= self.high)

    def __str__(self) -> str:
        other = "" if self.off is None else f", or {self.off:g}"
        return f"{self.low:g} to {self.high:g}{other}"


# No probability is above 1, and none but a rounded one is above this.
PROBABILITY = Range(0, 0.999)
OVERLAP = Range(0, 1)
COUNT = Range(1, 100_000)
_COUNT_OR_ALL = Range(1, 100_000, off=-1)
_CHANNELS = Range(1, 65_536)
_LAYERS = Range(0, 64)
_CELLS = Range(1, 128)
# Sides of pictures in pixels. Feature maps of a stride of 32 are empty below.
_SIDE = Range(32, 16_384)

# The range of a number, or of each number of a list. Projects add theirs with their keys.
RANGES: dict[str, Range] = {
    "DATALOADER.NUM_WORKERS": Range(0, 128),
    "INPUT.MIN_SIZE_TEST": Range(32, 8192, off=0),  # 0: pictures keep their size
    "INPUT.MAX_SIZE_TEST": _SIDE,
    "INPUT.MAX_PIXELS": Range(1, 1 << 40),
    "INPUT.MAX_BYTES": Range(1, 1 << 40),
    "MODEL.ANCHOR_GENERATOR.SIZES": Range(1, 16_384),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": Range(0.01, 100),
    "MODEL.ANCHOR_GENERATOR.OFFSET": Range(0, 0.999),
    "MODEL.FPN.OUT_CHANNELS": _CHANNELS,
    "MODEL.HRPN.PARENT_DETECTIONS_PER_IMAGE": _COUNT_OR_ALL,
    "MODEL.HRPN.PARENT_NMS_THRESH_TEST": OVERLAP,
    "MODEL.HRPN.PARENT_OBJECTNESS_THRESH": PROBABILITY,
    "MODEL.HRPN.PARENT_SCORE_THRESH_TEST": PROBABILITY,
    "MODEL.HRPN.PARENT_TOPK_TEST": _COUNT_OR_ALL,
    "MODEL.HRPN.THRESHOLD": Range(-1, 0.999),
    "MODEL.PIXEL_MEAN": Range(0, 255),
    "MODEL.PIXEL_STD": Range(0.1, 300),
    # Smaller boxes are left out; pixels.
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": Range(0, 64),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": _CHANNELS,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": _CHANNELS,
    "MODEL.RETINANET.NMS_THRESH_TEST": OVERLAP,
    "MODEL.RETINANET.SCORE_THRESH_TEST": PROBABILITY,
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": COUNT,
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": Range(0.01, 1000),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": Range(0.01, 1000),
    "MODEL.ROI_BOX_HEAD.CONV_DIM": _CHANNELS,
    "MODEL.ROI_BOX_HEAD.FC_DIM": _CHANNELS,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": _LAYERS,
    "MODEL.ROI_BOX_HEAD.NUM_FC": _LAYERS,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": _CELLS,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": Range(0, 32),
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": OVERLAP,
    "MODEL.ROI_HEADS.NUM_CLASSES": Range(1, 10_000),
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": PROBABILITY,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": _CHANNELS,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": _LAYERS,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": _CELLS,
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": Range(0, 32),
    "MODEL.RPN.BBOX_REG_WEIGHTS": Range(0.01, 1000),
    "MODEL.RPN.NMS_THRESH": OVERLAP,
    "MODEL.RPN.POST_NMS_TOPK_TEST": COUNT,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": COUNT,
    "MODEL.SRN.FC_DIMS": _CHANNELS,
    "MODEL.SRN.POOLER_RESOLUTION": _CELLS,
    "TEST.AUG.MAX_SIZE": _SIDE,
    "TEST.AUG.MIN_SIZES": Range(32, 8192),
    "TEST.DETECTIONS_PER_IMAGE": _COUNT_OR_ALL,
    "TEST.MASK_SOFT_NMS_THRESH": OVERLAP,
    "TEST.SCORE_REFINEMENT.LOOKAHEAD": Range(1, 64),
    "TEST.SCORE_REFINEMENT.MAX_FRAME_GAP": Range(1, 1_000_000),
    "TEST.SCORE_REFINEMENT.MIN_SIMILARITY": Range(-1, 1),
    "TEST.SCORE_REFINEMENT.SCORE_RANGE": Range(0, 1),
    "TEST.SCORE_REFINEMENT.SHOT_CHANGE_THRESH": Range(0, 2),
}


def check_ranges(cfg: CfgNode) -> None:
    """See that a model of ``cfg`` can see something.

    Keys that ``cfg`` lacks, those of a project that is not installed, are passed over.

    Raises:
        ConfigError: if a value is outside of its range in :data:`RANGES`, with its key.
    """
    for key, allowed in RANGES.items():
        for value in _numbers(_value(cfg, key)):
            if value not in allowed:
                raise ConfigError(f"{key} is {brief(value)}; expected {allowed}")


def _value(cfg: CfgNode, key: str) -> Any:
    node: Any = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, CfgNode) else None
    return node


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _numbers(part)
    elif value is not None:
        yield value
