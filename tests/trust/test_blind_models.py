"""A model that cannot see is refused: by its config, or by the numbers in its weights."""

from __future__ import annotations

import io
import pickle
import time
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.config import get_msnet_cfg, load_config
from msnet_d2.config.ranges import RANGES, Range, check_ranges
from msnet_d2.config.yaml_files import keys_of
from msnet_d2.errors import ConfigError, WeightsError
from msnet_d2.utils.safe_pickle import load_pickle

BLINDING = [
    ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", ".nan"),
    ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "2.0"),
    ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.0"),
    ("MODEL.ROI_HEADS.NMS_THRESH_TEST", "-1.0"),
    ("MODEL.RPN.POST_NMS_TOPK_TEST", "0"),
    ("MODEL.RPN.PRE_NMS_TOPK_TEST", "0"),
    ("MODEL.HRPN.PARENT_TOPK_TEST", "0"),
    ("MODEL.HRPN.THRESHOLD", ".inf"),
    ("MODEL.HRPN.PARENT_OBJECTNESS_THRESH", "1.5"),
    ("MODEL.PIXEL_MEAN", "[1.0e+9, 0.0, 0.0]"),
    ("MODEL.PIXEL_STD", "[0.0, 1.0, 1.0]"),
    ("MODEL.PIXEL_STD", "[1.0e+30, 1.0, 1.0]"),
    ("MODEL.ANCHOR_GENERATOR.SIZES", "[[0.000001]]"),
    ("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", "100000"),
    ("TEST.DETECTIONS_PER_IMAGE", "0"),
    ("INPUT.MIN_SIZE_TEST", "1"),
    ("INPUT.MIN_SIZE_TEST", "60000"),
    ("INPUT.MAX_SIZE_TEST", "1"),
    ("MODEL.ROI_BOX_HEAD.FC_DIM", "0"),
    ("DATALOADER.NUM_WORKERS", "100000"),
]


def yaml_of(key, value):
    lines, names = [], key.split(".")
    for depth, name in enumerate(names):
        lines.append("  " * depth + f"{name}:" + (f" {value}" if depth == len(names) - 1 else ""))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("key", "value"), BLINDING)
def test_a_config_that_blinds_the_model_is_refused_by_key(tmp_path, key, value):
    path = tmp_path / "config.yaml"
    path.write_text(yaml_of(key, value))
    with pytest.raises(ConfigError, match=f"^{key} is .*; expected"):
        load_config(path)


def test_the_predictor_refuses_it_too(tiny_cfg):
    from msnet_d2.inference.predictor import Predictor

    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 2.0
    with pytest.raises(ConfigError, match=r"SCORE_THRESH_TEST is 2\.0; expected 0 to 0\.999"):
        Predictor(tiny_cfg, allow_random_weights=True)


def test_every_key_of_the_table_exists_and_its_default_is_in_range():
    cfg = get_msnet_cfg()
    assert set(RANGES) <= set(keys_of(cfg))
    check_ranges(cfg)


@given(st.one_of(st.none(), st.booleans(), st.text(), st.floats(), st.integers()))
@settings(max_examples=200, deadline=None)
def test_only_finite_numbers_between_the_ends_are_in_a_range(value):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    inside = number and (2 <= value <= 7 or value == -1)
    assert (value in Range(2, 7, off=-1)) == inside


@pytest.mark.parametrize("device", ["meta", "vulkan"])
def test_devices_that_do_not_compute_are_refused(tmp_path, device):
    path = tmp_path / "config.yaml"
    path.write_text(yaml_of("MODEL.DEVICE", device))
    with pytest.raises(ConfigError, match=f"MODEL.DEVICE is {device}; expected one of cpu"):
        load_config(path)


@pytest.mark.parametrize("value", ["1:30", "010", "-1:30:00.5", "0_7", "+012"])
def test_numbers_that_yaml_reads_as_others_are_refused(tmp_path, value):
    path = tmp_path / "config.yaml"
    path.write_text(f"SEED: {value}\n")
    with pytest.raises(ConfigError, match="line 1: YAML reads .* as another number"):
        load_config(path)
    path.write_text(f"OUTPUT_DIR: '{value}'\n")
    assert value == load_config(path).OUTPUT_DIR


# --- weights


