"""What leaves the machine names files, not the folders of whoever made it; and which weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from msnet_d2.engine import evaluate
from msnet_d2.errors import VideoError
from msnet_d2.inference.images import find_images, predict_images
from msnet_d2.inference.predictor import Predictor
from msnet_d2.utils.redact import redact_paths

PICTURE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
METADATA = SimpleNamespace(
    thing_classes=["Slight", "Severe", "Debris"],
    thing_colors=[(10, 200, 30), (250, 170, 0), (220, 40, 60)],
)


class Finder:
    """Finds one part, in its building, in every frame."""

    def predict_batch(self, images, extras=None):
        return [
            {
                "instances": SimpleNamespace(
                    pred_boxes=np.array([[14.0, 14.0, 34.0, 30.0]]),
                    scores=np.array([0.9]),
                    pred_classes=np.array([1]),
                    pred_parent_boxes=np.array([[4.0, 4.0, 60.0, 60.0]]),
                    parent_scores=np.array([0.8]),
                )
            }
            for _ in images
        ]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with a name that would stand out."""
    folder = tmp_path / "home" / "jane.doe"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.chdir(folder)
    return folder


def assert_nothing_private(folder):
    files = [p for p in Path(folder).rglob("*") if p.is_file()]
    assert files
    for file in files:
        content = file.read_bytes()
        for word in (b"jane.doe", b"hunter2"):
            assert word not in content, f"{file.name} tells {word.decode()}"
    return {p.name for p in files}


@pytest.fixture
def cfg_with_weights(tiny_cfg, home):
    model = Predictor(tiny_cfg, allow_random_weights=True).model
    path = home / "weights.pth"
    torch.save({"model": model.state_dict()}, path)
    tiny_cfg.MODEL.WEIGHTS = str(path)
    tiny_cfg.digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return tiny_cfg


def test_predictions_of_pictures(cfg_with_weights, home):
    (home / "pictures").mkdir()
    Image.fromarray(PICTURE).save(home / "pictures" / "a.png")
    (home / "pictures" / "b.png").write_bytes(b"no picture")
    summary = predict_images(
        Predictor(cfg_with_weights), find_images([home / "pictures"]), home / "out", min_score=0
    )
    assert [entry["file"] for entry in summary["unreadable"]] == ["b.png"]
    assert summary["weights_sha256"] == cfg_with_weights.digest
    assert "predictions.json" in assert_nothing_private(home / "out")


def test_figures_say_which_weights(cfg_with_weights, home, data_folder):
    cfg = cfg_with_weights
    digest = cfg.pop("digest")
    cfg.DATASETS.TEST = (f"{data_folder.rename(home / 'data')}:val",)
    cfg.OUTPUT_DIR = str(home / "run")
    evaluate(cfg)
    about = json.loads((home / "run" / "inference" / "about.json").read_text())
    assert about["weights_sha256"] == digest
    assert about["weights"] == "weights.pth"
    assert_nothing_private(home / "run" / "inference")


@pytest.fixture
def flight(home):
    """A flight as a folder of frames, and what was found in it."""
    pytest.importorskip("av")
    from msnet_d2.video.detections import StreamDetector
    from msnet_d2.video.pipeline import process_video
    from msnet_d2.video.reader import VideoReader

    frames = home / "flights" / "flight"
    frames.mkdir(parents=True)
    for number in range(3):
        Image.fromarray(PICTURE).save(frames / f"{number}.png")
    (home / "out").mkdir()
    with VideoReader(frames) as reader:
        process_video(
            reader,
            StreamDetector(Finder()),
            metadata=METADATA,
            out=home / "out" / "marked.mp4",
            results=home / "out" / "found.json",
        )
    return frames


def test_results_and_pictures_of_a_video(flight, home):
    assert assert_nothing_private(home / "out") == {"marked.mp4", "found.json"}


def test_a_map(flight, home):
    from msnet_d2.damage_map.pipeline import make_map

    make_map([flight], home / "map", use_telemetry=False, results=[home / "out" / "found.json"])
    assert "index.html" in assert_nothing_private(home / "map")


def test_what_a_map_says_of_a_video_that_it_leaves_out(flight, home):
    from msnet_d2.damage_map.pipeline import make_map

    (home / "bad.mp4").write_text("no video")
    results = [home / "out" / "found.json"] * 2
    summary = make_map(
        [flight, home / "bad.mp4"], home / "map", results=results, use_telemetry=False
    )
    assert summary.problems[0].startswith("bad.mp4 is left out: bad.mp4 cannot be opened")
    assert_nothing_private(home / "map")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/jane.doe/a b/v.mp4 is cut off", "v.mp4 is cut off"),  # named to it
        ("cannot read /mnt/disk/jane/v.mp4: no", "cannot read v.mp4: no"),
        ("['/mnt/jane/v.mp4', '/srv/w.mp4']", "['v.mp4', 'w.mp4']"),
        ("C:\\Users\\jane\\v.mp4 is cut off", "v.mp4 is cut off"),
        ("HOME/flights/v.mp4 is cut off", "flights/v.mp4 is cut off"),
        ("see https://example.org/a/b.pth", "see https://example.org/a/b.pth"),
        ("30000/1001 frames, and/or a/b/c.png", "30000/1001 frames, and/or a/b/c.png"),
        ("", ""),
    ],
)
def test_folders_in_messages(home, text, expected):
    text = text.replace("HOME", str(home))
    assert redact_paths(text, "/home/jane.doe/a b/v.mp4") == expected


def test_the_command_in_a_report_names_files_alone(monkeypatch):
    from msnet_benchmark.provenance import describe_run

    words = ["/opt/bin/msnet", "bench", "--dataset", "/home/jane/my data", "--out=/srv/x/y", "a/b"]
    monkeypatch.setattr("sys.argv", words)
    assert describe_run()["command"] == "msnet bench --dataset 'my data' --out=y a/b"


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_playlist_opens_nothing_for_triplets_either(tmp_path, suffix):
    av = pytest.importorskip("av")
    from msnet_d2.data.loading.frame_sources import VideoFile

    with av.open(str(tmp_path / "secret.ts"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="bgr24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    playlists = {
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
        "concat": "ffconcat version 1.0\nfile secret.ts\n",
    }
    assert len(VideoFile(tmp_path / "secret.ts")) == 5
    for name, text in playlists.items():
        (tmp_path / f"{name}{suffix}").write_text(text)
        with pytest.raises(VideoError, match="cannot be opened"):
            VideoFile(tmp_path / f"{name}{suffix}")
