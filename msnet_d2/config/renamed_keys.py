"""Config keys and values that have a new name.

Config files and overrides with an old name are read for one more release, with a warning.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode

from msnet_d2.errors import ConfigError

__all__ = [
    "RENAMED_KEYS",
    "RENAMED_VALUES",
    "accept_srn_switch",
    "apply_srn_switch",
    "rename_in_file",
    "rename_in_opts",
]

# Old key -> new key; projects add theirs when they add their keys. Several new keys: the old value
# is a tuple with one item for each.
RENAMED_KEYS: dict[str, str | tuple[str, ...]] = {
    "MODEL.HRPN.MIN_PARENT_OBJECTNESS": "MODEL.HRPN.PARENT_OBJECTNESS_THRESH",
    "MODEL.HRPN.MAX_PARENT_PROPOSALS": (
        "MODEL.HRPN.PARENT_TOPK_TRAIN",
        "MODEL.HRPN.PARENT_TOPK_TEST",
    ),
    "MODEL.HRPN.LOSS_WEIGHT": "MODEL.HRPN.PARENT_LOSS_WEIGHT",
    "MODEL.SRN.SCORE_RANGE": "TEST.SCORE_REFINEMENT.SCORE_RANGE",
    "MODEL.SRN.NEIGHBOUR": "TEST.SCORE_REFINEMENT.NEIGHBORS",
    "MODEL.SRN.MAX_GAP": "TEST.SCORE_REFINEMENT.MAX_FRAME_GAP",
    "MODEL.SRN.CUT_THRESHOLD": "TEST.SCORE_REFINEMENT.SHOT_CHANGE_THRESH",
    "MODEL.SRN.TRACK": "TEST.SCORE_REFINEMENT.TRACK",
    "MODEL.SRN.SAME_CLASS": "TEST.SCORE_REFINEMENT.SAME_CLASS",
    "MODEL.SRN.MIN_SIMILARITY": "TEST.SCORE_REFINEMENT.MIN_SIMILARITY",
    "MODEL.SRN.MUTUAL": "TEST.SCORE_REFINEMENT.MUTUAL_NN",
    "MODEL.SRN.CARRY": "TEST.SCORE_REFINEMENT.RUNNING_MEAN",
}
# Key (its new name) -> old value -> new value.
RENAMED_VALUES: dict[str, dict[Any, Any]] = {
    "MODEL.HRPN.METRIC": {"ii": "ioa"},
    "MODEL.META_ARCHITECTURE": {"RefinableRCNN": "GeneralizedRCNN"},
}

logger = logging.getLogger(__name__)


def rename_in_opts(opts: Sequence[Any]) -> list[Any]:
    """A flat list of keys and values, as on Detectron2's command line, with new names.

    Raises:
        ConfigError: if a value cannot be divided among several new keys.
    """
    opts = list(opts)
    pairs = [new for old in zip(opts[::2], opts[1::2]) for new in _renamed(*old)]
    # An odd one at the end is left for the config to complain of.
    return [item for pair in pairs for item in pair] + opts[len(opts) // 2 * 2 :]


def rename_in_file(content: dict) -> dict:
    """The content of one config file (sections are dicts) with new names.

    Raises:
        ConfigError: as :func:`rename_in_opts`; if the file has a key under both names.
    """
    for old in RENAMED_KEYS:
        path = old.split(".")
        if not _has(content, path):
            continue
        content, value = _without(content, path)
        for new, new_value in _renamed(old, value):
            if _has(content, new.split(".")):
                raise ConfigError(f"it has {new} and also its old name {old}; remove {old}")
            content = _with(content, new.split("."), new_value)
    for key in RENAMED_VALUES:
        path = key.split(".")
        if _has(content, path):
            ((_, value),) = _renamed(key, _without(content, path)[1])
            content = _with(content, path, value)
    return content


def accept_srn_switch(cfg: CfgNode) -> None:
    """Let files and overrides set MODEL.SRN.ENABLED; it is None until they do."""
    cfg.MODEL.SRN.ENABLED = None


def apply_srn_switch(cfg: CfgNode) -> None:
    """Take MODEL.SRN.ENABLED away, and do what it says.

    It switched on score refinement in the detector that MODEL.META_ARCHITECTURE names. Now a
    RefinedDetector holds the detector of MODEL.SRN.DETECTOR.
    """
    model, enabled = cfg.MODEL, cfg.MODEL.SRN.pop("ENABLED")
    if enabled is None:
        return
    refined = model.META_ARCHITECTURE == "RefinedDetector"
    if enabled and not refined:
        model.SRN.DETECTOR = model.META_ARCHITECTURE
        model.META_ARCHITECTURE = "RefinedDetector"
    elif refined and not enabled:
        model.META_ARCHITECTURE = model.SRN.DETECTOR
    detector = f" with MODEL.SRN.DETECTOR {model.SRN.DETECTOR}" if enabled else ""
    _warn_once(
        f"The config key MODEL.SRN.ENABLED ({enabled}) is now MODEL.META_ARCHITECTURE "
        f"{model.META_ARCHITECTURE}{detector}"
    )


def _renamed(key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """The pairs of a key and a value that stand for this one."""
    new = RENAMED_KEYS.get(key) if isinstance(key, str) else None
    new_keys: tuple[Any, ...]
    values: Sequence[Any]
    if new is None:
        new_keys, values = (key,), [value]
    elif isinstance(new, str):
        _warn_once(f"The config key {key} is now {new}")
        new_keys, values = (new,), [value]
    else:
        _warn_once(f"The config key {key} is now {', '.join(new)}")
        new_keys, values = new, _items(key, value, new)
    for new_key, new_value in zip(new_keys, values):
        of_key = RENAMED_VALUES.get(new_key, {}) if isinstance(new_key, str) else {}
        if isinstance(new_value, str) and new_value in of_key:
            _warn_once(f"The value {new_value!r} of {new_key} is now {of_key[new_value]!r}")
            new_value = of_key[new_value]
        yield new_key, new_value


def _items(key: str, value: Any, new: tuple[str, ...]) -> Sequence[Any]:
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError):  # refused below
            value = ast.literal_eval(value)
    if not isinstance(value, (tuple, list)) or len(value) != len(new):
        raise ConfigError(
            f"{key} is {value!r}; give its {len(new)} values under their new names: "
            f"{', '.join(new)}"
        )
    return value


@functools.cache
def _warn_once(what: str) -> None:
    logger.warning("%s; the old name works until the next release", what)


def _has(content: Any, path: Sequence[str]) -> bool:
    for part in path:
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


def _with(content: dict, path: Sequence[str], value: Any) -> dict:
    """A copy of ``content`` with ``value`` at ``path``; sections on the way are made."""
    first, *rest = path
    if rest:
        section = content.get(first)
        value = _with(section if isinstance(section, dict) else {}, rest, value)
    return {**content, first: value}


def _without(content: dict, path: Sequence[str]) -> tuple[dict, Any]:
    """A copy of ``content`` without the key at ``path``, and the value of that key."""
    first, *rest = path
    if not rest:
        return {key: value for key, value in content.items() if key != first}, content[first]
    section, value = _without(content[first], rest)
    return {**content, first: section}, value
