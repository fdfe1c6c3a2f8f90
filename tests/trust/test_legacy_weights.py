"""Structure of files of torch, zip or not: bounded before torch builds it."""

from __future__ import annotations

import pickle
import time
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch import nn

from msnet_d2.checkpoint import MSNetCheckpointer
from msnet_d2.errors import WeightsError

MAGIC = 0x1950A86A20F9469CFC6C  # of torch.save before version 1.6


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), fc=nn.Linear(4, 2)))


def save(path, content, legacy):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def spoil(path, structure, legacy):
    """A file whose structure is this pickle."""
    if legacy:
        head = b"".join(pickle.dumps(part, protocol=2) for part in (MAGIC, 1001, {}))
        path.write_bytes(head + structure + pickle.dumps([], protocol=2))
        return
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (
            ("data.pkl", structure),
            ("version", b"3\n"),
            ("byteorder", b"little"),
        ):
            archive.writestr(f"w/{name}", content)


def refused(model, path):
    begin = time.process_time()
    with pytest.raises(WeightsError) as error:
        MSNetCheckpointer(model).load(str(path))
    assert time.process_time() - begin < 20
    return str(error.value)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_whole_checkpoint_loads(model, tmp_path, legacy):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "iteration": 7}
    save(tmp_path / "w.pth", content, legacy)
    before = model.fc.weight.detach().clone()
    with torch.no_grad():
        model.fc.weight.zero_()
    assert MSNetCheckpointer(model).load(str(tmp_path / "w.pth"))["iteration"] == 7
    assert torch.equal(model.fc.weight, before)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("structure", "reason"),
    [
        # A key of tuples that share their parts: its hash goes through 2^60 of them.
        (b"\x80\x02})" + b"2\x86" * 60 + b"Ns.", "a key that is a tuple"),
        (b"\x80\x02](" + b"N" * 2_100_000 + b"e.", "2,000,000 steps"),
        (b"\x80\x02(" + b"]" * 2_100_000 + b"l.", "2,000,000 steps"),
        (b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00N.", "protocol 4"),
        (b"\x80\x020.", "no sound pickle"),
    ],
    ids=["shared tuples", "nothings", "lists", "frames", "nonsense"],
)
def test_structure_that_takes_for_ever_is_refused_at_once(
    model, tmp_path, structure, reason, legacy
):
    spoil(tmp_path / "w.pth", structure, legacy)
    assert reason in refused(model, tmp_path / "w.pth")


def test_names_of_a_legacy_file_have_a_size(model, tmp_path):
    text = b"X" + (17 << 20).to_bytes(4, "little") + b"a" * (17 << 20)
    spoil(tmp_path / "w.pth", b"\x80\x02" + text + b".", legacy=True)
    assert "more than 17 MB of it are names and structure" in refused(model, tmp_path / "w.pth")


def test_a_legacy_file_that_is_cut_off_says_so(model, tmp_path):
    save(tmp_path / "w.pth", model.state_dict(), legacy=True)
    content = (tmp_path / "w.pth").read_bytes()
    for size in (0, 3, 30, len(content) - 10):
        (tmp_path / "w.pth").write_bytes(content[:size])
        assert "cannot be read" in refused(model, tmp_path / "w.pth")


def test_the_tar_of_the_first_versions_is_refused(model, tmp_path):
    import tarfile

    (tmp_path / "a").write_bytes(b"a")
    with tarfile.open(tmp_path / "w.pth", "w") as archive:
        archive.add(tmp_path / "a")
    assert "tar of torch before version 0.1.10" in refused(model, tmp_path / "w.pth")
