"""PolarMask (Xie et al., CVPR 2020) for Detectron2: one of the detectors that MSNet is compared
with.

``msnet_d2`` finds this project by its entry point; its config keys and the meta-architecture
``PolarMask`` are then known to every ``msnet`` command and to ``msnet_d2.load_config``.
"""
