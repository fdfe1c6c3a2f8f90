"""The methods that are compared, and the config of each.

A method is a config file of a *family* ("quick": a small backbone for a CPU; "full": the paper's)
and overrides. ``NAME+srn`` is the method NAME with the Score Refinement Network trained on top of
its detector, which stays as it is (paper, section 4.3); ``NAME+steady`` is the same by this
project's rule, beyond the paper. ``NAME+geometry`` is its detector, with scores refined by geometry
and duplicates damped by their masks; nothing is trained for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import yaml
from detectron2.config import CfgNode

from msnet_d2.config import config_path, load_config
from msnet_d2.config.renamed_keys import rename_in_opts
from msnet_d2.errors import ConfigError, InputError
from msnet_d2.projects import installed_projects

__all__ = [
    "FAMILIES",
    "METHODS",
    "Method",
    "find_methods",
    "make_variant",
    "method_config",
    "with_bases",
]

FAMILIES = ("quick", "full")
# What configs of refinement add to the detector's: suffix of a method -> family -> config files.
_SRN = {"quick": ("quick/msnet_srn_lite0_FPN.yaml",), "full": ("msnet_srn_R50_FPN.yaml",)}
_REFINEMENTS = {
    "+srn": _SRN,
    "+steady": {
        "quick": (*_SRN["quick"], "quick/msnet_srn_steady_lite0_FPN.yaml"),
        "full": (*_SRN["full"], "msnet_srn_steady_R50_FPN.yaml"),
    },
    "+geometry": {
        "quick": ("quick/msnet_geometry_lite0_FPN.yaml",),
        "full": ("msnet_geometry_R50_FPN.yaml",),
    },
}
_REFINEMENT_TITLES = {
    "+srn": "+SRN",
    "+steady": "+SRN, steady",
    "+geometry": ", refined by geometry, mask soft NMS",
}
# Keys that the benchmark itself sets.
_RESERVED = (
    "DATASETS.",
    "OUTPUT_DIR",
    "SEED",
    "MODEL.SRN.ENABLED",
    "MODEL.SRN.DETECTOR",
    "MODEL.SRN.FREEZE_DETECTOR",
)


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
        name: as on the command line, and of folders.
        title: for people.
        configs: family -> config file.
        opts: overrides of it, a flat list of keys and values.
        base: the method whose trained detector this one starts from; None: it trains its own.
        trains: whether there is anything to train; otherwise the base's weights are evaluated under
            other settings.
        needs_parents: whether training needs the boxes of the buildings.
        refinement: "+srn", "+steady" or "+geometry"; None: scores are not refined.
    """

    name: str
    title: str
    configs: Mapping[str, str]
    opts: tuple[str, ...] = ()
    base: str | None = None
    trains: bool = True
    needs_parents: bool = False
    refinement: str | None = None

    @property
    def refines(self) -> bool:
        """Whether this method trains an embedding on top of its base."""
        return self.trains and self.refinement is not None


def _family(quick: str, full: str) -> dict[str, str]:
    return {"quick": quick, "full": full}


def _methods_of_projects() -> Iterator[Method]:
    for installed in installed_projects():
        project = installed.project
        if project is None or project.bench_methods is None or installed.error:
            continue
        for name, fields in (installed.load(project.bench_methods) or {}).items():
            try:
                yield Method(name, **fields)
            except TypeError as error:
                installed.fail(error)


# In the order of the paper's table 2, and of the rows of ours.
METHODS = {
    method.name: method
    for method in (
        *_methods_of_projects(),
        Method(
            "mask_rcnn_D",
            "Mask R-CNN+D",
            _family("quick/mask_rcnn_D_lite0_FPN.yaml", "mask_rcnn_D_R50_FPN.yaml"),
        ),
        Method(
            "mask_rcnn_BD",
            "Mask R-CNN+B+D",
            _family("quick/mask_rcnn_BD_lite0_FPN.yaml", "mask_rcnn_BD_R50_FPN.yaml"),
            needs_parents=True,
        ),
        Method(
            "msnet",
            "MSNet (HRPN, II)",
            _family("quick/msnet_lite0_FPN.yaml", "msnet_R50_FPN.yaml"),
            needs_parents=True,
        ),
        Method(
            "msnet_iou",
            "MSNet (HRPN, IoU)",
            _family("quick/msnet_lite0_FPN.yaml", "msnet_R50_FPN_iou.yaml"),
            opts=("MODEL.HRPN.METRIC", "iou", "MODEL.HRPN.THRESHOLD", "0.4"),
            needs_parents=True,
        ),
        Method(
            "msnet_parents",
            "MSNet, buildings in two stages",
            _family("quick/msnet_parents_lite0_FPN.yaml", "msnet_parents_R50_FPN.yaml"),
            needs_parents=True,
        ),
    )
}


