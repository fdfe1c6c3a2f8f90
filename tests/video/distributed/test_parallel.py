"""Detection by several processes, here and over Ray: the same map, whatever dies meanwhile."""

from __future__ import annotations

import json
import logging
import shutil
from functools import partial

import numpy as np
import pytest
from helpers import chunks as work

from msnet_d2.cli import main
from msnet_d2.errors import InputError, VideoError, WeightsError
from msnet_d2.video.detector import VideoDetector
from msnet_d2.video.distributed.parallel import RETRIES, ParallelDetection
from msnet_d2.video.distributed.processes import run_in_processes

pytest.importorskip("av")
pytest.importorskip("pyogrio")


@pytest.fixture(params=["processes", "ray"])
def backend(request, monkeypatch):
    """Two workers: (where chunks are run, the options of ``msnet map`` for it)."""
    if request.param == "processes":
        yield partial(run_in_processes, workers=2), ["--num-workers", "2"]
        return
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    ray = pytest.importorskip("ray")
    from msnet_d2.video.distributed.ray_workers import run_on_ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",  # nobody else may send work to it
    )
    ray.cloudpickle.register_pickle_by_value(work)
    yield run_on_ray, ["--ray-address", "auto"]
    ray.cloudpickle.unregister_pickle_by_value(work)
    ray.shutdown()


def test_a_killed_workers_chunk_is_run_again_and_a_bad_video_does_not_stop_the_rest(
    backend, settings, clip, one_pass, tmp_path
):
    whole = one_pass(clip.video)
    bad = clip.video.with_name("bad.mp4")
    bad.write_bytes(b"\0" * 5000)
    (tmp_path / "log").mkdir()
    function = work.KilledOnce(tmp_path / "log")

    def run():
        kept, found = tmp_path / "kept", tmp_path / "found.json"
        with ParallelDetection(
            [bad, clip.video],
            VideoDetector(settings),
            kept,
            backend[0],
            chunk_s=1.0,
            function=function,
        ) as detector:
            with pytest.raises(VideoError, match="cannot be opened as a video"):
                detector.detect(bad, results=tmp_path / "bad.json")
            detector.detect(clip.video, results=found)
        return found.read_bytes()

    assert run() == whole
    assert function.ran() == [0, 4, 4, 8, 12]  # one killed, and again

    # A chunk is missing: only this one is run again.
    (missing,) = (tmp_path / "kept").glob("flight_8_*.json")
    missing.unlink()
    assert run() == whole
    assert function.ran() == [0, 4, 4, 8, 8, 12]


def test_each_chunk_ends_by_what_becomes_of_it():
    names = ["good", "killer", "bad", "exits", "stopped", "weights", "good too"]
    # Numbers for chunks and None for settings: workers need not import what they do not use.
    tasks = [(f"{name}.mp4", number) for number, name in enumerate(names)]
    found = dict(run_in_processes(work.by_name, None, tasks, workers=2))
    assert sorted(found) == list(range(len(names)))
    assert (found[0], found[6]) == (b"good", b"good too")
    assert str(found[2]) == "bad cannot be opened"
    assert isinstance(found[5], WeightsError)
    for number in (1, 3, 4):
        assert isinstance(found[number], VideoError)
        assert f"workers died over it {RETRIES + 1} times" in str(found[number])


def test_a_defect_in_a_worker_is_shown_and_leaves_none_behind():
    import multiprocessing

    tasks = [(f"{name}.mp4", 0) for name in ("good", "defect", "good too")]
    before = set(multiprocessing.active_children())
    with pytest.raises(RuntimeError, match="something of ours"):
        list(run_in_processes(work.by_name, None, tasks, workers=1))
    for process in set(multiprocessing.active_children()) - before:
        process.join(20)
        assert not process.is_alive()


def test_the_map_in_parallel_is_that_of_a_single_process(backend, model, clip, tmp_path, capsys):
    config, weights = model
    videos = clip.video.parent
    second = videos / "second.mp4"
    shutil.copy(clip.video, second)
    shutil.copy(clip.log, second.with_suffix(".srt"))
    (videos / "broken.mp4").write_bytes(b"\0" * 5000)
    line = ["map", videos, "--config-file", config, "--weights", weights, "--no-progress"]
    line += ["--min-score", "0.2"]
    parallel = [*backend[1], "--chunk-seconds", "2"]
    assert main([str(p) for p in (*line, "--out", tmp_path / "single")]) == 1
    assert main([str(p) for p in (*line, "--out", tmp_path / "many", *parallel)]) == 1
    assert capsys.readouterr().err.count("Problem: broken.mp4 is left out") == 2
    names = ["damage.geojson", "buildings.csv", "damage.kmz", "summary.json", "index.html"]
    names += ["videos/2_flight.json", "videos/3_second.json"]
    for name in names:
        single = (tmp_path / "single" / name).read_bytes()
        assert (tmp_path / "many" / name).read_bytes() == single, name
    assert len(json.loads((tmp_path / "many" / "damage.geojson").read_text())["features"]) > 0
    assert np.all([f.stat().st_size > 0 for f in (tmp_path / "many.detections").iterdir()])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--num-workers", "0"], "--num-workers must be at least 1"),
        (["--num-workers", "2", "--ray-address", "auto"], "--num-workers is for processes"),
        (["--num-workers", "2", "--results", "r.json"], "contradict each other"),
        (["--workers", "ray", "--results", "r.json"], "contradict each other"),
        (["--ray-address", "auto", "--chunk-seconds", "0"], "--chunk-seconds 0.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, expected, clip, tmp_path, capsys):
    line = ["map", str(clip.video), "--config-file", "x.yaml", "--out", str(tmp_path / "m")]
    assert main([*line, *options]) == 2
    assert expected in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_said_at_once(model, clip, tmp_path, capsys, monkeypatch):
    pytest.importorskip("ray")
    import socket

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config, weights = model
    line = ["map", clip.video, "--config-file", config, "--weights", weights, "--no-progress"]
    line += ["--out", tmp_path / "map"]
    assert main([str(p) for p in (*line, "--ray-address", f"127.0.0.1:{port}")]) == 2
    assert f"no Ray cluster at 127.0.0.1:{port}" in capsys.readouterr().err
    assert main([str(p) for p in (*line, "--workers", "ray")]) == 2
    assert "no Ray cluster is named" in capsys.readouterr().err
    assert not (tmp_path / "map").exists()


@pytest.mark.parametrize(
    ("version", "mode", "reason"),
    [
        ("2.51.2", "token", "knows no tokens.*ray>=2.52"),
        ("1.13.0", "token", "knows no tokens"),
        ("2.52.0", "disabled", "RAY_AUTH_MODE is 'disabled'.*get-auth-token"),
        ("2.60.0", "", "RAY_AUTH_MODE is ''"),
        ("2.52.0", "token", None),
        ("3.0.0.dev0", "TOKEN", None),
    ],
)
def test_ray_is_used_with_tokens_alone(monkeypatch, version, mode, reason):
    from msnet_d2.video.distributed.ray_workers import _check_tokens

    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    if reason is None:
        _check_tokens(version)
    else:
        with pytest.raises(InputError, match=reason):
            _check_tokens(version)
