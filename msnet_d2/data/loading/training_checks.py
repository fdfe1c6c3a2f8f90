"""What must be true of data and config together before hours go into training."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from msnet_d2.errors import ConfigError, DatasetError

__all__ = ["check_training_data"]


def check_training_data(cfg: CfgNode) -> None:
    """Refuse data that lack what the model learns from.

    Args:
        cfg: a config whose ``DATASETS.TRAIN`` are registered names. They are loaded here.

    Raises:
        ConfigError: if ``INPUT.MIN_SIZE_TRAIN`` is not what its sampling takes.
        DatasetError: if the model predicts masks, or parents, and annotations of a data set have
            none; it names the key to set.
    """
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(sizes) != 2:
        raise ConfigError(
            f"INPUT.MIN_SIZE_TRAIN is {tuple(sizes)}; INPUT.MIN_SIZE_TRAIN_SAMPLING 'range' takes "
            "the smallest and the largest size, such as (640, 800), and 'choice' any number of them"
        )
    for name in cfg.DATASETS.TRAIN:
        records = DatasetCatalog.get(name)
        if cfg.MODEL.MASK_ON:
            _check_masks(name, records)
        if cfg.MODEL.ROI_HEADS.PARENT_CLASS >= 0:
            _check_parents(name, records, "MODEL.ROI_HEADS.PARENT_CLASS gets its objects from it")
        if cfg.MODEL.PROPOSAL_GENERATOR.NAME == "HierarchicalRPN":
            _check_parents(name, records, "MODEL.PROPOSAL_GENERATOR.NAME HierarchicalRPN learns it")


def _check_masks(name: str, records: list[dict]) -> None:
    annotations = [
        a for record in records for a in record.get("annotations", ()) if not a.get("iscrowd", 0)
    ]
    without = sum(not a.get("segmentation") for a in annotations)
    if without:
        raise DatasetError(
            f"{without} of {len(annotations)} annotations of {name} have no mask, which a model "
            "with MODEL.MASK_ON True learns: set MODEL.MASK_ON False to train on boxes alone, or "
            "add masks"
        )


def _check_parents(name: str, records: list[dict], why: str) -> None:
    annotations = [a for record in records for a in record.get("annotations", ())]
    if annotations and all(a.get("parent_bbox") is None for a in annotations):
        raise DatasetError(
            f"no annotation of {name} has a parent_bbox (house_bbox in ISBDA's JSON), and {why}; "
            "add them (load_coco_json drops them without extra_annotation_keys=['parent_bbox']; "
            "register_isbda_instances reads them), or train on damage alone with "
            "mask_rcnn_D_R50_FPN.yaml"
        )
