"""Reading config files without trusting them.

Detectron2 loads YAML by PyYAML's unsafe loader where the safe one refuses, and so runs what a file
asks for. Here the tags, the size and the aliases of each file are checked before anything is built
of it.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import yaml
from detectron2.config import CfgNode

from msnet_d2.config.paths import find_base
from msnet_d2.config.renamed_keys import rename_in_file
from msnet_d2.errors import ConfigError
from msnet_d2.projects import broken_projects

__all__ = [
    "explain_config_error",
    "keys_of",
    "merge_config_file",
    "read_config_file",
    "unknown_key",
]

MAX_BYTES = 1 << 20
# Values that a file may stand for once its aliases are written out; the largest of ours has 700.
MAX_VALUES = 20_000
MAX_DEPTH = 50
MAX_BASES = 16  # one on top of the other
_BASE_KEY = "_BASE_"
_STANDARD_TAG = "tag:yaml.org,2002:"
_LONGEST_MESSAGE = 400  # characters
_ODD_NUMBER = re.compile(r"[-+]?([0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|0[0-7_]+)")

# libyaml where PyYAML was built with it: ten times as fast.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def merge_config_file(cfg: CfgNode, path: str | Path) -> None:
    """Merge a YAML file and its bases into ``cfg``, in place, running nothing of what is in them.

    Args:
        cfg: the config; its keys are those that the file may set.
        path: of the file. Bases are files, relative to the one that names them, or names of configs
            of this package and of projects.

    Raises:
        ConfigError: if a file is missing, no YAML or no config, asks for objects to be built, is
            larger than 1 MiB, stands for more than 20,000 values, or includes itself; or if ``cfg``
            has no such key, or one of another type.
    """
    content = _read_with_bases(Path(path), {})
    if content.get("VERSION", cfg.VERSION) != cfg.VERSION:
        raise ConfigError(
            f"{path}: its VERSION is {content['VERSION']!r}; only configs of version {cfg.VERSION} "
            "are read"
        )
    try:
        cfg.merge_from_other_cfg(CfgNode(content))
    except Exception as error:  # yacs raises several kinds, and Python some of its own
        raise ConfigError(f"{path}: {explain_config_error(error, cfg)}") from error


def read_config_file(path: str | Path) -> dict:
    """Read one YAML file alone, running nothing of what is in it.

    Raises:
        ConfigError: as :func:`merge_config_file`.
    """
    return _read_yaml(Path(path), "")


def _read_with_bases(path: Path, above: dict[str, Path]) -> dict:
    """The content of a file over that of its bases, under the new names of keys.

    ``above`` are the files that this one is the base of, by their real paths, the nearest last.
    """
    real = os.path.realpath(path)
    if real in above:
        raise ConfigError(f"{path} includes itself by way of {_BASE_KEY}; remove that line")
    if len(above) >= MAX_BASES:
        raise ConfigError(f"{path} is the base of {MAX_BASES} files, one on top of the other")
    named_by = f", the {_BASE_KEY} of {list(above.values())[-1]}," if above else ""
    content = _read_yaml(path, named_by)
    bases = content.pop(_BASE_KEY, [])
    merged: dict = {}
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str):
            raise ConfigError(f"{path}: {_BASE_KEY} is {base!r}; expected the path of a file")
        below = _read_with_bases(find_base(base, path.parent), {**above, real: path})
        merged = _over(below, merged)
    try:
        return _over(rename_in_file(content), merged)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _over(content: dict, base: dict) -> dict:
    """``base`` with the keys of ``content`` in place of its own, section by section."""
    merged = dict(base)
    for key, value in content.items():
        if isinstance(value, dict) and key in base:
            if not isinstance(base[key], dict):
                raise ConfigError(f"{key} is a section here, and a value in its {_BASE_KEY}")
            value = _over(value, base[key])
        merged[key] = value
    return merged


def _read_yaml(path: Path, named_by: str) -> dict:
    text = _read(path, named_by)
    try:
        _check_events(path, text)
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {_one_line(error)}") from error
    except (ValueError, RecursionError) as error:  # such as a number of 10,000 digits
        raise ConfigError(f"{path}: not a config: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: not a config: it holds {type(content).__name__}, where keys with values, "
            "such as MODEL, are expected"
        )
    return content


def _read(path: Path, named_by: str) -> str:
    if path.suffix == ".py":
        raise ConfigError(
            f"{path} is Python code (a LazyConfig), which is not run here; expected YAML. If you "
            "trust it, Detectron2's LazyConfig.load runs it"
        )
    try:
        # Looked at before it is opened: a pipe would block. A URL is no file either.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{path}{named_by} is not a file; expected a config in YAML")
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}{named_by} is not a file that can be read: {reason}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes: no config")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a config: {error}") from error


def _check_events(path: Path, text: str) -> None:
    """Go through a file event by event, which needs no more memory than the file is large."""
    sizes: dict[str, int] = {}  # number of values that each anchor stands for
    open_ones: list[tuple[str | None, int]] = []  # anchor of each open collection, values before it
    values = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            # An unknown one stands within its own collection, or is an error that loading finds.
            if any(anchor == event.anchor for anchor, _ in open_ones):
                raise ConfigError(f"{path}: refused: its aliases refer to themselves")
            values += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.NodeEvent):
            _check_tag(path, event)
            _check_number(path, event)
            values += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_ones.append((event.anchor, values - 1))
            elif event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_ones.pop()
            if anchor:
                sizes[anchor] = values - before
        if len(open_ones) > MAX_DEPTH:
            raise ConfigError(f"{path}: refused: nested more than {MAX_DEPTH} deep")
        if values > MAX_VALUES:
            raise ConfigError(
                f"{path}: refused: it stands for more than {MAX_VALUES} values once its aliases "
                "are written out"
            )


def _check_tag(path: Path, event: yaml.NodeEvent) -> None:
    tag = event.tag
    if tag in (None, "!"):
        return
    if not tag.startswith(_STANDARD_TAG) or tag.startswith(_STANDARD_TAG + "python"):
        where = event.start_mark
        raise ConfigError(
            f"{path}, line {where.line + 1}: refused, since the tag {tag[:80]!r} would run code or "
            "build objects when loaded; a config holds plain values alone"
        )


def _check_number(path: Path, event: yaml.NodeEvent) -> None:
    """Refuse what YAML 1.1 reads as a number that it does not look like: 1:30 is 90, 010 is 8."""
    plain = isinstance(event, yaml.ScalarEvent) and event.implicit[0]
    if plain and _ODD_NUMBER.fullmatch(event.value):
        raise ConfigError(
            f"{path}, line {event.start_mark.line + 1}: YAML reads {event.value[:40]} as another "
            "number; write it without colons and leading zeros, or in quotes if it is text"
        )


def explain_config_error(error: Exception, cfg: CfgNode) -> str:
    """One line on what is wrong with a config, from what yacs or yaml raised."""
    text = _one_line(error.args[0] if error.args else error)
    unknown = re.match(r"Non-existent (?:config )?key: (\S+)", text)
    if unknown:
        return unknown_key(unknown[1], cfg)
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}: {error.filename}"
    if isinstance(error, (ValueError, AssertionError, KeyError)):
        return text
    return f"not a config: {text}"


def unknown_key(key: str, cfg: CfgNode) -> str:
    """Say that ``cfg`` has no such key, and which it has that is most like it."""
    near, broken = _nearest(key, list(keys_of(cfg))), broken_projects()
    if near:
        advice = f"did you mean {near}?" + (f" ({broken})" if broken else "")
    else:
        advice = broken or "if it belongs to a project, install that (msnet doctor)"
    return f"unknown config key {key}; {advice}"


def keys_of(node: CfgNode, prefix: str = "") -> Iterator[str]:
    """All keys of a config with dots, those of sections included."""
    for key, value in node.items():
        yield prefix + key
        if isinstance(value, CfgNode):
            yield from keys_of(value, f"{prefix}{key}.")


def _nearest(key: str, known: list[str]) -> str | None:
    """The known key most like ``key``: as a whole, or else by its last word."""
    by_upper = {name.upper(): name for name in known}
    near = difflib.get_close_matches(key.upper(), by_upper, n=1, cutoff=0.75)
    if near:
        return by_upper[near[0]]
    by_last = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(key.rpartition(".")[2].upper(), by_last, n=1, cutoff=0.8)
    return by_last[near[0]] if near else None


def _one_line(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST_MESSAGE else line[:_LONGEST_MESSAGE] + "…"
