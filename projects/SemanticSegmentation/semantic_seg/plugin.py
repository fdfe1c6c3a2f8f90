"""What this project brings to ``msnet``."""

from msnet_d2.projects import Project

PROJECT = Project(
    title="FCN and U-Net: a class for every pixel, such as flood",
    add_config="semantic_seg.config:add_semantic_config",
    components=(
        "semantic_seg.vgg",
        "semantic_seg.fcn",
        "semantic_seg.deconv",
        "semantic_seg.unet",
        "semantic_seg.timm_maps",
        "semantic_seg.segmentor",
    ),
)
