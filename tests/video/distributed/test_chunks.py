"""Detection in chunks: joined they are one pass's results byte by byte, alone and over Ray."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest

from msnet_d2.cli import main
from msnet_d2.errors import InputError, VideoError
from msnet_d2.video.distributed.chunks import (
    CARRY_FRAMES,
    Chunk,
    DetectorSettings,
    detect_chunk,
    join_chunks,
    plan_chunks,
)

pytest.importorskip("av")
pytest.importorskip("pyogrio")


@pytest.fixture
def model(tiny_cfg, save_model):
    """(config file, weights) of a tiny MSNet with an SRN that looks at both neighbours."""
    cfg = tiny_cfg
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 4
    cfg.MODEL.SRN.ENABLED = True
    cfg.MODEL.SRN.FC_DIMS = [16]
    cfg.MODEL.SRN.NEIGHBOUR = "both"
    cfg.MODEL.SRN.MAX_GAP = 2
    return save_model(cfg)


@pytest.fixture
def settings(model):
    config, weights = model
    return DetectorSettings(config.read_text(), str(weights))


@pytest.fixture
def clip(flights):
    """A flight of 16 frames at 4 a second."""
    return flights.write([flights.House(-20, 40), flights.House(20, 40)])


@pytest.fixture
def one_pass(settings):
    """The results file of a pass over a whole video by one process."""
    return lambda video: detect_chunk(settings, str(video), Chunk()).encode()


def test_chunks_join_to_the_bytes_of_one_pass(settings, clip, one_pass, tmp_path):
    whole = one_pass(clip.video)
    chunks = plan_chunks(clip.video, settings, 1.0)
    # 4 frames a second: 4 a chunk, and at least twice the overlap of MAX_GAP frames.
    assert [(c.first, c.end, c.overlap) for c in chunks] == [
        (0, 4, 2),
        (4, 8, 2),
        (8, 12, 2),
        (12, None, 2),
    ]
    # In any order.
    texts = {c: detect_chunk(settings, str(clip.video), c) for c in reversed(chunks)}
    join_chunks([texts[c] for c in chunks], chunks, tmp_path / "joined.json")
    joined = (tmp_path / "joined.json").read_bytes()
    assert joined == whole
    tracks = [i["track_id"] for f in json.loads(joined)["frames"] for i in f["instances"]]
    assert max(tracks) > 4  # tracks begin after the first chunk too


def test_scores_that_are_carried_on_need_a_longer_overlap_which_ends_their_memory(settings):
    from dataclasses import replace

    carrying = replace(settings, config=settings.config.replace("CARRY: false", "CARRY: true"))
    assert settings.overlap == 2
    assert carrying.overlap == 2 + CARRY_FRAMES
    assert replace(carrying, stride=3).overlap == 2 + 3 * CARRY_FRAMES
    # The refiner's running mean from two starts, 0.2 and 0.7, over the same frames.
    own = np.random.default_rng(0).uniform(0.2, 0.7, (CARRY_FRAMES, 1000)).astype(np.float32)
    one, other = np.full((2, 1000), [[0.2], [0.7]], np.float32)
    for scores in own:
        one, other = (scores + one) / 2, (scores + other) / 2
    assert (one == other).all()


def test_a_short_video_is_one_chunk(settings, clip):
    assert plan_chunks(clip.video, settings, 60.0) == [Chunk(0, None, 0)]


def piece(frames):
    """A chunk's results; ``frames``: index -> track numbers of its detections."""
    entries = [
        {
            "index": index,
            "instances": [{"category_id": 1, "score": 0.9, "track_id": t} for t in tracks],
        }
        for index, tracks in frames.items()
    ]
    return json.dumps(
        {"categories": [{"id": 1, "name": "Slight"}], "frames": entries, "summary": {}}
    )


def test_track_numbers_go_on_over_chunks(tmp_path):
    # One pass: frame 0 has tracks 0 and 1; frame 1 goes on with 1 and begins 2; frame 2 goes on
    # with 2 and begins 3. The second chunk begins at frame 2 and sees frame 1 first, whose
    # detections it calls 0 and 1; what begins in it is 2 to it, and 3 in one pass.
    first, second = piece({0: [0, 1], 1: [1, 2]}), piece({1: [0, 1], 2: [1, 2]})
    chunks = [Chunk(0, 2, 1), Chunk(2, None, 1)]
    join_chunks([first, second], chunks, tmp_path / "joined.json")
    frames = json.loads((tmp_path / "joined.json").read_text())["frames"]
    assert [[i["track_id"] for i in f["instances"]] for f in frames] == [[0, 1], [1, 2], [2, 3]]


