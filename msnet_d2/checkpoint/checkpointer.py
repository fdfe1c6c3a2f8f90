"""Checkpoints: a stock Mask R-CNN's weights for an MSNet, and a report of what was loaded.

Detectron2 loads what fits and mentions the rest in passing. Here the rest is judged: what must
differ (the heads of another number of classes, the parts that an ImageNet backbone lacks) is told
from what should not, and a file that has little to do with the model is refused.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts

from msnet_d2.checkpoint.classes import ModelClasses
from msnet_d2.checkpoint.load_report import (
    PARENT_HEAD,
    PARENT_ROI_HEADS,
    PROPOSALS,
    Difference,
    LoadReport,
    compare,
    module_of,
)
from msnet_d2.checkpoint.weight_checks import check_archive, check_number_types, check_tensors
from msnet_d2.errors import DependencyError, OutputError, WeightsError
from msnet_d2.modeling.proposal_generator.hierarchical_rpn import parent_head_sources
from msnet_d2.modeling.roi_heads.parent_heads import parent_roi_sources
from msnet_d2.utils.file_io import replacing, write_text
from msnet_d2.utils.locks import is_unowned
from msnet_d2.utils.safe_pickle import load_pickle
from msnet_d2.utils.weight_files import fetch_weights, read_safetensors

__all__ = ["Difference", "LoadReport", "MSNetCheckpointer"]

logger = logging.getLogger(__name__)

# Below this share of the model's tensors a checkpoint belongs to another model.
_LEAST_SHARE = 0.5


class MSNetCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer for MSNet, and for any other of its models.

    A checkpoint of an R-CNN with one RPN sets both RPN heads of a :class:`HierarchicalRPN` from it.
    After :meth:`load`, ``report`` is the :class:`LoadReport` and ``sha256`` the digest of the file;
    both are also logged. ``loaded_classes`` are the classes that the file names.

    Attributes:
        classes: what :meth:`save` writes as the model's classes.
    """

    def __init__(
        self, model, save_dir: str = "", *, allow_partial: bool = False, **checkpointer_arguments
    ):
        """See the base class.

        Args:
            model: the model, possibly wrapped for distributed training.
            save_dir: where checkpoints are saved and found.
            allow_partial: load also a checkpoint that fits less than half of the model.
            checkpointer_arguments: see the base class.
        """
        super().__init__(model, save_dir, **checkpointer_arguments)
        self.allow_partial = allow_partial
        self.report: LoadReport | None = None
        self.sha256: str | None = None
        self.classes = ModelClasses()
        self.loaded_classes = ModelClasses()
        self._path = ""
        self._resuming = False

    def save(self, name: str, **extra) -> None:
        """Save a checkpoint, whole or not at all, and then make it the one to resume from.

        Killed at any moment, the folder holds the checkpoints that it held before, whole, and
        ``last_checkpoint`` names one of them. One whose name has "best" in it, as Detectron2's
        BestCheckpointer gives it, does not become the one to resume from.

        Args:
            name: of the file, without its suffix.
            extra: more to save.

        Raises:
            OutputError: if it cannot be written, such as to a full disk; all that was there stays.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        state = {key: value.state_dict() for key, value in self.checkpointables.items()}
        content = {"model": self.model.state_dict(), **state, **extra}
        if self.classes.names:
            content["classes"] = self.classes.as_dict()
        path = Path(self.save_dir) / f"{name}.pth"
        if path.parent != Path(self.save_dir):
            raise OutputError(f"a checkpoint's name is a file name, got {name!r}")
        for pattern in (".*.pth.*.tmp", ".last_checkpoint.*.tmp"):
            for rest in path.parent.glob(pattern):  # of a run that was killed while saving
                if is_unowned(rest):
                    rest.unlink(missing_ok=True)
        logger.info("Saving checkpoint to %s", path)
        with replacing(path) as file:
            keeper = _ErrorKeeper(file)
            torch.save(content, keeper)  # type: ignore[arg-type]
            keeper.raise_error()
        if "best" not in name:
            self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Make a checkpoint the one to resume from."""
        write_text(Path(self.save_dir) / "last_checkpoint", last_filename_basename)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """Go on from the last checkpoint of ``save_dir``, or load ``path``.

        Raises:
            WeightsError: as :meth:`load`; or if the checkpoint to resume is of another model.
        """
        self._resuming = resume and self.has_checkpoint()
        try:
            return super().resume_or_load(path, resume=resume)
        finally:
            self._resuming = False

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Load a checkpoint.

        Nothing in the file is run, whatever its format.

        Args:
            path: file or URL; a Detectron2 or Detectron checkpoint (``.pth``, ``.pkl``), a state
                dict, or ``.safetensors``; ``#sha256=`` and its digest may stand behind it, see
                :func:`~.weight_files.fetch_weights`. Empty: nothing is loaded, and
                ``report`` is None.
            checkpointables: names of what else to load, such as the optimiser; None: all that is
                there.

        Returns:
            What else is in the checkpoint.

        Raises:
            WeightsError: if there is no such file, its digest is another, it cannot be read, or it
                belongs to another model.
        """
        self.report = self.sha256 = None
        self.loaded_classes = ModelClasses()
        self._path = path
        if path:
            file = fetch_weights(path)
            self._path, self.sha256 = file.name, file.sha256
            logger.info("Weights: %s, SHA-256 %s", file.name, file.sha256)
            path = file.path + ("?matching_heuristics=True" if file.heuristics else "")
        try:
            rest = super().load(path, checkpointables)
            self.loaded_classes = ModelClasses.read(rest.get("classes"), self._path)
            return rest
        finally:
            # The base class leaves it set after an error, and then refuses to load anything else.
            self._parsed_url_during_load = None

    def _load_file(self, filename: str) -> dict:
        """Read a file of any layout that Detectron2 reads, or ``.safetensors``."""
        try:
            checkpoint = self._read(filename)
        except DependencyError:
            raise
        except Exception as error:  # a file that is not what it claims can raise anything
            raise WeightsError(
                f"the weights {self._path} cannot be read ({_first_line(error)}); expected a "
                "checkpoint of Detectron2 or a state dict"
            ) from error
        state = checkpoint["model"]
        if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
            state = state["state_dict"]  # as other frameworks save it
        tensors = (torch.Tensor, np.ndarray)
        if not isinstance(state, Mapping) or not all(
            isinstance(v, tensors) for v in state.values()
        ):
            raise WeightsError(
                f"the weights {self._path} hold no state dict: expected names with tensors, alone "
                "or under the key 'model'"
            )
        check_tensors(state, self._path, os.path.getsize(filename.partition("?")[0]))
        checkpoint["model"] = state
        return checkpoint

    def _read(self, filename: str) -> dict:
        if filename.endswith(".pkl"):
            return _detectron_layout(load_pickle(filename))
        if filename.endswith(".pyth"):  # of pycls
            state = self._torch_load(filename)["model_state"]
            return {"model": state, "__author__": "pycls", "matching_heuristics": True}
        return super()._load_file(filename)

    def _torch_load(self, f: str):
        """Read tensors, containers and numbers; no code in the file is run."""
        if str(f).endswith(".safetensors"):
            return {"model": read_safetensors(f)}
        check_archive(f)
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(f, map_location="cpu", weights_only=True)

    def _load_model(self, checkpoint: dict):
        own = self.model.state_dict()
        self._convert_ndarray_to_tensor(checkpoint["model"])
        state = checkpoint["model"] = _without_prefix(checkpoint["model"], "module.")
        if checkpoint.pop("matching_heuristics", False):
            caffe2 = checkpoint.get("__author__") == "Caffe2"
            try:
                given = align_and_update_state_dicts(own, state, c2_conversion=caffe2)
            except (AssertionError, KeyError, ValueError) as error:
                raise WeightsError(
                    f"the weights {self._path} belong to another model: their names cannot be "
                    f"matched with this one's ({_first_line(error)})"
                ) from error
            state = checkpoint["model"] = _with_names_of(own, given)

        # HierarchicalRPN does this on loading, whoever loads it; here it is done for the report.
        initialized = {}
        if any(name.startswith(PARENT_HEAD) for name in own):
            initialized = parent_head_sources(state, PROPOSALS)
            if any(name.startswith(PARENT_ROI_HEADS) for name in own):
                initialized |= parent_roi_sources(state, PARENT_ROI_HEADS)
            state.update({name: state[source] for name, source in initialized.items()})

        check_number_types(own, state, self._path)
        self.report = compare(self._path, own, state, initialized)
        self._refuse_if_unrelated(self.report)
        return super()._load_model(checkpoint)

    def _refuse_if_unrelated(self, report: LoadReport) -> None:
        if self._resuming:
            self._refuse_to_resume_another(report)
        if self.allow_partial or report.share >= _LEAST_SHARE:
            return
        problems = "; ".join(f"{d.name} {d.what}" for d in report.suspicious[:3])
        of_what = "the backbone" if report.backbone_only else "the model"
        raise WeightsError(
            f"the weights {self._path} belong to another model: they have {report.share:.0%} of "
            f"the tensors of {of_what} ({problems}; …); give weights of this architecture, or "
            "`allow_partial_weights` (allow_partial=True) to begin with what fits"
        )

    def _refuse_to_resume_another(self, report: LoadReport) -> None:
        """The optimizer's state belongs to exactly the parameters that were saved with it."""
        differences = [d for d in (*report.expected, *report.suspicious) if d.what != "unused"]
        if not differences:
            return
        number = any(d.name.endswith("cls_score.weight") for d in differences)
        raise WeightsError(
            f"{self._path} cannot be resumed: {differences[0].name} is {differences[0].what} there"
            f"{' (another number of classes)' if number else ''}; resume with the config of that "
            f"training, or begin another with MODEL.WEIGHTS {self._path} and a new OUTPUT_DIR"
        )

    def _log_incompatible_keys(self, incompatible) -> None:
        """Log the report instead of Detectron2's messages."""
        report = self.report
        assert report is not None, "the base class logs after it has loaded"
        logger.info("%s\n%s", report.summary(), report.table())
        if report.suspicious:
            logger.warning(
                "%d tensors of %s do not fit the model, for no reason that is known; they keep "
                "their initial values or are not used: %s",
                len(report.suspicious),
                self._path,
                ", ".join(sorted({module_of(d.name) for d in report.suspicious})),
            )


