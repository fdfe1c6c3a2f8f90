"""PolarMask (Xie et al., CVPR 2020) for Detectron2: one of the detectors that MSNet is compared
with.

Importing this package registers the meta-architecture ``PolarMask`` and its config keys.
"""

import msnet_d2  # noqa: F401  (data sets and backbones that the configs name)
from msnet_d2.config.defaults import extend_config

from .config import add_polarmask_config
from .head import PolarMaskHead
from .losses import polar_centerness, polar_iou_loss
from .masks import rasterise
from .meta_arch import PolarMask
from .rays import mass_centres, ray_lengths, rays_to_polygons

__all__ = [
    "PolarMask",
    "PolarMaskHead",
    "add_polarmask_config",
    "mass_centres",
    "polar_centerness",
    "polar_iou_loss",
    "rasterise",
    "ray_lengths",
    "rays_to_polygons",
]

extend_config(add_polarmask_config)
