"""The classes of a model as its checkpoints and its config name them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode

from msnet_d2.config.classes import check_class_names, class_name_key, is_colors, num_classes
from msnet_d2.data.isbda.categories import ISBDA_CATEGORIES
from msnet_d2.errors import WeightsError

__all__ = ["ModelClasses", "with_classes_of_weights"]

logger = logging.getLogger(__name__)

# More names than any data set has.
_MOST = 100_000


@dataclass(frozen=True)
class ModelClasses:
    """Names and colors of a model's classes, by class number.

    Attributes:
        names: empty where they are not known.
        colors: [R, G, B] each, from 0 to 255; empty: those of the drawing.
    """

    names: tuple[str, ...] = ()
    colors: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of_config(cls, cfg: CfgNode) -> ModelClasses:
        """``MODEL.CLASS_NAMES`` and ``CLASS_COLORS``."""
        colors = tuple(tuple(color) for color in cfg.MODEL.CLASS_COLORS)
        return cls(tuple(cfg.MODEL.CLASS_NAMES), colors)

    @classmethod
    def read(cls, value: object, path: str) -> ModelClasses:
        """What a checkpoint holds under ``classes``; nothing if that is None.

        Raises:
            WeightsError: if it is of another form.
        """
        if value is None:
            return cls()
        found: dict = value if isinstance(value, dict) else {}
        names, colors = found.get("names"), found.get("colors", [])
        if not (
            isinstance(names, list)
            and len(names) <= _MOST
            and all(isinstance(name, str) for name in names)
            and is_colors(colors, len(names))
        ):
            raise WeightsError(
                f"the weights {path} hold no names of classes under the key 'classes', but "
                "something else; they come from another tool"
            )
        return cls(tuple(names), tuple(tuple(color) for color in colors))

    def as_dict(self) -> dict:
        """Return plain lists, which every reader of checkpoints takes."""
        return {"names": list(self.names), "colors": [list(color) for color in self.colors]}

    def same_names(self, others: Sequence[str]) -> bool:
        """Whether ``others`` are the same in the same order, but for case and spaces."""
        return [*map(class_name_key, self.names)] == [*map(class_name_key, others)]


def with_classes_of_weights(cfg: CfgNode, loaded: ModelClasses, path: str) -> CfgNode:
    """Copy of ``cfg`` with the names of the classes of weights that a model was given.

    Weights of older versions name no classes. Then those of the config hold; without these, three
    classes are taken for ISBDA's levels with a warning, and any other number has no names.

    Args:
        cfg: of the model.
        loaded: classes that the weights name.
        path: of the weights, for messages.

    Raises:
        ConfigError: if ``MODEL.CLASS_NAMES`` is not sound.
        WeightsError: if weights and config name other classes.
    """
    check_class_names(cfg)
    named = ModelClasses.of_config(cfg)
    if named.names and loaded.names and not loaded.same_names(named.names):
        raise WeightsError(
            f"the weights {path} are of the classes {', '.join(loaded.names)}, but "
            f"MODEL.CLASS_NAMES is {', '.join(named.names)}; leave that key empty, or give the "
            "weights of this config"
        )
    if not named.names:
        named = loaded if loaded.names else _assumed(cfg, path)
    if len(named.names) not in (0, num_classes(cfg)):
        raise WeightsError(
            f"the weights {path} name {len(named.names)} classes ({', '.join(named.names)}), but "
            f"the model has {num_classes(cfg)}; give the config that they were trained with"
        )
    result = cfg.clone()
    result.defrost()
    result.MODEL.CLASS_NAMES = list(named.names)
    result.MODEL.CLASS_COLORS = [list(color) for color in named.colors]
    if cfg.is_frozen():
        result.freeze()
    return result


def _assumed(cfg: CfgNode, path: str) -> ModelClasses:
    where = f"the weights {path}" if path else "the model, without weights,"
    count = num_classes(cfg)
    if count != len(ISBDA_CATEGORIES):
        logger.warning(
            "%s and the config name no classes: %d classes are numbered; set MODEL.CLASS_NAMES",
            where,
            count,
        )
        return ModelClasses()
    names = tuple(category["name"] for category in ISBDA_CATEGORIES)
    logger.warning(
        "%s and the config name no classes: they are taken for %s; if the model was trained on "
        "others, set MODEL.CLASS_NAMES",
        where,
        ", ".join(names),
    )
    return ModelClasses(names, tuple(tuple(c["color"]) for c in ISBDA_CATEGORIES))
