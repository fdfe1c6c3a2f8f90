"""The number and the names of a model's classes, wherever its config keeps them."""

from __future__ import annotations

from detectron2.config import CfgNode

from msnet_d2.config.refinement import detector_name
from msnet_d2.errors import ConfigError

__all__ = [
    "check_class_names",
    "class_name_key",
    "is_colors",
    "is_semantic",
    "num_classes",
    "num_classes_key",
    "num_parent_classes",
]


def num_classes_key(cfg: CfgNode) -> str:
    """Key of the number of classes, such as ``MODEL.RETINANET.NUM_CLASSES``.

    It is the one below the detector's own keys if there is one, that of the semantic head for a
    model that has nothing else, or else that of the ROI heads, as in Detectron2 and the projects of
    this repository.
    """
    if is_semantic(cfg):
        return "MODEL.SEM_SEG_HEAD.NUM_CLASSES"
    section = detector_name(cfg).upper()
    own = cfg.MODEL.get(section)
    if not (isinstance(own, CfgNode) and "NUM_CLASSES" in own):
        section = "ROI_HEADS"
    return f"MODEL.{section}.NUM_CLASSES"


def is_semantic(cfg: CfgNode) -> bool:
    """Whether the model gives a class for every pixel and no instances: a SemanticSegmentor."""
    from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor

    name = cfg.MODEL.META_ARCHITECTURE
    found = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    return isinstance(found, type) and issubclass(found, SemanticSegmentor)


def num_classes(cfg: CfgNode) -> int:
    """Number of classes of the model, without the class of parents that it may have."""
    section = num_classes_key(cfg).split(".")[1]
    return cfg.MODEL[section].NUM_CLASSES - num_parent_classes(cfg)


def class_name_key(name: str) -> str:
    """What two spellings of one class name have in common: neither case nor spaces count."""
    return " ".join(name.split()).casefold()


def check_class_names(cfg: CfgNode) -> None:
    """Refuse ``MODEL.CLASS_NAMES`` and ``CLASS_COLORS`` that contradict themselves or the model.

    Raises:
        ConfigError: naming the key.
    """
    names, colors = cfg.MODEL.CLASS_NAMES, cfg.MODEL.CLASS_COLORS
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise ConfigError(f"MODEL.CLASS_NAMES is {list(names)!r}; each must be a text")
    if len({class_name_key(name) for name in names}) < len(names):
        raise ConfigError(f"MODEL.CLASS_NAMES is {list(names)!r}; two of them are the same")
    if names and len(names) != num_classes(cfg):
        raise ConfigError(
            f"MODEL.CLASS_NAMES has {len(names)} names ({', '.join(names)}), but the model has "
            f"{num_classes(cfg)} classes; set {num_classes_key(cfg)} "
            f"{len(names) + num_parent_classes(cfg)}"
        )
    if not is_colors(colors, len(names)):
        raise ConfigError(
            f"MODEL.CLASS_COLORS is {list(colors)!r}; it must be empty, or one [R, G, B] from 0 to "
            "255 for each of MODEL.CLASS_NAMES"
        )


def is_colors(value: object, count: int) -> bool:
    """Whether ``value`` is empty or holds ``count`` colors [R, G, B] of integers 0 to 255."""
    return isinstance(value, (list, tuple)) and (
        not value
        or (
            len(value) == count
            and all(
                isinstance(color, (list, tuple))
                and len(color) == 3
                and all(type(part) is int and 0 <= part <= 255 for part in color)
                for color in value
            )
        )
    )


def num_parent_classes(cfg: CfgNode) -> int:
    """1 if the model has a class for parents (``MODEL.ROI_HEADS.PARENT_CLASS``), else 0."""
    on_heads = num_classes_key(cfg) == "MODEL.ROI_HEADS.NUM_CLASSES"
    return int(on_heads and cfg.MODEL.ROI_HEADS.PARENT_CLASS >= 0)
