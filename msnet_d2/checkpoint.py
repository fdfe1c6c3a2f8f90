"""Checkpoints: a stock Mask R-CNN's weights for an MSNet, and a report of what was loaded.

Detectron2 loads what fits and mentions the rest in passing. Here the rest is judged: what must
differ (the heads of another number of classes, the parts that an ImageNet backbone lacks) is told
from what should not, and a file that has little to do with the model is refused.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from tabulate import tabulate

from msnet_d2.errors import DependencyError, WeightsError
from msnet_d2.modeling.hrpn import parent_head_sources
from msnet_d2.safe_pickle import load_pickle
from msnet_d2.weight_files import fetch_weights, read_safetensors

__all__ = ["Difference", "LoadReport", "MSNetCheckpointer"]

logger = logging.getLogger(__name__)

_GENERATOR = "proposal_generator."
_PARENT_HEAD = "proposal_generator.parent_rpn.rpn_head."
_SRN = "srn."
_CLASS_SCORES = ".cls_score.weight"

# Below this share of the model's tensors a checkpoint belongs to another model.
_LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Difference:
    """A tensor that the checkpoint and the model do not have in common.

    Attributes:
        name: in the model, or if it is there alone, in the checkpoint.
        what: "missing" (in the checkpoint), "unused" (by the model) or "other shape".
        why: the reason, as shown to the user.
    """

    name: str
    what: str
    why: str


@dataclass
class LoadReport:
    """What became of a checkpoint.

    Attributes:
        path: of the checkpoint.
        backbone_only: it has weights of a backbone alone, such as one trained on ImageNet.
        total: number of tensors in the model, or with ``backbone_only`` in its backbone.
        loaded: the model's tensors that the checkpoint has under the same name.
        initialised: the model's tensors that were set from another of the checkpoint: name -> its
            name.
        expected: differences that are as they should be.
        suspicious: all others.
    """

    path: str
    backbone_only: bool = False
    total: int = 0
    loaded: list[str] = field(default_factory=list)
    initialised: dict[str, str] = field(default_factory=dict)
    expected: list[Difference] = field(default_factory=list)
    suspicious: list[Difference] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of these tensors that have a value from the checkpoint, in [0, 1]."""
        return (len(self.loaded) + len(self.initialised)) / max(self.total, 1)

    def summary(self) -> str:
        """One line."""
        text = f"{self.path}: {len(self.loaded)} of {self.total} tensors loaded"
        if self.backbone_only:
            text += " (a backbone's weights)"
        if self.initialised:
            text += f", {len(self.initialised)} initialised from others"
        text += f"; {len(self.expected)} differ as expected"
        return f"{text}, {len(self.suspicious)} SUSPICIOUSLY" if self.suspicious else text

    def table(self) -> str:
        """What happened, by module of the model."""
        rows = [
            ("loaded", module, count, "")
            for module, count in Counter(_module(n, 2) for n in self.loaded).items()
        ]
        initialised = Counter((_module(n), _module(s)) for n, s in self.initialised.items())
        rows += [("initialised", m, n, f"from {source}") for (m, source), n in initialised.items()]
        for status, differences in (("expected", self.expected), ("SUSPICIOUS", self.suspicious)):
            groups = Counter((_module(d.name), d.what, d.why) for d in differences)
            rows += [(status, m, n, f"{what}: {why}") for (m, what, why), n in groups.items()]
        return tabulate(rows, headers=["", "module", "tensors", "why"], tablefmt="simple")


class MSNetCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer for MSNet, and for any other of its models.

    A checkpoint of an R-CNN with one RPN sets both RPN heads of a :class:`HierarchicalRPN` from it.
    After :meth:`load`, ``report`` is the :class:`LoadReport` and ``sha256`` the digest of the file;
    both are also logged.
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
        self._path = ""

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Load a checkpoint.

        Nothing in the file is run, whatever its format.

        Args:
            path: file or URL; a Detectron2 or Detectron checkpoint (``.pth``, ``.pkl``), a state
                dict, or ``.safetensors``; ``#sha256=`` and its digest may stand behind it, see
                :func:`msnet_d2.weight_files.fetch_weights`. Empty: nothing is loaded, and
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
        self._path = path
        if path:
            file = fetch_weights(path)
            self._path, self.sha256 = file.name, file.sha256
            logger.info("Weights: %s, SHA-256 %s", file.name, file.sha256)
            path = file.path + ("?matching_heuristics=True" if file.heuristics else "")
        try:
            return super().load(path, checkpointables)
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
        initialised = {}
        if any(name.startswith(_PARENT_HEAD) for name in own):
            initialised = parent_head_sources(state, _GENERATOR)
            state.update({name: state[source] for name, source in initialised.items()})

        self.report = _compare(self._path, own, state, initialised)
        self._refuse_if_unrelated()
        return super()._load_model(checkpoint)

    def _refuse_if_unrelated(self) -> None:
        report = self.report
        if self.allow_partial or report.share >= _LEAST_SHARE:
            return
        problems = "; ".join(f"{d.name} {d.what}" for d in report.suspicious[:3])
        of_what = "the backbone" if report.backbone_only else "the model"
        raise WeightsError(
            f"the weights {self._path} belong to another model: they have {report.share:.0%} of "
            f"the tensors of {of_what} ({problems}; …); give weights of this architecture"
        )

    def _log_incompatible_keys(self, incompatible) -> None:
        """Log the report instead of Detectron2's messages."""
        logger.info("%s\n%s", self.report.summary(), self.report.table())
        if self.report.suspicious:
            logger.warning(
                "%d tensors of %s do not fit the model, for no reason that is known; they keep "
                "their initial values or are not used: %s",
                len(self.report.suspicious),
                self._path,
                ", ".join(sorted({_module(d.name) for d in self.report.suspicious})),
            )


