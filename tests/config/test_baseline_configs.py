"""The baselines: stock where they must be, unlike MSNet in what the method needs alone."""

from __future__ import annotations

import sys
import types

import pytest
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from msnet_d2.config import config_path, get_msnet_cfg
from msnet_d2.projects import InstalledProject, Project


def leaves(node, prefix=""):
    """Dotted key -> value."""
    found = {}
    for key, value in node.items():
        inner = isinstance(value, dict)
        found |= leaves(value, f"{prefix}{key}.") if inner else {prefix + key: value}
    return found


def differences(name, other):
    """Dotted key -> values of the configs ``name`` and ``other``, where they differ."""
    ours, theirs = (leaves(get_msnet_cfg(config)) for config in (name, other))
    assert ours.keys() == theirs.keys()
    return {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]}


D_DIFFERS = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN", "MSNet"),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN", "HierarchicalRPN"),
}
BD_DIFFERS = {
    "MODEL.META_ARCHITECTURE": ("ParentClassRCNN", "MSNet"),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN", "HierarchicalRPN"),
    "MODEL.ROI_HEADS.NAME": ("MaskedClassROIHeads", "StandardROIHeads"),
    "MODEL.ROI_HEADS.NUM_CLASSES": (4, 3),
    "MODEL.ROI_HEADS.PARENT_CLASS": (3, -1),
    "TEST.DETECTIONS_PER_IMAGE": (200, 100),
}


@pytest.mark.parametrize(
    ("name", "msnet", "expected"),
    [
        ("mask_rcnn_D_R50_FPN.yaml", "msnet_R50_FPN.yaml", D_DIFFERS),
        ("mask_rcnn_BD_R50_FPN.yaml", "msnet_R50_FPN.yaml", BD_DIFFERS),
        ("quick/mask_rcnn_D_lite0_FPN.yaml", "quick/msnet_lite0_FPN.yaml", D_DIFFERS),
        ("quick/mask_rcnn_BD_lite0_FPN.yaml", "quick/msnet_lite0_FPN.yaml", BD_DIFFERS),
    ],
)
def test_baseline_is_msnet_but_for_the_method(name, msnet, expected):
    assert differences(name, msnet) == expected


def test_damage_alone_is_stock_mask_rcnn():
    """Without a key of ours, and built of Detectron2's own parts alone."""
    cfg = get_cfg()
    cfg.merge_from_file(str(config_path("mask_rcnn_D_R50_FPN.yaml")))
    assert cfg.DATASETS.TRAIN == ("isbda_train",)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    model = build_model(cfg)
    packages = {type(module).__module__.split(".")[0] for module in model.modules()}
    assert packages <= {"detectron2", "fvcore", "torch"}
    assert type(model).__name__ == "GeneralizedRCNN"
    assert model.roi_heads.num_classes == 3
    assert model.roi_heads.mask_on


def test_buildings_and_damage_builds():
    cfg = get_msnet_cfg("mask_rcnn_BD_R50_FPN.yaml", ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    model = build_model(cfg)
    assert model.parent_class == 3
    assert model.roi_heads.has_mask.tolist() == [True, True, True, False, False]


def test_keys_of_projects(monkeypatch):
    def add_keys(cfg):
        cfg.MODEL.OF_A_PROJECT = 5

    module = types.ModuleType("some_project")
    module.add_keys = add_keys
    monkeypatch.setitem(sys.modules, "some_project", module)
    project = Project("a project", add_config="some_project:add_keys")
    installed = InstalledProject("Some", "some_project", project=project)
    monkeypatch.setattr("msnet_d2.config.load.installed_projects", lambda: (installed,))
    assert get_msnet_cfg().MODEL.OF_A_PROJECT == 5
    assert get_msnet_cfg(opts=["MODEL.OF_A_PROJECT", "7"]).MODEL.OF_A_PROJECT == 7
    assert "OF_A_PROJECT" not in get_cfg().MODEL