def find_methods(
    names: Sequence[str], variants: Mapping[str, Method] | None = None
) -> list[Method]:
    """Methods by name, each once.

    Args:
        names: of :data:`METHODS` or ``variants``, or one of these with "+srn", "+steady" or
            "+geometry".
        variants: methods of the user's own.

    Raises:
        InputError: for a name that is none, with the nearest one; if there is no name.
    """
    known = {**METHODS, **(variants or {})}
    if not names:
        raise InputError(f"no method given; there are: {', '.join(known)}")
    return [_find(name, known) for name in dict.fromkeys(names)]


def _find(name: str, known: Mapping[str, Method]) -> Method:
    if name in known:
        return known[name]
    base_name, plus, word = name.rpartition("+")
    base, suffix = known.get(base_name), plus + word
    if base is None or suffix not in _REFINEMENTS:
        names = [*known, *(n + suffix for n in known for suffix in _REFINEMENTS)]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        late = " (config overrides go to --opts)" if name.partition(".")[0].isupper() else ""
        raise InputError(
            f"there is no method {name!r}{hint}{late}; there are: {', '.join(known)}, each also "
            f"with {' or '.join(_REFINEMENTS)}"
        )
    if not base.trains:
        raise InputError(f"{name}: score refinement is for methods that are trained")
    return replace(
        base,
        name=name,
        title=base.title + _REFINEMENT_TITLES[suffix],
        base=base.name,
        trains=suffix != "+geometry",
        needs_parents=False,
        refinement=suffix,
    )


def make_variant(words: Sequence[str], known: Mapping[str, Method] | None = None) -> Method:
    """A method of the user's own: ``NAME METHOD KEY VALUE [KEY VALUE …]``.

    Args:
        words: as on the command line.
        known: variants that were made before, which this one may start from.

    Raises:
        InputError: if the words are no variant.
    """
    if len(words) < 4 or len(words) % 2:
        raise InputError(
            f"--variant {' '.join(words)}: expected NAME METHOD KEY VALUE [KEY VALUE …], such as "
            "msnet_sure msnet MODEL.HRPN.PARENT_OBJECTNESS_THRESH 0.5"
        )
    name, base, *opts = words
    if name in METHODS or name in (known or {}) or not name.replace("_", "").isalnum():
        raise InputError(
            f"--variant {name}: choose a name of letters, digits and _ that is not taken"
        )
    (method,) = find_methods([base], known)
    if method.base is not None:
        raise InputError(f"--variant {name}: {base} is no method with a detector of its own")
    _check_free(opts[::2], f"--variant {name}")
    return replace(method, name=name, title=name, opts=(*method.opts, *opts))


def with_bases(
    methods: Sequence[Method], variants: Mapping[str, Method] | None = None
) -> list[Method]:
    """``methods`` and those whose detectors they start from, bases first."""
    ordered: dict[str, Method] = {}
    for method in methods:
        if method.base is not None and method.base not in ordered:
            given = next((m for m in methods if m.name == method.base), None)
            ordered[method.base] = given or find_methods([method.base], variants)[0]
        ordered[method.name] = method
    return list(ordered.values())


def method_config(
    method: Method,
    family: str,
    *,
    opts: Sequence[str] = (),
    refine_opts: Sequence[str] = (),
    seed: int = 0,
) -> CfgNode:
    """The config of a method, without data sets, weights of a base and output folder.

    Args:
        method: of :func:`find_methods`.
        family: one of :data:`FAMILIES`.
        opts: overrides for every method alike. Those of SOLVER do not apply to the training of
            the embedding, whose schedule is another.
        refine_opts: overrides for the training of the embedding alone.
        seed: of weights and data; the same for every method.

    Raises:
        ConfigError: if an override cannot be used, or is the benchmark's own business.
    """
    _check_free([*opts[::2], *refine_opts[::2]], "the benchmark")
    if method.refinement is not None:
        pairs = zip(opts[::2], opts[1::2])
        opts = [word for pair in pairs if not pair[0].startswith("SOLVER.") for word in pair]
        file = method.configs[family]
        # Says what is wrong with an override, which yacs does not.
        detector = load_config(file, [*method.opts, *opts, *refine_opts]).MODEL.META_ARCHITECTURE
        cfg = load_config(file, list(method.opts)).clone()
        cfg.defrost()
        for file in _REFINEMENTS[method.refinement][family]:
            cfg.merge_from_other_cfg(_overlay(file))
        cfg.merge_from_list(rename_in_opts([*opts, *refine_opts]))
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.SRN.DETECTOR = "RefinedDetector", detector
    else:
        cfg = load_config(method.configs[family], [*method.opts, *opts]).clone()
    cfg.defrost()
    cfg.SEED = seed
    return cfg


def _overlay(file: str) -> CfgNode:
    """What a config sets beyond its base."""
    content = yaml.safe_load(config_path(file).read_text(encoding="utf-8"))
    content.pop("_BASE_", None)
    return CfgNode(content)


def _check_free(keys: Sequence[str], whose: str) -> None:
    taken = next((key for key in keys if key.startswith(_RESERVED)), None)
    if taken is not None:
        raise ConfigError(
            f"{whose}: {taken} cannot be overridden; the benchmark sets data sets, folders and "
            "seeds itself (--dataset, --out, --seed)"
        )
