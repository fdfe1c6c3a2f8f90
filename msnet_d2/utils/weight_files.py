"""Files of weights: where they come from, whether they are the right ones, and reading them.

Nothing in such a file is run, whatever its format, and no URL writes outside of the cache.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import torch
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import get_cache_dir

from msnet_d2.errors import DependencyError, WeightsError
from msnet_d2.utils.file_io import write_text

__all__ = [
    "WeightsFile",
    "fetch_weights",
    "read_safetensors",
    "read_state_dict",
    "sha256_of",
]

_DIGEST = "#sha256="
_SCHEMES = ("https", "http", "detectron2", "catalog")


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights on this machine.

    Attributes:
        name: as it was given, without its digest; for messages and logs.
        path: of the local file.
        heuristics: whether tensors are to be matched by Detectron2's heuristics on their names
            (``?matching_heuristics=True``).
        sha256: of its content, in hexadecimal digits.
    """

    name: str
    path: str
    heuristics: bool
    sha256: str


def fetch_weights(location: str) -> WeightsFile:
    """Find a file of weights, downloading it into the cache if need be, and check its digest.

    What was once downloaded from a URL without a digest must stay the same: its SHA-256 is kept
    beside it, as ``NAME.sha256``.

    Args:
        location: path or URL (``https://``, ``http://``, ``detectron2://``, ``catalog://``), with
            ``#sha256=`` and 64 hexadecimal digits behind it where its digest is known.

    Raises:
        WeightsError: if there is no such file, its digest is another, or the URL is refused.
    """
    name, _, wanted = location.partition(_DIGEST)
    if _DIGEST in location and not re.fullmatch(r"[0-9a-fA-F]{64}", wanted):
        raise WeightsError(
            f"the weights {name} come with the digest {wanted[:80]!r}; expected 64 hexadecimal "
            "digits, as sha256sum prints them"
        )
    name, heuristics = _without_query(name)
    is_url = "://" in name
    if is_url:
        _check_url(name)
    try:
        local = PathManager.get_local_path(name)
    except Exception as error:  # whatever the handler of this kind of URL raises
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise WeightsError(f"the weights {name} cannot be fetched: {reason[0]}") from error
    if not os.path.isfile(local):
        kind = "a folder, not a file" if os.path.isdir(local) else "not there"
        raise WeightsError(
            f"the weights {name} are {kind}; give MODEL.WEIGHTS a .pth, .pkl or .safetensors file "
            "or a URL"
        )
    try:
        digest = sha256_of(local)
    except OSError as error:
        raise WeightsError(f"the weights {name} cannot be read: {error.strerror}") from error
    if wanted and wanted.lower() != digest:
        if is_url:
            os.unlink(local)  # or it would be taken the next time
        raise WeightsError(
            f"the weights {name} are not those that were published: their SHA-256 is {digest}, not "
            f"{wanted.lower()}; fetch them again, from where you trust"
        )
    if is_url:
        _check_first_digest(name, local, digest, known=bool(wanted))
    return WeightsFile(name, str(local), heuristics, digest)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a ``.safetensors`` file: names and tensors, nothing else.

    Raises:
        ValueError: if it is none.
        DependencyError: if the package safetensors is missing.
    """
    from_file = _safetensors().load_file
    try:
        return from_file(str(path))
    except OSError:
        raise
    except Exception as error:  # SafetensorError, which is none of Python's own kinds
        raise ValueError(" ".join(str(error).split())) from error


def read_state_dict(location: str, key: str, other: str = "") -> dict[str, torch.Tensor]:
    """Read a published state dict, such as a pretrained backbone's; nothing in it is run.

    Args:
        location: as :func:`fetch_weights` takes it, of a ``.pth`` or ``.safetensors`` file. The
            tensors may lie below ``state_dict`` or ``model``.
        key: the config key that names it, for messages.
        other: what that key takes beside a location, for messages.

    Raises:
        WeightsError: if it cannot be read, or holds anything but names and tensors.
        DependencyError: if the package safetensors is missing.
    """
    try:
        path = fetch_weights(location).path
        if path.endswith(".safetensors"):
            return read_safetensors(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{key} {location!r} cannot be read ({first_line}); expected a file or URL of a state "
            f"dict{f', or {other!r}' if other else ''}"
        ) from error
    for name in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(f"{key} {location!r} holds no state dict (names and tensors)")
    return state


def _safetensors():
    try:
        from safetensors import torch as safetensors_of_torch
    except ImportError as error:
        raise DependencyError(
            "files of the format safetensors need the package of that name, which is not "
            "installed: pip install safetensors"
        ) from error
    return safetensors_of_torch


def _without_query(name: str) -> tuple[str, bool]:
    """Take Detectron2's one query off a name; no other is known, and one may be a secret."""
    base, mark, query = name.partition("?")
    if not mark:
        return name, False
    queries = parse_qs(query, keep_blank_values=True)
    value = queries.pop("matching_heuristics", ["False"])
    if queries:
        raise WeightsError(
            f"the weights {_without_secrets(base)} come with a query that is not known; the only "
            "one is ?matching_heuristics=True. Fetch files behind a token by other means, and give "
            "the path"
        )
    return base, value == ["True"]


def _check_url(url: str) -> None:
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES:
        raise WeightsError(
            f"the weights {_without_secrets(url)} are behind {scheme[:20]}://; expected a file, or "
            f"a URL with {', '.join(f'{s}://' for s in _SCHEMES)}"
        )
    if "@" in urlsplit(url).netloc:
        raise WeightsError(
            f"the URL {_without_secrets(url)} carries a user name or password, which would end up "
            "in logs; fetch the file by other means, and give its path"
        )
    # The URL's path becomes a path in the cache.
    if ".." in re.split(r"[/\\]", url) or "\\" in url or "\0" in url:
        raise WeightsError(f"the URL {url} leaves the cache by '..'; give one without")


def _without_secrets(url: str) -> str:
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def _check_first_digest(name: str, local: str, digest: str, known: bool) -> None:
    real, cache = os.path.realpath(local), os.path.realpath(get_cache_dir())
    if os.path.commonpath([real, cache]) != cache:
        raise WeightsError(f"the URL {name} leaves the cache: it was written to {local}")
    note = Path(f"{local}.sha256")
    first = note.read_text(encoding="utf-8").strip() if note.is_file() else None
    if first is None or known:
        write_text(note, f"{digest}\n")
    elif first != digest:
        raise WeightsError(
            f"the weights {name} in {local} have the SHA-256 {digest}, which differs from what was "
            f"first fetched ({first}); remove both files to fetch them again"
        )
