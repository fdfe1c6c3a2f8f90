"""What can be wrong with a data set, and what is left of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field

from msnet_d2.data.isbda.categories import CategoryMap
from msnet_d2.utils.text import brief

__all__ = ["Issue", "ValidationReport", "count_kinds"]


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong with a data set.

    Attributes:
        severity: "fatal": the data set is refused; "dropped": loading leaves out the annotation (or
            the polygon) and counts it; "kept": it is used as it is, but look at it.
        kind: short name of what is wrong, such as "unknown-category".
        image_id: as in the JSON; None where it concerns no single image.
        annotation_id: as in the JSON; None where it concerns no single annotation.
        message: what was found and what was expected.
    """

    severity: str
    kind: str
    image_id: object
    annotation_id: object
    message: str

    @property
    def fatal(self) -> bool:
        """Whether loading refuses the data set for it."""
        return self.severity == "fatal"

    def __str__(self) -> str:
        where = [
            f"{name} {brief(value)}"
            for name, value in (("image", self.image_id), ("annotation", self.annotation_id))
            if value is not None
        ]
        return f"{', '.join(where)}: {self.message}" if where else self.message

    def as_dict(self) -> dict:
        """Return the fields, for a JSON."""
        return asdict(self)


@dataclass
class ValidationReport:
    """What :func:`read_and_validate` found.

    Attributes:
        json_file: that was read.
        image_root: folder of its images.
        issues: all of them, in the order of the file.
        categories: class names and numbers.
        records: Detectron2's dataset dicts of all sound images, in the order of their ids, with
            their sound annotations.
    """

    json_file: str
    image_root: str
    issues: list[Issue] = field(default_factory=list)
    categories: CategoryMap = field(default_factory=lambda: CategoryMap([], {}, False))
    records: list[dict] = field(default_factory=list)

    def report(
        self,
        severity: str,
        kind: str,
        message: str,
        image_id: object = None,
        annotation_id: object = None,
    ) -> None:
        """Add an issue.

        Args:
            severity, kind, message: see :class:`Issue`.
            image_id, annotation_id: as in the JSON, of any type, since they may be the issue; None:
                it belongs to none.
        """
        self.issues.append(Issue(severity, kind, image_id, annotation_id, message))


def count_kinds(issues: list[Issue]) -> str:
    """Return "2 empty-box, 1 no-mask" and so on, the most frequent kind first."""
    return ", ".join(f"{n} {kind}" for kind, n in Counter(f.kind for f in issues).most_common())