@pytest.fixture
def load(tiny_cfg, save_model):
    """Load the weights of a tiny model after ``change(name, tensor)`` has been at them."""
    from msnet_d2.inference.predictor import Predictor

    _, path = save_model(tiny_cfg)

    def load(change):
        content = torch.load(path, weights_only=True)
        content["model"] = {name: change(name, t) for name, t in content["model"].items()}
        torch.save(content, path)
        tiny_cfg.MODEL.WEIGHTS = str(path)
        return Predictor(tiny_cfg)

    return load


def only_first(change):
    """``change`` of the first tensor of the box head alone."""
    return lambda name, t: change(t) if name == "roi_heads.box_head.fc1.weight" else t


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_are_refused_by_name(load, dtype):
    with pytest.raises(WeightsError, match=r"fc1\.weight' as \w+, where the model computes"):
        load(only_first(lambda t: t.to(dtype)))


@pytest.mark.parametrize(
    ("form", "change"),
    [
        ("sparse", lambda t: t.to_sparse()),
        ("without data", lambda t: t.to("meta")),
        ("quantized", lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)),
    ],
)
def test_tensors_of_other_forms_are_refused_in_one_line(load, form, change):
    with pytest.raises(
        WeightsError, match=f"fc1.weight' as a tensor that is {form}|cannot be read"
    ):
        load(only_first(change))


def test_half_precision_is_read(load):
    load(lambda _, t: t.half() if t.is_floating_point() else t)


def checkpointer():
    from msnet_d2.checkpoint.checkpointer import MSNetCheckpointer

    return MSNetCheckpointer(torch.nn.Linear(2, 2))


def test_a_tensor_that_repeats_its_memory_is_refused_before_it_is_copied(tmp_path):
    torch.save({"w": torch.zeros(1).expand(1 << 34)}, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").stat().st_size < 10_000
    with pytest.raises(WeightsError, match="stand for tensors of 68,719 MB"):
        checkpointer().load(str(tmp_path / "w.pth"))


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({"w": torch.zeros(1 << 22)}, tmp_path / "w.pth")
    packed = tmp_path / "packed.pth"
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as plain,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other,
    ):
        for entry in plain.infolist():
            other.writestr(entry.filename, plain.read(entry))
    assert packed.stat().st_size < 100_000  # it stands for 17 MB
    with pytest.raises(WeightsError, match="its archive is compressed"):
        checkpointer().load(str(packed))


def test_an_archive_of_structure_alone_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"w": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as plain:
        parts = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(path, "w") as other:
        for name, data in parts.items():
            is_structure = name.endswith("data.pkl")
            other.writestr(
                name, b"\x80\x02](" + b"N" * (17 << 20) + b"e." if is_structure else data
            )
    with pytest.raises(WeightsError, match="MB of it are names and structure"):
        checkpointer().load(str(path))


def nested(levels, put):
    """What ``put`` makes of the opcodes of t = (t, t), ``levels`` deep; some 8 bytes a level."""
    value = ("x",)
    for _ in range(levels):
        value = (value, value)
    text = io.BytesIO()
    pickle.Pickler(text, protocol=2).dump(value)
    return put(text.getvalue()[:-1])


@pytest.mark.parametrize(
    "put",
    [
        lambda body: body + b".",
        lambda body: b"\x80\x02}" + body[2:] + b"Ns.",  # as a key
        lambda body: b"\x80\x04\x8f(" + body[2:] + b"\x90.",  # in a set
        lambda body: b"\x80\x04(" + body[2:] + b"\x91.",  # in a frozen set
    ],
    ids=["value", "key", "set", "frozenset"],
)
def test_shared_tuples_in_a_pickle_take_no_longer_than_they_are_many(tmp_path, put):
    path = tmp_path / "a.pkl"
    path.write_bytes(nested(60, put))
    assert path.stat().st_size < 800
    start = time.monotonic()
    try:
        load_pickle(path)
    except ValueError as error:
        assert "key" in str(error)  # noqa: PT017
    assert time.monotonic() - start < 5


def test_keys_that_collide_are_refused(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({k * (2**61 - 1): 0 for k in range(2, 2000)}))
    with pytest.raises(ValueError, match="key"):
        load_pickle(path)


def test_arrays_of_text_are_no_weights(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"model": {"w": np.array(["a"])}, "__author__": "me"}))
    with pytest.raises(WeightsError, match="as text, not as numbers"):
        checkpointer().load(str(path))
