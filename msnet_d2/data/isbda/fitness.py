"""What a sound data set still lacks for training: by itself, by a config, and across its splits."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from detectron2.config import CfgNode

from msnet_d2.config.classes import class_name_key, num_classes, num_classes_key
from msnet_d2.data.isbda.issues import Issue, ValidationReport

__all__ = ["doubtful_scenes", "issues_across_splits", "issues_for_training"]

_SHOWN = 5


def issues_for_training(
    found: ValidationReport, cfg: CfgNode | None = None, *, all_classes: bool = True
) -> list[Issue]:
    """What training will stumble over, or leave out.

    Args:
        found: of one data set.
        cfg: of the training; None: any, so that what is missing is said but not fatal.
        all_classes: whether it must have all classes of the model, as training sets do.
    """
    annotations = [a for r in found.records for a in r["annotations"] if not a["iscrowd"]]
    issues: list[Issue] = []

    def report(severity: str, kind: str, message: str) -> None:
        issues.append(Issue(severity, kind, None, None, message))

    unused = _unused_classes(found)
    if unused and not found.categories.is_isbda:
        report("kept", "unused-category", f"no annotation has the class {', '.join(unused)}")
    doubt = doubtful_scenes(found.records)
    if doubt:
        report("kept", "doubtful-names", doubt)
    if not annotations:
        report("fatal" if cfg else "kept", "no-annotations", "no annotation can be trained on")
        return issues
    without = sum("segmentation" not in a for a in annotations)
    if without and (cfg is None or cfg.MODEL.MASK_ON):
        report(
            "fatal" if cfg else "kept",
            "no-masks",
            f"{without} of {len(annotations)} annotations have no mask, which a model with "
            "MODEL.MASK_ON True learns; set MODEL.MASK_ON False to train on boxes alone",
        )
    if cfg is not None:
        _check_config(found, annotations, cfg, report, all_classes)
    return issues


def _check_config(
    found: ValidationReport, annotations: list[dict], cfg: CfgNode, report, all_classes: bool
) -> None:
    names, wanted = found.categories.thing_classes, list(cfg.MODEL.CLASS_NAMES)
    if wanted:
        known = set(map(class_name_key, wanted))
        unknown = [n for n in names if class_name_key(n) not in known]
        if unknown:
            report(
                "fatal",
                "class-names",
                f"MODEL.CLASS_NAMES is {', '.join(wanted)}; the data set has {', '.join(names)}",
            )
    elif all_classes and len(names) != num_classes(cfg):
        report(
            "fatal",
            "class-number",
            f"{num_classes_key(cfg)} makes {num_classes(cfg)} classes, but the data set has "
            f"{len(names)}: {', '.join(names)}",
        )
    runs = sum(isinstance(a.get("segmentation"), dict) for a in annotations)
    if runs and cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon":
        report(
            "fatal",
            "mask-format",
            f"{runs} of {len(annotations)} masks are run lengths; set INPUT.MASK_FORMAT bitmask",
        )
    hierarchical = cfg.MODEL.PROPOSAL_GENERATOR.NAME == "HierarchicalRPN"
    if hierarchical and not any("parent_bbox" in a for a in annotations):
        report(
            "fatal",
            "no-parents",
            "no annotation has a house_bbox, which HierarchicalRPN learns; add them, name a "
            "category of buildings by DATASETS.PARENT_CATEGORY, or train mask_rcnn_D_R50_FPN.yaml",
        )


def issues_across_splits(reports: Mapping[str, ValidationReport]) -> list[Issue]:
    """What splits of one data set have in common and should not, or the other way round.

    Args:
        reports: by the names of the data sets, the training set first.
    """
    issues: list[Issue] = []
    first, *others = reports
    for other in others:
        own, theirs = (reports[name].categories.thing_classes for name in (first, other))
        known = set(map(class_name_key, own))
        unknown = [n for n in theirs if class_name_key(n) not in known]
        if unknown:
            message = f"{first} has the classes {', '.join(own)}, {other} has {', '.join(theirs)}"
            issues.append(Issue("fatal", "class-names", None, None, message))
        for kind, key, what in (
            ("scene-leak", "video_id", "frames of the same videos"),
            ("image-leak", "file_name", "the same images"),
        ):
            shared = sorted(_values(reports[first], key) & _values(reports[other], key))
            if shared:
                shown = ", ".join(map(os.path.basename, shared[:_SHOWN]))
                message = (
                    f"{first} and {other} hold {what} ({len(shared)}: {shown}"
                    f"{', …' if len(shared) > _SHOWN else ''}), so that figures on {other} flatter "
                    "the model; msnet split makes splits without"
                )
                issues.append(Issue("kept", kind, None, None, message))
    return issues


def doubtful_scenes(records: Iterable[dict]) -> str | None:
    """Why the videos that file names say may be none: tiles are named as frames are.

    ``ortho_0_1.png`` is column 0, row 1 of a mosaic, or frame 1 of the video ``ortho_0``. It is
    doubtful where all videos whose names differ in their last number alone have the same frames.

    Returns:
        One sentence; None: there is no doubt.
    """
    grids: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    example: dict[str, dict] = {}
    for record in records:
        stem = os.path.splitext(os.path.basename(record["file_name"]))[0]
        video, frame = record.get("video_id"), record.get("frame_index")
        match = re.fullmatch(r"(.+)_(\d+)", os.path.basename(str(video)))
        if match and frame is not None and re.fullmatch(rf"{re.escape(match[0])}_0*{frame}", stem):
            grids[match[1]][video].add(frame)
            example.setdefault(match[1], record)
    for name, videos in grids.items():
        frames = list(videos.values())
        if len(frames) > 1 and len(frames[0]) > 1 and all(f == frames[0] for f in frames):
            record = example[name]
            return (
                f"{os.path.basename(record['file_name'])} is taken for frame "
                f"{record['frame_index']} of the video {record['video_id']!r}, one of "
                f"{len(videos)} called {name}_NUMBER with the same frames; if these are tiles, "
                "msnet split --by folder or --by pattern keeps what belongs together on one side"
            )
    return None


def _unused_classes(found: ValidationReport) -> list[str]:
    used = {a["category_id"] for r in found.records for a in r["annotations"]}
    return [n for i, n in enumerate(found.categories.thing_classes) if i not in used]


def _values(found: ValidationReport, key: str) -> set[str]:
    return {str(r[key]) for r in found.records if r.get(key)}