def _compare(
    path: str,
    own: dict[str, torch.Tensor],
    given: dict[str, torch.Tensor],
    initialised: dict[str, str],
) -> LoadReport:
    """Compare the names and shapes of the model's tensors with those given."""
    # Counters of batch normalisation and anchors come and go with versions, and no result depends
    # on them.
    own = {k: v for k, v in own.items() if not _is_bookkeeping(k)}
    given = {k: v for k, v in given.items() if not _is_bookkeeping(k)}
    report = LoadReport(path, total=len(own))
    report.loaded = [
        k
        for k, v in own.items()
        if k in given and v.shape == given[k].shape and k not in initialised
    ]
    report.initialised = {
        k: s for k, s in initialised.items() if k in own and own[k].shape == given[k].shape
    }
    # The part of the model that the checkpoint is about, such as "backbone.bottom_up.".
    trunk = _common_module(report.loaded)
    report.backbone_only = trunk.startswith("backbone.") and not any(
        name.startswith((_GENERATOR, "roi_heads.")) for name in given
    )
    if report.backbone_only:
        report.total = sum(name.startswith("backbone.") for name in own)
    classes = _numbers_of_classes(own, given)
    loaded_storages = {own[name].data_ptr() for name in report.loaded}

    def note(expected: bool, name: str, what: str, why: str) -> None:
        (report.expected if expected else report.suspicious).append(Difference(name, what, why))

    for name, tensor in own.items():
        if name not in given:
            if tensor.numel() and tensor.data_ptr() in loaded_storages:
                continue  # another name of a tensor that was loaded
            if report.backbone_only and not name.startswith(trunk):
                note(True, name, "missing", "not part of a backbone; starts at random")
            elif name.startswith(_SRN):
                note(True, name, "missing", "score refinement is untrained; starts at random")
            else:
                note(False, name, "missing", "not in the checkpoint; starts at random")
        elif tensor.shape != given[name].shape:
            there, here = tuple(given[name].shape), tuple(tensor.shape)
            by_classes = _differs_by_classes(there, here, classes)
            if by_classes:
                why = f"{classes[0]} classes in the checkpoint, {classes[1]} here"
            else:
                why = f"{there} in the checkpoint, {here} here"
            note(by_classes, name, "other shape", f"{why}; starts at random")
    has_parents = any(name.startswith(_PARENT_HEAD) for name in own)
    for name in given:
        if name in own:
            continue
        if report.backbone_only:
            note(True, name, "unused", "no part of this model's backbone")
        elif name.startswith(_SRN):
            note(True, name, "unused", "score refinement is off (MODEL.SRN.ENABLED)")
        elif name.startswith(_PARENT_HEAD) and not has_parents:
            note(True, name, "unused", "this model has no parent RPN")
        else:
            note(False, name, "unused", "not in the model")
    return report


def _detectron_layout(content) -> dict:
    """What a ``.pkl`` of Detectron2's zoo, or of Detectron and Caffe2, holds, in one form."""
    if not isinstance(content, Mapping):
        raise ValueError("it holds no names with arrays")
    if "model" in content and "__author__" in content:
        return dict(content)
    blobs = content.get("blobs", content)  # detectors have them, backbones do not
    state = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
    return {"model": state, "__author__": "Caffe2", "matching_heuristics": True}


def _numbers_of_classes(own: dict, given: dict) -> tuple[int, int] | None:
    """How many classes the checkpoint's box head scores, and the model's; None if unknown."""
    for name, tensor in own.items():
        if name.endswith(_CLASS_SCORES) and name in given:
            return len(given[name]) - 1, len(tensor) - 1  # one is the background
    return None


def _differs_by_classes(there, here, classes: tuple[int, int] | None) -> bool:
    """Whether two shapes differ by just what another number of classes changes.

    A dimension may hold one number a class (scores, masks; perhaps beside others) or four (box
    deltas).
    """
    if classes is None or classes[0] == classes[1] or len(there) != len(here):
        return False
    change = classes[1] - classes[0]
    return all(b - a in (0, change, 4 * change) for a, b in zip(there, here))


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


def _is_bookkeeping(name: str) -> bool:
    return (
        name.endswith("num_batches_tracked")
        or "anchor_generator.cell_anchors" in name
        or name in ("pixel_mean", "pixel_std")
    )


def _module(name: str, depth: int | None = None) -> str:
    """The module of a tensor: its name without the last part, or the first parts of that."""
    return ".".join(name.split(".")[:-1][:depth])


def _common_module(names: list[str]) -> str:
    """The innermost module that holds all the tensors, with a dot at its end; "": the model."""
    common = ""
    for parts in zip(*(name.split(".")[:-1] for name in names)):
        if len(set(parts)) > 1:
            break
        common += f"{parts[0]}."
    return common


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _numpy_globals() -> list:
    """What is needed to read NumPy arrays and numbers beside tensors; none of it runs code."""
    core = getattr(np, "_core", None) or np.core
    dtypes = [getattr(np.dtypes, n) for n in dir(np.dtypes) if n.endswith("DType")]
    return [np.ndarray, np.dtype, core.multiarray._reconstruct, core.multiarray.scalar, *dtypes]
