"""Config keys under their old names are read, with one warning each."""

from __future__ import annotations

import logging

import pytest

from msnet_d2.config import get_msnet_cfg
from msnet_d2.config.renamed_keys import RENAMED_KEYS, RENAMED_VALUES, _warn_once
from msnet_d2.config.yaml_files import keys_of
from msnet_d2.errors import ConfigError


@pytest.fixture(autouse=True)
def forget_warnings():
    _warn_once.cache_clear()


def test_new_names_exist_and_old_ones_do_not():
    known = set(keys_of(get_msnet_cfg()))
    new = {
        key for keys in RENAMED_KEYS.values() for key in ([keys] if isinstance(keys, str) else keys)
    }
    assert new | RENAMED_VALUES.keys() <= known
    assert not known & RENAMED_KEYS.keys()


def test_old_names_in_overrides(caplog):
    opts = ["MODEL.HRPN.MIN_PARENT_OBJECTNESS", 0.5, "MODEL.HRPN.MAX_PARENT_PROPOSALS", "(7, 9)"]
    opts += ["MODEL.HRPN.METRIC", "ii"]
    with caplog.at_level(logging.WARNING, "msnet_d2"):
        hrpn = get_msnet_cfg(opts=opts).MODEL.HRPN
        get_msnet_cfg(opts=opts)
    assert hrpn.PARENT_OBJECTNESS_THRESH == 0.5
    assert (hrpn.PARENT_TOPK_TRAIN, hrpn.PARENT_TOPK_TEST) == (7, 9)
    assert hrpn.METRIC == "ioa"
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3, "each warning appears once"
    assert (
        "MODEL.HRPN.MIN_PARENT_OBJECTNESS is now MODEL.HRPN.PARENT_OBJECTNESS_THRESH" in messages[0]
    )


def test_old_names_in_a_file(tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text(
        "MODEL:\n  HRPN:\n    METRIC: ii\n    MAX_PARENT_PROPOSALS: [3, 4]\n    LOSS_WEIGHT: 2.0\n"
    )
    hrpn = get_msnet_cfg(file).MODEL.HRPN
    assert (hrpn.METRIC, hrpn.PARENT_TOPK_TRAIN, hrpn.PARENT_TOPK_TEST) == ("ioa", 3, 4)
    assert hrpn.PARENT_LOSS_WEIGHT == 2.0


@pytest.mark.parametrize("old_below", [True, False])
def test_a_file_overrides_its_base_whatever_name_either_uses(tmp_path, old_below):
    old, new = "{MODEL: {HRPN: {LOSS_WEIGHT: %s}}", "{MODEL: {HRPN: {PARENT_LOSS_WEIGHT: %s}}"
    below, above = (old, new) if old_below else (new, old)
    (tmp_path / "base.yaml").write_text(below % 2.0 + "}")
    (tmp_path / "run.yaml").write_text(above % 3.0 + ", _BASE_: base.yaml}")
    assert get_msnet_cfg(tmp_path / "run.yaml").MODEL.HRPN.PARENT_LOSS_WEIGHT == 3.0


def test_both_names_in_one_file(tmp_path):
    file = tmp_path / "both.yaml"
    file.write_text("MODEL: {HRPN: {LOSS_WEIGHT: 2.0, PARENT_LOSS_WEIGHT: 3.0}}")
    with pytest.raises(
        ConfigError, match=r"both\.yaml: it has MODEL\.HRPN\.PARENT_LOSS_WEIGHT and"
    ):
        get_msnet_cfg(file)


@pytest.mark.parametrize("value", ["(1,)", "5", "(1, 2, 3)", "no tuple"])
def test_a_value_that_cannot_be_divided(value):
    with pytest.raises(ConfigError, match=r"give its 2 values under their new names"):
        get_msnet_cfg(opts=["MODEL.HRPN.MAX_PARENT_PROPOSALS", value])


def test_a_config_of_another_version_is_refused(tmp_path):
    file = tmp_path / "v1.yaml"
    file.write_text("VERSION: 1\n")
    with pytest.raises(ConfigError, match="VERSION is 1; only configs of version 2"):
        get_msnet_cfg(file)


def test_a_section_over_a_value(tmp_path):
    (tmp_path / "base.yaml").write_text("MODEL: {DEVICE: cpu}")
    (tmp_path / "run.yaml").write_text("{MODEL: {DEVICE: {KIND: cpu}}, _BASE_: base.yaml}")
    with pytest.raises(ConfigError, match=r"run\.yaml: DEVICE is a section here"):
        get_msnet_cfg(tmp_path / "run.yaml")


# (architecture, MODEL.SRN.ENABLED as it was) -> (architecture, detector) now
SWITCHES = [
    ("MSNet", True, "RefinedDetector", "MSNet"),
    ("RefinableRCNN", True, "RefinedDetector", "GeneralizedRCNN"),
    ("RetinaNet", True, "RefinedDetector", "RetinaNet"),
    ("MSNet", False, "MSNet", "GeneralizedRCNN"),
    ("RefinableRCNN", False, "GeneralizedRCNN", "GeneralizedRCNN"),
]


@pytest.mark.parametrize(("before", "enabled", "after", "detector"), SWITCHES)
@pytest.mark.parametrize("in_file", [True, False])
def test_refinement_was_a_switch(tmp_path, caplog, in_file, before, enabled, after, detector):
    opts = ["MODEL.META_ARCHITECTURE", before, "MODEL.SRN.ENABLED", str(enabled)]
    file = None
    if in_file:
        (tmp_path / "base.yaml").write_text(f"MODEL: {{META_ARCHITECTURE: {before}}}")
        file, opts = tmp_path / "old.yaml", []
        file.write_text(f"_BASE_: base.yaml\nMODEL: {{SRN: {{ENABLED: {enabled}}}}}")
    with caplog.at_level(logging.WARNING, "msnet_d2"):
        cfg = get_msnet_cfg(file, opts)
    assert (after, detector) == (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.SRN.DETECTOR)
    assert "ENABLED" not in cfg.MODEL.SRN
    assert f"MODEL.SRN.ENABLED ({enabled}) is now MODEL.META_ARCHITECTURE {after}" in caplog.text


def test_the_switch_turns_a_refined_config_off():
    cfg = get_msnet_cfg("msnet_srn_R50_FPN.yaml", ["MODEL.SRN.ENABLED", "False"])
    assert cfg.MODEL.META_ARCHITECTURE == "MSNet"


def test_rules_of_refinement_by_their_old_names():
    opts = ["NEIGHBOUR", "both", "MUTUAL", True, "CARRY", True, "MAX_GAP", 3]
    opts += ["CUT_THRESHOLD", 0.5, "SCORE_RANGE", "(0.1, 0.9)", "SAME_CLASS", True]
    opts[::2] = [f"MODEL.SRN.{name}" for name in opts[::2]]
    rule = get_msnet_cfg(opts=opts).TEST.SCORE_REFINEMENT
    assert (rule.NEIGHBORS, rule.MUTUAL_NN, rule.RUNNING_MEAN) == ("both", True, True)
    assert (rule.MAX_FRAME_GAP, rule.SHOT_CHANGE_THRESH) == (3, 0.5)
    assert (rule.SCORE_RANGE, rule.SAME_CLASS) == ((0.1, 0.9), True)
