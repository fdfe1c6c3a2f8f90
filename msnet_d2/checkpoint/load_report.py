"""What became of a checkpoint: which of its tensors a model took, and why not the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from tabulate import tabulate

__all__ = [
    "PARENT_HEAD",
    "PARENT_ROI_HEADS",
    "PROPOSALS",
    "Difference",
    "LoadReport",
    "compare",
    "module_of",
]

PROPOSALS = "proposal_generator."
PARENT_HEAD = "proposal_generator.parent_rpn.rpn_head."
PARENT_ROI_HEADS = "proposal_generator.parent_roi_heads."
_SRN = "srn."
_CLASS_SCORES = ".cls_score.weight"


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
    initialized: dict[str, str] = field(default_factory=dict)
    expected: list[Difference] = field(default_factory=list)
    suspicious: list[Difference] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of these tensors that have a value from the checkpoint, in [0, 1]."""
        return (len(self.loaded) + len(self.initialized)) / max(self.total, 1)

    def summary(self) -> str:
        """One line."""
        text = f"{self.path}: {len(self.loaded)} of {self.total} tensors loaded"
        if self.backbone_only:
            text += " (a backbone's weights)"
        if self.initialized:
            text += f", {len(self.initialized)} initialised from others"
        text += f"; {len(self.expected)} differ as expected"
        return f"{text}, {len(self.suspicious)} SUSPICIOUSLY" if self.suspicious else text

    def table(self) -> str:
        """What happened, by module of the model."""
        rows = [
            ("loaded", module, count, "")
            for module, count in Counter(module_of(n, 2) for n in self.loaded).items()
        ]
        initialized = Counter((module_of(n), module_of(s)) for n, s in self.initialized.items())
        rows += [("initialised", m, n, f"from {source}") for (m, source), n in initialized.items()]
        for status, differences in (("expected", self.expected), ("SUSPICIOUS", self.suspicious)):
            groups = Counter((module_of(d.name), d.what, d.why) for d in differences)
            rows += [(status, m, n, f"{what}: {why}") for (m, what, why), n in groups.items()]
        return tabulate(rows, headers=["", "module", "tensors", "why"], tablefmt="simple")


def compare(
    path: str,
    own: dict[str, torch.Tensor],
    given: dict[str, torch.Tensor],
    initialized: dict[str, str],
) -> LoadReport:
    """Compare the names and shapes of the model's tensors with those given.

    Args:
        path: of the checkpoint, for the report.
        own: the model's tensors.
        given: the checkpoint's.
        initialised: names of the model's that were set from others of the checkpoint -> their
            names.
    """
    # Counters of batch normalisation and anchors come and go with versions, and no result depends
    # on them.
    own = {k: v for k, v in own.items() if not _is_bookkeeping(k)}
    given = {k: v for k, v in given.items() if not _is_bookkeeping(k)}
    report = LoadReport(path, total=len(own))
    report.loaded = [
        k
        for k, v in own.items()
        if k in given and v.shape == given[k].shape and k not in initialized
    ]
    report.initialized = {
        k: s for k, s in initialized.items() if k in own and own[k].shape == given[k].shape
    }
    # The part of the model that the checkpoint is about, such as "backbone.bottom_up.".
    trunk = _commonmodule_of(report.loaded)
    report.backbone_only = trunk.startswith("backbone.") and not any(
        name.startswith((PROPOSALS, "roi_heads.")) for name in given
    )
    if report.backbone_only:
        report.total = sum(name.startswith("backbone.") for name in own)
    classes = _numbers_of_classes(own, given)
    loaded_storages = {own[name].data_ptr() for name in report.loaded}

    def note(expected: bool, name: str, what: str, why: str) -> None:
        (report.expected if expected else report.suspicious).append(Difference(name, what, why))

    no_parent_roi_heads = not any(
        k.startswith(PARENT_ROI_HEADS) and k not in initialized for k in given
    )
    for name, tensor in own.items():
        if name not in given:
            if tensor.numel() and tensor.data_ptr() in loaded_storages:
                continue  # another name of a tensor that was loaded
            if report.backbone_only and not name.startswith(trunk):
                note(True, name, "missing", "not part of a backbone; starts at random")
            elif name.startswith(_SRN):
                note(True, name, "missing", "the embedding is untrained; starts at random")
            elif name.startswith(PARENT_ROI_HEADS) and no_parent_roi_heads:
                note(True, name, "missing", "parents had no second stage; starts at random")
            else:
                note(False, name, "missing", "not in the checkpoint; starts at random")
        elif tensor.shape != given[name].shape:
            there, here = tuple(given[name].shape), tuple(tensor.shape)
            by_classes = _differs_by_classes(there, here, classes)
            if classes and by_classes:
                why = f"{classes[0]} classes in the checkpoint, {classes[1]} here"
            else:
                why = f"{there} in the checkpoint, {here} here"
            note(by_classes, name, "other shape", f"{why}; starts at random")
    has_parents = any(name.startswith(PARENT_HEAD) for name in own)
    has_parent_roi_heads = any(name.startswith(PARENT_ROI_HEADS) for name in own)
    for name in given:
        if name in own:
            continue
        if report.backbone_only:
            note(True, name, "unused", "no part of this model's backbone")
        elif name.startswith(_SRN):
            note(True, name, "unused", "this model refines no scores (RefinedDetector)")
        elif name.startswith(PARENT_HEAD) and not has_parents:
            note(True, name, "unused", "this model has no parent RPN")
        elif name.startswith(PARENT_ROI_HEADS) and not has_parent_roi_heads:
            note(True, name, "unused", "parents have no second stage (MODEL.HRPN.PARENT_ROI_HEADS)")
        else:
            note(False, name, "unused", "not in the model")
    return report


def _numbers_of_classes(own: dict, given: dict) -> tuple[int, int] | None:
    """How many classes the checkpoint's box head scores, and the model's; None if unknown."""
    for name, tensor in own.items():
        parents = name.startswith(PARENT_ROI_HEADS)  # always of one class
        if name.endswith(_CLASS_SCORES) and name in given and not parents:
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


def _is_bookkeeping(name: str) -> bool:
    return (
        name.endswith("num_batches_tracked")
        or "anchor_generator.cell_anchors" in name
        or name in ("pixel_mean", "pixel_std")
    )


def module_of(name: str, depth: int | None = None) -> str:
    """The module of a tensor: its name without the last part, or the first parts of that."""
    return ".".join(name.split(".")[:-1][:depth])


def _commonmodule_of(names: list[str]) -> str:
    """The innermost module that holds all the tensors, with a dot at its end; "": the model."""
    common = ""
    for parts in zip(*(name.split(".")[:-1] for name in names)):
        if len(set(parts)) > 1:
            break
        common += f"{parts[0]}."
    return common