class _ErrorKeeper:
    """Hands on what is written, and keeps the first error until it is asked for.

    torch's writer ends the process where Python's would raise.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._error: OSError | None = None

    def write(self, data) -> int:
        size = len(data)
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
        return size

    def flush(self) -> None:
        """Nothing: the block that opened the file ends with that."""

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def _detectron_layout(content) -> dict:
    """What a ``.pkl`` of Detectron2's zoo, or of Detectron and Caffe2, holds, in one form."""
    if not isinstance(content, Mapping):
        raise ValueError("it holds no names with arrays")
    if "model" in content and "__author__" in content:
        return dict(content)
    blobs = content.get("blobs", content)  # detectors have them, backbones do not
    state = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
    return {"model": state, "__author__": "Caffe2", "matching_heuristics": True}


def _with_names_of(own: dict, given: dict) -> dict:
    """Give tensors of another shape, which the heuristics leave aside, the model's names."""
    renamed = {}
    for name, tensor in given.items():
        matches = [k for k in own if k.endswith("." + name) and k not in given]
        renamed[matches[0] if name not in own and len(matches) == 1 else name] = tensor
    return renamed


def _without_prefix(state: Mapping, prefix: str) -> dict:
    """``state`` without the prefix that wrapping for distributed training adds to all names."""
    if state and all(name.startswith(prefix) for name in state):
        return {name[len(prefix) :]: tensor for name, tensor in state.items()}
    return dict(state)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _numpy_globals() -> list:
    """What is needed to read NumPy arrays and numbers beside tensors; none of it runs code."""
    core = getattr(np, "_core", None) or np.core
    dtypes = [getattr(np.dtypes, n) for n in dir(np.dtypes) if n.endswith("DType")]
    return [np.ndarray, np.dtype, core.multiarray._reconstruct, core.multiarray.scalar, *dtypes]
