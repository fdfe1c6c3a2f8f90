"""Files are replaced whole or not at all, with the permissions of any new file."""

from __future__ import annotations

import os
import stat

import pytest

from msnet_d2.errors import OutputError
from msnet_d2.utils.file_io import PendingFile, replacing, replacing_path, write_bytes


def mode_of(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_umask_of_the_process_is_never_changed(tmp_path, monkeypatch):
    # It belongs to all threads: another one's file would be open to everybody in between.
    def set_umask(mask):
        raise AssertionError(f"the umask was set to {mask:o}")

    plain = tmp_path / "plain"
    plain.touch()
    monkeypatch.setattr(os, "umask", set_umask)
    write_bytes(tmp_path / "a", b"1")
    assert mode_of(tmp_path / "a") == mode_of(plain)


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"1")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a") == 0o640  # 0o666 without 0o027


@pytest.mark.parametrize("opener", [replacing, replacing_path])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, opener):
    path = tmp_path / "a"
    path.write_text("old")

    def fail_after_writing():
        with opener(path) as opened:
            (opened.write_bytes if opener is replacing_path else opened.write)(b"new")
            assert path.read_text() == "old"
            raise KeyError

    with pytest.raises(KeyError):
        fail_after_writing()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_disk_names_the_file(tmp_path):
    with (
        pytest.raises(OutputError, match=r"cannot write .*/a: no space.* is unchanged"),
        replacing_path(tmp_path / "a"),
    ):
        raise OSError(28, "no space")
    assert list(tmp_path.iterdir()) == []


def test_a_pending_file_is_hidden_until_it_is_committed(tmp_path):
    pending = PendingFile(tmp_path / "a.mp4", ".part")
    assert pending.path.parent == tmp_path
    assert pending.path.name.startswith(".a.mp4.")
    assert pending.path.name.endswith(".part")
    pending.path.write_text("x")
    pending.commit()
    pending.discard()
    assert (tmp_path / "a.mp4").read_text() == "x"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


def test_a_discarded_file_is_gone(tmp_path):
    pending = PendingFile(tmp_path / "a")
    pending.discard()
    pending.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    target = tmp_path / "target"
    (tmp_path / ".a.00000000.tmp").symlink_to(target)
    monkeypatch.setattr("msnet_d2.utils.file_io.secrets.token_hex", lambda n: "0" * 2 * n)
    with pytest.raises(OutputError, match="File exists"):
        write_bytes(tmp_path / "a", b"secret")
    assert not target.exists()
