"""The configuration keys of this project."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

from msnet_d2.config.ranges import RANGES, Range

__all__ = ["add_semantic_config"]


def add_semantic_config(cfg: CN) -> None:
    """Add the keys of encoders, heads, loss and tiles to ``cfg``, in place.

    Classes are Detectron2's ``MODEL.SEM_SEG_HEAD.NUM_CLASSES``.
    """
    RANGES.update(
        {
            "MODEL.SEGMENTOR.TILE": Range(64, 16_384, off=0),
            "MODEL.SEGMENTOR.TILE_OVERLAP": Range(0, 8192),
            "MODEL.FCN.FC_DIM": Range(1, 65_536, off=0),
            "MODEL.FCN.DROPOUT": Range(0, 0.999),
            "MODEL.UNET.CHANNELS": Range(1, 65_536),
            "MODEL.UNET.DECODER_CHANNELS": Range(1, 65_536),
        }
    )
    cfg.MODEL.SEGMENTOR = CN()
    # "cross_entropy", "dice", their sum "cross_entropy+dice", or "cross_entropy_sum": summed over
    # all pixels, as the FCN's authors train, with learning rates of 1e-10.
    cfg.MODEL.SEGMENTOR.LOSS = "cross_entropy"
    # Pictures that are larger are looked at in tiles of so many pixels, which overlap by so many.
    # 0: pictures are looked at whole.
    cfg.MODEL.SEGMENTOR.TILE = 0
    cfg.MODEL.SEGMENTOR.TILE_OVERLAP = 128

    cfg.MODEL.VGG = CN()
    # State dict of torchvision's vgg16: path, or URL with #sha256=. Also read by FCNHead, which
    # makes convolutions of its fully connected layers. "": random.
    cfg.MODEL.VGG.WEIGHTS = ""
    # Padding of the first convolution. 1, or 100: as the FCN's authors, who pad nothing after the
    # last pooling and crop.
    cfg.MODEL.VGG.FIRST_PADDING = 1

    cfg.MODEL.FCN = CN()
    # Of the finest map that is scored: 32, 16 or 8, for FCN-32s, -16s and -8s.
    cfg.MODEL.FCN.STRIDE = 8
    # Channels of fc6 and fc7. Paper: 4096, 119.5 of 134 million parameters. 0: neither.
    cfg.MODEL.FCN.FC_DIM = 4096
    cfg.MODEL.FCN.DROPOUT = 0.5
    # "interpolate" (bilinear), "fixed" (bilinear transposed convolutions) or "learned" (those as a
    # start).
    cfg.MODEL.FCN.UPSAMPLE = "interpolate"
    # Factors of the maps of strides 16 and 8 before they are scored. To train FCN-8s at once the
    # authors take 0.01 and 0.0001; in stages 1 and 1.
    cfg.MODEL.FCN.SKIP_SCALES = [1.0, 1.0]

    cfg.MODEL.UNET = CN()
    cfg.MODEL.UNET.CHANNELS = [64, 128, 256, 512, 1024]
    # Of the decoder, finest first; empty: those of the encoder.
    cfg.MODEL.UNET.DECODER_CHANNELS = []
    # "same", or "valid" as in the paper: the picture is mirrored by 92 pixels and what is without
    # context is cut off.
    cfg.MODEL.UNET.PADDING = "same"
    # Normalisation behind each 3×3 convolution. Paper: none.
    cfg.MODEL.UNET.NORM = ""
