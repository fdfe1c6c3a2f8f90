"""Files of precomputed proposals, which Detectron2 loads as pickles, and so runs."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode

from msnet_d2.errors import DatasetError
from msnet_d2.utils.safe_pickle import load_pickle

__all__ = ["check_proposal_files"]


def check_proposal_files(cfg: CfgNode) -> None:
    """Refuse proposal files that hold more than arrays, before Detectron2 loads them.

    Args:
        cfg: with ``MODEL.LOAD_PROPOSALS``; if it is False, nothing is read.

    Raises:
        DatasetError: if a file is missing, or no pickle of arrays alone.
    """
    if not cfg.MODEL.LOAD_PROPOSALS:
        return
    for key in ("PROPOSAL_FILES_TRAIN", "PROPOSAL_FILES_TEST"):
        for name in cfg.DATASETS[key]:
            if "://" in name:
                raise DatasetError(
                    f"DATASETS.{key} names {name}; expected a file on this machine: fetch it first"
                )
            try:
                load_pickle(Path(name))
            except (OSError, ValueError) as error:
                raise DatasetError(
                    f"the proposals {name} of DATASETS.{key} cannot be used: {error}"
                ) from error
