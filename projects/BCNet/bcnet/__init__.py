"""BCNet (Ke, Tai, Tang, CVPR 2021) for Detectron2: masks of objects that others hide in part.

``msnet_d2`` finds this project by its entry point; its config keys, ``BCNetMaskHead`` and
``OccluderMapper`` are then known to every ``msnet`` command and to ``msnet_d2.load_config``.
"""
