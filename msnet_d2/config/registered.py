"""Names of model parts in a config, looked up before anything is built."""

from __future__ import annotations

from detectron2.config import CfgNode

from msnet_d2.projects import find_registered

__all__ = ["check_registered"]


def check_registered(cfg: CfgNode) -> None:
    """See that the parts of the model that ``cfg`` names are registered.

    Raises:
        ConfigError: if one is not, with its key and those that there are.
    """
    from detectron2.modeling import (
        BACKBONE_REGISTRY,
        META_ARCH_REGISTRY,
        PROPOSAL_GENERATOR_REGISTRY,
        ROI_HEADS_REGISTRY,
    )

    model = cfg.MODEL
    for registry, name, key in (
        (META_ARCH_REGISTRY, model.META_ARCHITECTURE, "MODEL.META_ARCHITECTURE"),
        (BACKBONE_REGISTRY, model.BACKBONE.NAME, "MODEL.BACKBONE.NAME"),
        (
            PROPOSAL_GENERATOR_REGISTRY,
            model.PROPOSAL_GENERATOR.NAME,
            "MODEL.PROPOSAL_GENERATOR.NAME",
        ),
        (ROI_HEADS_REGISTRY, model.ROI_HEADS.NAME, "MODEL.ROI_HEADS.NAME"),
    ):
        # Detectron2 takes this one for no proposal generator at all.
        if name != "PrecomputedProposals":
            find_registered(registry, name, key)
