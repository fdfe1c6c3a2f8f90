"""What a file of weights may hold: no more than its size, numbers that a model computes with."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping

import numpy as np
import torch

from msnet_d2.errors import WeightsError
from msnet_d2.utils.safe_pickle import check_pickle
from msnet_d2.utils.text import brief

__all__ = ["check_archive", "check_number_types", "check_tensors"]

# The part of an archive that is no numbers; ResNet-101 with its optimizer takes 0.3 MB.
_MAX_STRUCTURE_BYTES = 16 << 20
_LEGACY_PICKLES = 5
# Tensors may share memory, as tied weights do, but not stand for much more than there is.
_MAX_SHARING = 4
_ALWAYS_BYTES = 64 << 20


def check_archive(path: str) -> None:
    """See that a file of torch unpacks to what it is large, before it is read.

    torch stores without compression. A file of 300 kB could else stand for gigabytes.

    Args:
        path: of an archive, or of a file that torch wrote before version 1.6.

    Raises:
        ValueError: if parts of it are compressed, its structure is larger than 16 MiB or takes more
            than two million steps to build, or it is the tar of torch before version 0.1.10.
    """
    if not zipfile.is_zipfile(path):
        _check_legacy(path)
        return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > entry.compress_size:
                raise ValueError("its archive is compressed, which torch.save never does")
            if entry.filename.endswith("/data.pkl") and entry.file_size > _MAX_STRUCTURE_BYTES:
                raise ValueError(
                    f"{entry.file_size / 1e6:.0f} MB of it are names and structure; "
                    f"{_MAX_STRUCTURE_BYTES / 1e6:.0f} MB are the most"
                )
            if entry.filename.endswith("/data.pkl"):
                check_pickle(archive.read(entry))


def _check_legacy(path: str) -> None:
    """Check the pickles before the numbers: a sign, a version, the system, structure, names."""
    with open(path, "rb") as file:
        content = file.read(_MAX_STRUCTURE_BYTES + 1)
    if content[257:262] == b"ustar":
        raise ValueError("it is a tar of torch before version 0.1.10; save it by a newer one")
    try:
        check_pickle(content, _LEGACY_PICKLES)
    except EOFError as error:
        if len(content) <= _MAX_STRUCTURE_BYTES:
            raise ValueError("it ends too early") from error
        raise ValueError(
            f"more than {_MAX_STRUCTURE_BYTES / 1e6:.0f} MB of it are names and structure"
        ) from error


def check_tensors(state: Mapping, path: str, file_bytes: int) -> None:
    """See that tensors are dense arrays of numbers in memory, no larger than their file.

    Args:
        state: names with tensors or arrays.
        path: as messages name it.
        file_bytes: size of the file that they come from.

    Raises:
        WeightsError: if one is sparse, quantized, nested or on the device meta; if all of them
            stand for more than four times the bytes of the file.
    """
    total = 0
    for name, tensor in state.items():
        if isinstance(tensor, torch.Tensor):
            form = _odd_form(tensor)
            if form:
                raise WeightsError(
                    f"the weights {path} hold {brief(name)} as a tensor that is {form}; save dense "
                    "tensors on the CPU"
                )
        elif tensor.dtype.kind not in "biufc":
            raise WeightsError(f"the weights {path} hold {brief(name)} as text, not as numbers")
        total += tensor.nbytes
    if total > _MAX_SHARING * file_bytes + _ALWAYS_BYTES:
        raise WeightsError(
            f"the weights {path} have {file_bytes / 1e6:.1f} MB, but stand for tensors of "
            f"{total / 1e6:,.0f} MB; they were not written by saving a model"
        )


def _odd_form(tensor: torch.Tensor) -> str:
    if tensor.is_nested:
        return "nested"
    if tensor.is_meta:
        return "without data (device meta)"
    if tensor.is_quantized:
        return "quantized"
    return "" if tensor.layout == torch.strided else "sparse"


def check_number_types(own: Mapping, state: Mapping, path: str) -> None:
    """See that what a model has in floating point is given in floating point.

    Integers, booleans and complex numbers would be converted without a word, and find nothing.

    Args:
        own: the model's tensors by name.
        state: those to be loaded.
        path: as messages name it.

    Raises:
        WeightsError: if a tensor of another kind would be loaded.
    """
    for name, tensor in state.items():
        if name not in own or not own[name].is_floating_point():
            continue
        if isinstance(tensor, np.ndarray):
            tensor = torch.from_numpy(np.zeros(0, tensor.dtype))
        if not tensor.is_floating_point():
            raise WeightsError(
                f"the weights {path} hold {brief(name)} as {str(tensor.dtype)[6:]}, where the model"
                " computes in floating point; save them as they were trained"
            )
