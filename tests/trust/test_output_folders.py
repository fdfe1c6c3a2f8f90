"""Nothing in an output folder is lost: locks, second looks, kills, and files of others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from msnet_d2.errors import InputError, OutputError
from msnet_d2.utils.file_io import write_text
from msnet_d2.utils.locks import hold
from msnet_d2.utils.output_folder import MANIFEST, check_output_folder, replaced_folder


def make(out, **files):
    """Replace ``out`` by a folder of ``files``; a ``__`` in a name stands for a folder."""
    with replaced_folder(out, "map") as folder:
        for name, text in files.items():
            write_text(folder / name.replace("__", "/"), text)


def content(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {p.relative_to(folder).as_posix(): p.read_text() for p in files}


def test_a_folder_of_an_earlier_run_is_replaced_whole_and_nothing_stays_beside_it(tmp_path):
    make(tmp_path / "map", page="old", videos__1="old", gone="old")
    make(tmp_path / "map", page="new", videos__1="new")
    assert content(tmp_path / "map") == {"page": "new", "videos/1": "new"}
    assert [p.name for p in tmp_path.iterdir()] == ["map"]


@pytest.mark.parametrize("place", ["mine.txt", "videos/mine.txt", "videos/deep/mine.txt"])
def test_files_of_others_at_any_depth_keep_a_folder_from_being_replaced(tmp_path, place):
    make(tmp_path / "map", videos__1="old")
    (tmp_path / "map" / place).parent.mkdir(exist_ok=True)
    (tmp_path / "map" / place).write_text("precious")
    with pytest.raises(InputError, match=r"holds other files \(.*mine\.txt\)"):
        make(tmp_path / "map", videos__1="new")
    assert content(tmp_path / "map") == {"videos/1": "old", place: "precious"}


@pytest.mark.parametrize("place", ["mine.txt", "videos/mine.txt"])
def test_files_that_others_put_there_meanwhile_are_kept_and_so_is_what_was_made(tmp_path, place):
    make(tmp_path / "map", videos__1="old")

    def run():
        with replaced_folder(tmp_path / "map", "map") as folder:
            write_text(folder / "videos" / "1", "new")
            (tmp_path / "map" / place).write_text("precious")

    with pytest.raises(OutputError, match=r"mine\.txt.*What was made is in .*map\.new"):
        run()
    assert content(tmp_path / "map") == {"videos/1": "old", place: "precious"}
    assert content(tmp_path / "map.new") == {"videos/1": "new"}


def test_a_folder_that_others_made_meanwhile_is_not_replaced(tmp_path):
    def run():
        with replaced_folder(tmp_path / "map", "map") as folder:
            write_text(folder / "page", "new")
            write_text(tmp_path / "map" / "mine.txt", "precious")

    with pytest.raises(OutputError, match=r"What was made is in .*map\.new"):
        run()
    assert content(tmp_path / "map") == {"mine.txt": "precious"}
    assert content(tmp_path / "map.new") == {"page": "new"}


def test_a_file_that_somebody_altered_is_kept_beside_the_new_folder(tmp_path, caplog):
    make(tmp_path / "map", table="old", page="old")
    (tmp_path / "map" / "table").write_text("old, checked by me")
    make(tmp_path / "map", table="new", page="new")
    assert content(tmp_path / "map") == {"table": "new", "page": "new"}
    assert content(tmp_path / "map.before") == {"table": "old, checked by me"}
    assert "map.before" in caplog.text


@pytest.mark.parametrize("entry", ["link", "pipe", "empty folder"])
def test_links_pipes_and_empty_folders_of_others_count_as_files(tmp_path, entry):
    make(tmp_path / "map", page="old")
    mine = tmp_path / "map" / "mine"
    if entry == "link":
        mine.symlink_to(tmp_path, target_is_directory=True)
    elif entry == "pipe":
        os.mkfifo(mine)
    else:
        mine.mkdir()
    with pytest.raises(InputError, match=r"\(mine\)"):
        make(tmp_path / "map", page="new")
    assert os.path.lexists(mine)


def test_a_manifest_cannot_name_what_lies_outside(tmp_path):
    make(tmp_path / "map", page="old")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    manifest = json.loads((tmp_path / "map" / MANIFEST).read_text())
    digest = manifest["files"]["page"]
    victim.write_text("old")  # even with the digest that the manifest states
    manifest["files"] |= {"../victim": digest, str(victim): digest, "link/victim": digest}
    (tmp_path / "map" / MANIFEST).write_text(json.dumps(manifest))
    make(tmp_path / "map", page="new")
    assert victim.read_text() == "old"


@pytest.mark.parametrize("spelling", ["inside", "through a link", "the folder itself"])
def test_an_input_inside_the_folder_is_refused(tmp_path, spelling):
    make(tmp_path / "map", videos__1="old")
    path = tmp_path / "map" / "videos" / "1"
    if spelling == "through a link":
        (tmp_path / "1").symlink_to(path)
        path = tmp_path / "1"
    elif spelling == "the folder itself":
        path = tmp_path / "map"
    with pytest.raises(InputError, match=r"lies in `out`"):
        check_output_folder(tmp_path / "map", "map", inputs=[path])


def test_the_folder_that_one_is_in_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    for out in (".", "..", tmp_path / "a", "/"):
        with pytest.raises(InputError, match="cannot be replaced whole|is a file|other files"):
            make(out, page="new")


def test_overwriting_moves_what_is_not_in_the_way_and_keeps_the_rest_aside(tmp_path):
    write_text(tmp_path / "d" / "notes.txt", "precious")
    write_text(tmp_path / "d" / "train" / "mine.jpg", "precious")
    with replaced_folder(tmp_path / "d", "data", overwrite=True) as folder:
        write_text(folder / "train" / "1.jpg", "new")
    assert content(tmp_path / "d") == {"notes.txt": "precious", "train/1.jpg": "new"}
    assert content(tmp_path / "d.before") == {"train/mine.jpg": "precious"}


# --- kills

PROGRAM = """
import os, signal, sys
from pathlib import Path
from msnet_d2.utils import output_folder as module

