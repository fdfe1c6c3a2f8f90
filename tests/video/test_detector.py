"""From a config to the results of a video, and to a map, in Python."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path

import pytest
from helpers.flights import flights  # noqa: F401

from msnet_d2.config import load_config
from msnet_d2.errors import ConfigError, VideoError
from msnet_d2.video.detections import FRAME_DETECTOR_REGISTRY, StreamDetector
from msnet_d2.video.detector import VideoDetector
from msnet_d2.video.results import read_results

pytest.importorskip("av")
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def model(tiny_cfg, save_model):
    """(config file, weights) of a tiny MSNet that finds many things anywhere."""
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 4
    return save_model(tiny_cfg)


def test_a_detector_says_what_it_is_and_survives_pickle(model, video_tools, tmp_path):
    config, weights = model
    source = video_tools.write(tmp_path / "v.mp4", 4)
    detector = VideoDetector.from_config(load_config(str(config)), weights, stride=2)
    summary = detector.detect(source, results=tmp_path / "a.json", results_min_score=0.01)
    found = read_results(tmp_path / "a.json")
    assert [f.index for f in found.frames] == [0, 2]
    assert found.model == detector.model
    assert found.model.meta_architecture == "MSNet"
    assert (summary.info.name, summary.frames_processed) == ("v.mp4", 2)
    # What travels to another process are the settings, not the model.
    state = pickle.dumps(detector)
    assert len(state) < 100_000
    again = pickle.loads(state)
    again.detect(source, results=tmp_path / "b.json", results_min_score=0.01)
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.json").read_bytes()


def test_a_wrong_file_is_said_before_the_model_is_built(model, tmp_path):
    config, _ = model
    detector = VideoDetector.from_config(load_config(str(config)), tmp_path / "no.pth")
    with pytest.raises(VideoError, match=r"nowhere.mp4 does not exist"):
        detector.detect(tmp_path / "nowhere.mp4", results=tmp_path / "r.json")


def test_a_project_brings_a_detector_of_its_own(model, video_tools, tmp_path):
    @FRAME_DETECTOR_REGISTRY.register()
    class EveryOther(StreamDetector):
        """Carries what it found in a frame to the next one."""

        def push(self, frames):
            done = []
            for frame in frames:
                if frame.index % 2 == 0:
                    ((_, self.kept),) = super().push([frame])
                done.append((frame, self.kept))
            return done

    try:
        config, weights = model
        cfg = load_config(str(config), ["VIDEO.DETECTOR", "EveryOther"])
        source = video_tools.write(tmp_path / "v.mp4", 4)
        VideoDetector.from_config(cfg, weights).detect(source, results=tmp_path / "r.json")
    finally:
        del FRAME_DETECTOR_REGISTRY._obj_map["EveryOther"]
    frames = read_results(tmp_path / "r.json").frames
    assert [f.index for f in frames] == [0, 1, 2, 3]
    assert frames[0].instances == frames[1].instances
    assert frames[2].instances == frames[3].instances
    assert frames[1].instances != frames[2].instances


def test_a_detector_that_is_not_there_is_refused_with_those_that_are(model):
    cfg = load_config(str(model[0]), ["VIDEO.DETECTOR", "StreamDetektor"])
    with pytest.raises(ConfigError, match=r"'StreamDetektor'; there are: StreamDetector"):
        VideoDetector.from_config(cfg)


def test_the_map_of_the_readme_is_made_as_it_says(model, flights, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("pyogrio")
    config, weights = model
    files = flights.write([flights.House(0, 40)], frames=4)
    folder = tmp_path / "output" / "run"
    folder.mkdir(parents=True)
    shutil.copy(config, folder / "config.yaml")
    shutil.copy(weights, folder / "model_final.pth")
    for path in (files.video, files.log):
        shutil.copy(path, tmp_path)
    (code,) = re.findall(r"```python\n((?:(?!```).)*make_map\(.*?)```", README.read_text(), re.S)
    lines = [line for line in code.splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("import", "from"))]) <= 5
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "map" / "index.html").is_file()
    assert (tmp_path / "map" / "videos" / "flight.json").is_file()