def test_chunks_that_do_not_continue_each_other_are_refused(tmp_path):
    first, second = piece({0: [0], 1: [0, 1]}), piece({1: [0], 2: [0]})
    with pytest.raises(InputError, match="2 detections in one chunk and 1"):
        join_chunks([first, second], [Chunk(0, 2, 1), Chunk(2, None, 1)], tmp_path / "j.json")


@pytest.fixture
def two_workers():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield ray
    ray.shutdown()


def test_a_killed_workers_chunk_is_run_again_and_a_bad_video_does_not_stop_the_rest(
    two_workers, settings, clip, one_pass, tmp_path
):
    from msnet_d2.video.distributed.ray_workers import RayDetection

    whole = one_pass(clip.video)
    bad = clip.video.with_name("bad.mp4")
    bad.write_bytes(b"\0" * 5000)
    log, made = tmp_path / "log", tmp_path / "killed"
    log.mkdir()

    # Defined here, so that it travels to the workers by value.
    def killed_once(settings, video, chunk):
        import os
        import signal
        import uuid

        (log / f"{chunk.first}_{uuid.uuid4().hex}").touch()
        if chunk.first == 4 and not made.exists():
            made.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return detect_chunk(settings, video, chunk)

    def run(videos, function):
        kept, found = tmp_path / "kept", tmp_path / "found.json"
        with RayDetection(
            videos, settings, kept, weights_sha256="0", chunk_s=1.0, function=function
        ) as detect:
            with pytest.raises(VideoError, match="cannot be opened as a video"):
                detect(bad, tmp_path / "bad.json")
            detect(clip.video, found)
        return found.read_bytes()

    assert run([bad, clip.video], killed_once) == whole
    ran = sorted(int(p.name.split("_")[0]) for p in log.iterdir())
    assert made.exists()
    assert ran.count(4) == 2  # killed, and again
    assert set(ran) == {0, 4, 8, 12}

    # A chunk is missing: only this one is run again.
    (missing,) = (tmp_path / "kept").glob("flight_8_*.json")
    missing.unlink()
    before = set(log.iterdir())
    assert run([bad, clip.video], killed_once) == whole
    assert [p.name.split("_")[0] for p in set(log.iterdir()) - before] == ["8"]


def test_the_map_by_ray_is_that_of_a_single_process(two_workers, model, clip, tmp_path, capsys):
    config, weights = model
    videos = clip.video.parent
    second = videos / "second.mp4"
    shutil.copy(clip.video, second)
    shutil.copy(clip.log, second.with_suffix(".srt"))
    (videos / "broken.mp4").write_bytes(b"\0" * 5000)
    line = ["map", videos, "--config-file", config, "--weights", weights, "--no-progress"]
    line += ["--min-score", "0.2"]
    ray = ["--workers", "ray", "--chunk-seconds", "1"]
    assert main([str(p) for p in (*line, "--out", tmp_path / "single")]) == 1
    assert main([str(p) for p in (*line, "--out", tmp_path / "ray", *ray)]) == 1
    assert capsys.readouterr().err.count("Problem: broken.mp4 is left out") == 2
    names = ["damage.geojson", "buildings.csv", "damage.kmz", "summary.json", "index.html"]
    names += ["videos/2_flight.json", "videos/3_second.json"]
    for name in names:
        single = (tmp_path / "single" / name).read_bytes()
        assert (tmp_path / "ray" / name).read_bytes() == single, name
    assert len(json.loads((tmp_path / "ray" / "damage.geojson").read_text())["features"]) > 0
    assert np.all([f.stat().st_size > 0 for f in (tmp_path / "ray.detections").iterdir()])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--num-workers", "2"], "--num-workers needs --workers ray"),
        (["--workers", "ray", "--results", "r.json"], "contradict each other"),
        (["--workers", "ray", "--chunk-seconds", "0"], "--chunk-seconds 0.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, expected, clip, tmp_path, capsys):
    line = ["map", str(clip.video), "--config-file", "x.yaml", "--out", str(tmp_path / "m")]
    assert main([*line, *options]) == 2
    assert expected in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_said_at_once(model, clip, tmp_path, capsys):
    pytest.importorskip("ray")
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config, weights = model
    line = ["map", clip.video, "--config-file", config, "--weights", weights, "--no-progress"]
    line += ["--out", tmp_path / "map", "--workers", "ray", "--ray-address", f"127.0.0.1:{port}"]
    assert main([str(p) for p in line]) == 2
    assert f"no Ray cluster at 127.0.0.1:{port}" in capsys.readouterr().err
    assert not (tmp_path / "map").exists()
