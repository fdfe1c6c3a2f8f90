"""Many videos, some bad, while workers and whole runs are killed: each ends once."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from msnet_d2.errors import InputError, VideoError, WeightsError
from msnet_d2.video.distributed.batch import read_outcomes, run_batch

av = pytest.importorskip("av")

# `make fuzz` raises them.
VIDEOS = int(os.environ.get("MSNET_FUZZ_VIDEOS", "40"))
DRIVER_KILLS = max(2, VIDEOS // 100)


def note_call(folder, name):
    """Survives whatever becomes of the process."""
    with open(Path(folder) / f"{Path(name).name}.calls", "a") as file:
        file.write(f"{os.getpid()}\n")
        file.flush()
        os.fsync(file.fileno())


def calls(folder):
    return Counter(
        {p.name.removesuffix(".calls"): len(p.read_text().split()) for p in folder.glob("*.calls")}
    )


def run(names, work, state, **options):
    return run_batch(names, work, state, context="fork", **options)


def test_each_ends_by_what_it_did(tmp_path):
    def work(name):
        note_call(tmp_path, name)
        tries = calls(tmp_path)[name]
        if name == "bad":
            raise VideoError("bad cannot be opened")
        if name == "defect":
            raise RuntimeError("something of ours")
        if name == "second time" and tries < 2:
            raise RuntimeError("not yet")
        if name == "killer":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "exits":
            os._exit(0)
        return {"frames": 3}

    names = ["good", "bad", "defect", "second time", "killer", "exits", "good too"]
    told = []
    outcomes = run(names, work, tmp_path / "state", workers=2, on_end=told.append)

    assert {o.name: (o.status, o.tries) for o in outcomes} == {
        "good": ("done", 1),
        "bad": ("quarantined", 1),
        "defect": ("quarantined", 3),
        "second time": ("done", 2),
        "killer": ("quarantined", 3),
        "exits": ("quarantined", 3),
        "good too": ("done", 1),
    }
    assert calls(tmp_path) == {o.name: o.tries for o in outcomes}
    assert outcomes[0].result == {"frames": 3}
    assert outcomes[1].reason == "bad cannot be opened"
    assert outcomes[2].reason == "RuntimeError: something of ours"
    assert "killed in all of 3 tries" in outcomes[4].reason
    assert sorted(o.name for o in told) == sorted(names)

    # A second run changes nothing, and a new name joins in.
    again = run([*names, "new"], work, tmp_path / "state")
    assert again[:-1] == outcomes
    assert again[-1].status == "done"
    assert calls(tmp_path)["good"] == 1


def test_one_that_hangs_is_set_aside(tmp_path):
    def work(name):
        time.sleep(0 if name == "good" else 60)

    outcomes = run(["hangs", "good"], work, tmp_path, workers=2, timeout_s=0.4, max_tries=2)
    assert [(o.status, o.tries) for o in outcomes] == [("quarantined", 2), ("done", 1)]


def test_what_concerns_all_videos_ends_the_run_and_counts_for_none(tmp_path):
    def work(name):
        raise WeightsError("no weights")

    for _ in range(4):
        with pytest.raises(WeightsError, match="no weights"):
            run(["a", "b"], work, tmp_path)
    assert [(o.status, o.tries) for o in read_outcomes(tmp_path, ["a"])] == [("waiting", 0)]
    assert run(["a", "b"], lambda name: 1, tmp_path)[0].status == "done"


def test_bad_arguments(tmp_path):
    with pytest.raises(InputError, match="a is given twice"):
        run(["a", "b", "a"], print, tmp_path)
    with pytest.raises(InputError, match="at least one worker"):
        run(["a"], print, tmp_path, workers=0)
    run(["a"], lambda name: 1, tmp_path)
    next(tmp_path.glob("*.json")).write_text("{")
    with pytest.raises(InputError, match="is no outcome of a batch"):
        run(["a"], print, tmp_path)


def test_a_worker_that_outlives_its_run_finishes_and_is_not_repeated(tmp_path):
    def work(name):
        note_call(tmp_path, name)
        time.sleep(1.0)

    driver = multiprocessing.get_context("fork").Process(
        target=run, args=(["slow"], work, tmp_path / "state")
    )
    driver.start()
    while not calls(tmp_path):
        time.sleep(0.01)
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    outcomes = run(["slow"], work, tmp_path / "state")
    assert [(o.status, o.tries) for o in outcomes] == [("done", 1)]
    assert calls(tmp_path) == {"slow": 1}


class Finder:
    """Finds one part in every frame."""

    def predict_batch(self, images, extras=None):
        return [
            {
                "instances": SimpleNamespace(
                    pred_boxes=np.array([[4.0, 4.0, 24.0, 20.0]]),
                    scores=np.array([float(image.mean()) / 255]),
                    pred_classes=np.array([0]),
                )
            }
            for image in images
        ]


def make_videos(folder):
    """``VIDEOS`` tiny ones, every twentieth bad in one of four ways; names of the bad ones."""
    folder.mkdir()
    sound = folder / "sound.mp4"
    with av.open(str(sound), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 32, 32
        stream.pix_fmt = "yuv420p"
        for i in range(4):
            image = np.full((32, 32, 3), 40 * i + 20, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        out.mux(stream.encode())
    data = sound.read_bytes()
    sound.unlink()
    spoiled = [b"", b"no video", data[:100], b"#EXTM3U\n#EXTINF:1,\n0000.mp4\n"]
    names, bad = [], set()
    for number in range(VIDEOS):
        path = folder / f"{number:04d}.mp4"
        path.write_bytes(spoiled[number // 20 % 4] if number % 20 == 7 else data)
        names.append(str(path))
        if number % 20 == 7:
            bad.add(str(path))
    return names, bad


def test_every_video_ends_once_whoever_is_killed(tmp_path, record_property):
    from msnet_d2.video.detections import StreamDetector
    from msnet_d2.video.pipeline import process_video
    from msnet_d2.video.reader import VideoReader

    names, bad = make_videos(tmp_path / "videos")
    notes, out = tmp_path / "notes", tmp_path / "out"
    notes.mkdir()
    out.mkdir()
    metadata = SimpleNamespace(thing_classes=["Slight"], thing_colors=[(1, 2, 3)])

    def work(name):
        note_call(notes, name)
        time.sleep(0.01)  # time to be killed in
        with VideoReader(name) as reader:
            summary = process_video(
                reader,
                StreamDetector(Finder()),
                metadata=metadata,
                results=out / f"{Path(name).stem}.json",
            )
        return {"status": summary.status, "frames": summary.frames_processed}

    def drive():
        os.setpgid(0, 0)
        run(names, work, tmp_path / "state", workers=2)

    context, rng = multiprocessing.get_context("fork"), random.Random(1)
    # The workers of every tenth video are killed once.
    victims = {f"{Path(name).name}.calls" for name in rng.sample(names, VIDEOS // 10)}
    driver_kills, worker_kills = 0, 0
    while True:
        driver = context.Process(target=drive)
        driver.start()
        # The run itself is killed too, some times.
        deadline = time.monotonic() + rng.uniform(0.5, 1.5)
        while driver.is_alive() and (time.monotonic() < deadline or driver_kills >= DRIVER_KILLS):
            time.sleep(0.005)
            for name in victims & set(os.listdir(notes)):
                words = (notes / name).read_text().split()
                if not words:
                    continue
                victims.remove(name)
                # It may have gone on to another video, or have ended with the run before.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(words[-1]), signal.SIGKILL)
                    worker_kills += 1
        if not driver.is_alive():
            break
        os.kill(driver.pid, signal.SIGKILL)
        driver.join()
        driver_kills += 1
    driver.join()
    assert driver.exitcode == 0

    outcomes = run(names, work, tmp_path / "state")
    counts = calls(notes)
    ended = [o for o in outcomes if o.ended]
    record_property("tried", len(names))
    record_property("survived", len(ended))
    assert len(ended) == len(names)
    assert {o.name for o in outcomes if o.status == "quarantined"} == bad
    for outcome in outcomes:
        # A kill may come between noting the try and its first line.
        assert 1 <= counts[Path(outcome.name).name] <= outcome.tries <= 3
        if outcome.status == "done":
            assert outcome.result == {"status": "complete", "frames": 4}
            content = json.loads((out / f"{Path(outcome.name).stem}.json").read_text())
            assert len(content["frames"]) == 4
    assert worker_kills
    # What the killed ones had begun to write is no result.
    assert {p.stem for p in out.glob("*.json")} == {Path(n).stem for n in set(names) - bad}