out, stage = Path(sys.argv[1]), sys.argv[2]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def dying(name, before=True):
    whole = getattr(module, name)
    def instead(*args, **options):
        if not before:
            whole(*args, **options)
        die()
    setattr(module, name, instead)

renames = 0
def rename(old, new):
    global renames
    if renames == int(stage[-1]):
        die()
    renames += 1
    real(old, new)

if stage == "listed":
    dying("_written", before=False)
if stage == "complete":
    dying("_put")
if stage == "exchanged":
    dying("_exchange", before=False)
if stage == "half removed":
    module.Path.unlink = lambda *_, **__: die()
if stage.startswith("rename"):
    real = module.os.rename
    module._exchange = lambda *_: False
    module.os.rename = rename
with module.replaced_folder(out, "map") as folder:
    if stage == "begun":
        die()
    (folder / "page").write_text("new")
    (folder / "table").write_text("new")
    if stage == "written":
        die()
"""
STAGES = ["begun", "written", "listed", "complete", "exchanged", "half removed"]
RENAMES = ["rename 0", "rename 1", "rename 2"]


def killed_at(stage, out):
    done = subprocess.run([sys.executable, "-c", PROGRAM, out, stage], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("stage", STAGES + RENAMES)
def test_killed_at_any_instant_the_old_or_the_new_is_there_and_the_rest_is_swept(tmp_path, stage):
    out = tmp_path / "map"
    make(out, page="old", table="old")
    killed_at(stage, out)
    whole = [{"page": "old", "table": "old"}, {"page": "new", "table": "new"}]
    if stage not in RENAMES:
        assert content(out) in whole

    # On a system that cannot exchange two names, the next run restores before it does anything.
    def fail():
        with replaced_folder(out, "map"):
            assert content(out) in whole
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert content(out) in whole
    make(out, page="newer")
    assert content(out) == {"page": "newer"}
    assert [p.name for p in tmp_path.iterdir()] == ["map"]


@pytest.mark.parametrize("stage", ["exchanged", "half removed", *RENAMES])
def test_files_of_others_outlive_a_kill_and_the_run_after_it(tmp_path, stage):
    out = tmp_path / "map"
    make(out, page="old", table="old")
    (out / "page").write_text("old, altered by me")
    killed_at(stage, out)
    make(out, page="newer")
    texts = [p.read_text() for p in tmp_path.rglob("page")]
    assert sorted(texts) == ["newer", "old, altered by me"]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_temporary_file_that_a_killed_run_left_goes_when_its_file_is_written(tmp_path):
    program = (
        "import os, signal, sys\nfrom msnet_d2.utils.file_io import replacing\n"
        "with replacing(sys.argv[1]) as file:\n"
        "    file.write(b'half')\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a.json"], check=False)
    (tmp_path / ".b.json.0123abcd.tmp").write_text("of another file")
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "a.json", "whole")
    assert {p.name for p in tmp_path.iterdir()} == {"a.json", ".b.json.0123abcd.tmp"}


# --- locks


@pytest.fixture
def holder(tmp_path):
    """A process that holds ``tmp_path / "map"``."""
    program = (
        "import sys, time\nfrom msnet_d2.utils.locks import hold\n"
        "with hold(sys.argv[1], 'a map'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "map"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_into_a_folder_is_refused_and_told_who_holds_it(tmp_path, holder):
    message = rf"map is in use: a map \(process {holder.pid} on .*, since 20.*\) writes there"
    for spelling in (tmp_path / "map", tmp_path / "x" / ".." / "map"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(OutputError, match=message), hold(spelling, "another"):
            pass
    with hold(tmp_path / "map2", "another"):
        pass


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path, holder):
    holder.kill()
    holder.wait()
    with hold(tmp_path / "map", "another"):
        assert [p.name for p in tmp_path.iterdir()] == [".map.lock"]
    assert list(tmp_path.iterdir()) == []


def test_a_holder_may_take_what_it_holds_and_a_child_that_lives_on_keeps_nothing(tmp_path):
    with hold(tmp_path / "map", "a map"), hold(tmp_path / "map", "a map"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        with hold(tmp_path / "map", "another"):
            pass
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("name", ["é" * 120, "x" * 247, "a b\n[c]*"])
def test_names_of_any_length_and_form_can_be_written_and_locked(tmp_path, name):
    make(tmp_path / name, page="old")
    make(tmp_path / name, page="new")
    write_text(tmp_path / name / f"{'y' * 250}.json", "long")
    assert content(tmp_path / name)["page"] == "new"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_file_where_a_lock_would_be_is_not_touched(tmp_path):
    (tmp_path / ".map.lock").write_text("mine")
    with (
        pytest.raises(OutputError, match=r"\.map\.lock is no lock of msnet"),
        hold(tmp_path / "map", "a map"),
    ):
        pass
    assert (tmp_path / ".map.lock").read_text() == "mine"


def test_a_folder_in_one_that_cannot_be_written_is_locked_inside(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "map").mkdir()
    tmp_path.chmod(0o555)
    try:
        with hold(tmp_path / "map", "a training"):
            assert [p.name for p in (tmp_path / "map").iterdir()] == [".msnet.lock"]
    finally:
        tmp_path.chmod(0o755)


def test_many_runs_that_begin_at_once_never_overlap(tmp_path):
    program = (
        "import os, sys, time\nfrom msnet_d2.errors import OutputError\n"
        "from msnet_d2.utils.locks import hold\nend = time.monotonic() + 1.5\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        with hold(sys.argv[1], 'a map'):\n"
        "            handle = os.open(sys.argv[1] + '.alone', os.O_CREAT | os.O_EXCL)\n"
        "            os.close(handle)\n"
        "            os.unlink(sys.argv[1] + '.alone')\n"
        "    except OutputError:\n        pass\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", program, tmp_path / "map"]) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]


# --- by the command line


@pytest.mark.parametrize(
    "words",
    [
        ["map", "{in}/a.mp4", "--results", "{in}/a.json", "--out", "{out}"],
        ["split", "{data}", "--out", "{out}"],
        ["train", "--config-file", "{config}", "OUTPUT_DIR", "{out}"],
        ["eval", "--config-file", "{config}", "OUTPUT_DIR", "{out}"],
    ],
    ids=lambda words: words[0],
)
def test_every_command_refuses_a_folder_that_another_run_holds(
    words, holder, tmp_path, data_folder, train_cfg, capsys
):
    from msnet_d2.cli import main

    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "a.json").write_text("{}")
    config = tmp_path / "config.yaml"
    config.write_text(train_cfg.dump())
    places = {"in": tmp_path, "data": data_folder, "config": config, "out": tmp_path / "map"}
    pytest.importorskip("pyogrio")
    assert main([word.format(**places) for word in words]) == 2
    assert f"is in use: a map (process {holder.pid} on" in capsys.readouterr().err
    assert not (tmp_path / "map").exists()
