"""Data sets of other kinds than instances: semantic, panoptic, amodal, tracks, flow.

Each is named ``KIND@SPEC``, as in ``panoptic@data:val``, wherever a data set is asked for.
"""

from msnet_d2.data.kinds.registry import (
    KINDS,
    DatasetKind,
    KindReport,
    find_kind_issues,
    kind_of,
    load_kind,
    read_kind,
    resolve_kind,
)

__all__ = [
    "KINDS",
    "DatasetKind",
    "KindReport",
    "find_kind_issues",
    "kind_of",
    "load_kind",
    "read_kind",
    "resolve_kind",
]
