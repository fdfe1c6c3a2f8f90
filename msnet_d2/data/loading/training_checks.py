"""What must be true of data and config together before hours go into training."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from msnet_d2.errors import ConfigError, DatasetError

__all__ = ["check_training_data"]

# Their number of classes stands elsewhere in Detectron2's config.
_OTHER_KEYS = ("FCOS", "RetinaNet")


def check_training_data(cfg: CfgNode) -> None:
    """Refuse a model of other classes than its data, and parents as a class without parents.

    Either would train to its end: the first fails in evaluation, or with an index out of range
    after some iterations; the second never finds a parent.

    Args:
        cfg: a config whose ``DATASETS.TRAIN`` are registered names. They are loaded here.

    Raises:
        ConfigError: if the number of classes differs. Data without class names are not looked at.
        DatasetError: if ``MODEL.ROI_HEADS.PARENT_CLASS`` is set and a data set has no parents.
    """
    heads = cfg.MODEL.ROI_HEADS
    classes = heads.NUM_CLASSES - (heads.PARENT_CLASS >= 0)
    for name in cfg.DATASETS.TRAIN:
        records = DatasetCatalog.get(name)  # which sets the metadata, too
        names = list(MetadataCatalog.get(name).get("thing_classes") or ())
        if cfg.MODEL.META_ARCHITECTURE not in _OTHER_KEYS and names:
            _check_classes(name, names, classes, heads.NUM_CLASSES - classes)
        if heads.PARENT_CLASS >= 0:
            _check_parents(name, records)


def _check_classes(name: str, names: list[str], classes: int, parents: int) -> None:
    if len(names) == classes:
        return
    shown = ", ".join(map(str, names[:5])) + (", …" if len(names) > 5 else "")
    with_parents = " (one of them for parents)" if parents else ""
    raise ConfigError(
        f"MODEL.ROI_HEADS.NUM_CLASSES is {classes + parents}{with_parents}, but {name} has "
        f"{len(names)} classes ({shown}); set it to {len(names) + parents}"
    )


def _check_parents(name: str, records: list[dict]) -> None:
    annotations = (a for record in records for a in record.get("annotations", ()))
    if not any(a.get("parent_bbox") is not None for a in annotations):
        raise DatasetError(
            f"no annotation of {name} has a parent_bbox (house_bbox in ISBDA's JSON), from which "
            "MODEL.ROI_HEADS.PARENT_CLASS gets its objects; add them, or train on damage alone "
            "with mask_rcnn_D_R50_FPN.yaml"
        )
