"""FCN (Long, Shelhamer and Darrell, CVPR 2015) and U-Net (Ronneberger et al., MICCAI 2015) for
Detectron2: a class for every pixel, such as flood.

``msnet_d2`` finds this project by its entry point; its config keys, backbones, heads and the
meta-architecture ``TiledSegmentor`` are then known to every ``msnet`` command.
"""
