from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as mask_utils

from msnet_d2.errors import InputError, VideoError
from msnet_d2.video import pipeline
from msnet_d2.video.detections import Detections, StreamDetector
from msnet_d2.video.pipeline import process_video
from msnet_d2.video.reader import VideoReader
from msnet_d2.video.results import ModelInfo

av = pytest.importorskip("av")


@pytest.fixture
def run(tmp_path, video_tools):
    """Process a source into tmp_path; returns (summary, results, frames of the output)."""

    def process(source, *, detector=None, reader_options=None, **options):
        out, results = tmp_path / "out.mp4", tmp_path / "out.json"
        with VideoReader(source, **(reader_options or {})) as reader:
            summary = process_video(
                reader,
                detector or StreamDetector(video_tools.FakePredictor()),
                metadata=video_tools.metadata,
                out=out,
                results=results,
                **options,
            )
        with VideoReader(out) as reader:
            frames = list(reader)
        return summary, json.loads(results.read_text()), frames

    return process


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_every_frame_once_in_order_whatever_the_batch(tmp_path, video_tools, run, batch_size):
    source = video_tools.write(tmp_path / "v.mp4", 30)
    predictor = video_tools.FakePredictor()
    summary, results, frames = run(
        source, detector=StreamDetector(predictor), batch_size=batch_size
    )
    assert [entry["index"] for entry in results["frames"]] == list(range(30))
    assert len(frames) == 30
    assert [f.time_s for f in frames] == pytest.approx([i / 30 for i in range(30)], abs=1e-4)
    whole, rest = divmod(30, batch_size)
    assert [size for size, _ in predictor.batches] == [batch_size] * whole + [rest] * (rest > 0)
    assert summary.status == "complete"
    assert summary.frames_processed == 30
    # Scores 0.9 and 0.6 are drawn, a third below 0.5 is not.
    assert summary.instances == {"Slight": 30, "Severe": 30, "Debris": 0}


def test_results_say_what_was_found(tmp_path, video_tools, run):
    source = video_tools.write(tmp_path / "v.mp4", 3)
    _, results, _ = run(source, model=ModelInfo(weights_sha256="ab12"))
    assert results["video"]["name"] == "v.mp4"
    assert str(tmp_path) not in json.dumps(results), "no path of this machine"
    assert (results["video"]["width"], results["video"]["height"]) == (96, 64)
    assert results["video"]["fps"] == 30
    assert {k: v for k, v in results["model"].items() if v is not None} == {
        "weights_sha256": "ab12"
    }
    assert results["categories"] == [
        {"id": 1, "name": "Slight"},
        {"id": 2, "name": "Severe"},
        {"id": 3, "name": "Debris"},
    ]
    assert results["summary"]["status"] == "complete"
    assert results["summary"]["frames_lost"] == 0
    assert results["frames"][2]["time_s"] == pytest.approx(2 / 30, abs=1e-5)
    first, second, _ = results["frames"][1]["instances"]
    assert (first["category_id"], first["score"]) == (1, 0.9)
    assert first["bbox"] == [4, 4, 20, 16]
    mask = mask_utils.decode(second["segmentation"])
    assert mask.shape == (64, 96)
    expected = np.zeros((64, 96), np.uint8)
    expected[10:40, 30:60] = 1
    assert (mask == expected).all()


def test_the_video_shows_what_was_found(tmp_path, video_tools, run):
    source = video_tools.write(tmp_path / "v.mp4", 3, size=(320, 240))
    _, _, frames = run(source)
    with VideoReader(source) as reader:
        before = list(reader)
    difference = np.abs(frames[1].image.astype(int) - before[1].image).max(axis=2)
    assert difference[20:36, 35:55].mean() > 20  # inside the second mask
    assert difference[100:200, 150:300].mean() < 8  # where nothing was found


def test_parts_and_buildings_with_all_fields_are_written(tmp_path, video_tools, run):
    class Rich(video_tools.FakePredictor):
        @staticmethod
        def output(image):
            output = video_tools.FakePredictor.output(image)
            found = output["instances"]
            found.scores_raw = np.array([0.8, 0.7, 0.1])
            found.pred_parent_boxes = np.array([[0, 0, 60, 60], [0, 0, 0, 0], [0, 30, 40, 64]])
            found.parent_scores = np.array([0.95, 0.0, 0.4])
            found.track_id = np.array([7, -1, 8])
            output["parents"] = type(found)(
                pred_boxes=np.array([[0, 0, 60, 60]]), scores=np.array([0.95])
            )
            return output

    source = video_tools.write(tmp_path / "v.mp4", 2)
    _, results, _ = run(source, detector=StreamDetector(Rich()))
    first, second, _ = results["frames"][0]["instances"]
    assert first["score_raw"] == 0.8
    assert first["parent_bbox"] == [0, 0, 60, 60]
    assert first["parent_score"] == 0.95
    assert first["track_id"] == 7
    assert "parent_bbox" not in second, "the second part lies in no building"
    assert "track_id" not in second
    assert results["frames"][0]["parents"] == [{"bbox": [0, 0, 60, 60], "score": 0.95}]


def test_low_scores_can_be_left_out_of_the_results(tmp_path, video_tools, run):
    source = video_tools.write(tmp_path / "v.mp4", 2)
    _, results, _ = run(source, results_min_score=0.7)
    assert [len(f["instances"]) for f in results["frames"]] == [1, 1]


def test_a_refiner_that_looks_ahead_delays_but_changes_no_order(tmp_path, video_tools, run):
    class LookAhead:
        """Gives an output back when the next one comes, as ScoreRefiner does with "next"."""

        def __init__(self):
            self.waiting, self.seen = None, []

        def update(self, output, *, video_id, frame_index):
            self.seen.append((video_id, frame_index))
            done = [] if self.waiting is None else [self.waiting]
            output["instances"].scores = np.array([frame_index / 100, 0.6, 0.1])
            self.waiting = output
            return done

        def flush(self):
            done, self.waiting = [self.waiting], None
            return done

    source = video_tools.write(tmp_path / "v.mp4", 10)
    predictor, refiner = video_tools.FakePredictor(), LookAhead()
    detector = StreamDetector(predictor, refiner, video_id="flight")
    _, results, frames = run(source, detector=detector, batch_size=3)
    # The score tells of which frame an output is: it stays with its own.
    found = [(f["index"], f["instances"][0]["score"]) for f in results["frames"]]
    assert found == [(i, i / 100) for i in range(10)]
    assert len(frames) == 10
    assert refiner.seen == [("flight", i) for i in range(10)]
    assert predictor.batches[0][1][2] == {"video_id": "flight", "frame_index": 2}


def test_folder_and_lossless_video_give_the_same_results(tmp_path, video_tools, run):
    folder = tmp_path / "frames"
    folder.mkdir()
    video = tmp_path / "v.mkv"
    with av.open(str(video), "w") as out:
        stream = out.add_stream("ffv1", rate=25, width=96, height=64, pix_fmt="bgr0")
        for i in range(6):
            cv2.imwrite(str(folder / f"{i}.png"), video_tools.picture(i))
            frame = av.VideoFrame.from_ndarray(video_tools.picture(i), format="bgr24")
            out.mux(stream.encode(frame.reformat(format="bgr0")))
        out.mux(stream.encode())
    _, from_video, _ = run(video)
    _, from_folder, _ = run(folder)
    assert [f["instances"] for f in from_video["frames"]] == [
        f["instances"] for f in from_folder["frames"]
    ]
    # A score depends on the pixels: they differ from frame to frame.
    assert len({f["instances"][2]["score"] for f in from_video["frames"]}) == 6


def test_stride_keeps_times_and_divides_the_rate(tmp_path, video_tools, run):
    source = video_tools.write(tmp_path / "v.mp4", 30)
    summary, results, frames = run(source, reader_options={"stride": 10})
    assert [f["index"] for f in results["frames"]] == [0, 10, 20]
    assert [f.time_s for f in frames] == pytest.approx([0, 1 / 3, 2 / 3], abs=1e-4)
    assert summary.report.frames_read == 30
    assert summary.status == "complete"


def test_max_frames_ends_early(tmp_path, video_tools, run):
    source = video_tools.write(tmp_path / "v.mp4", 30)
    summary, results, frames = run(source, max_frames=5, batch_size=2)
    assert len(frames) == len(results["frames"]) == 5
    assert summary.status == results["summary"]["status"] == "limited"


def test_a_damaged_video_is_processed_and_said_to_be_incomplete(tmp_path, video_tools, run):
    source = video_tools.write(tmp_path / "v.mp4", 40, size=(160, 128))
    video_tools.corrupt(source, 15)
    summary, results, frames = run(source)
    lost = results["summary"]["frames_lost"]
    assert lost > 0
    assert len(frames) == len(results["frames"]) == 40 - lost
    assert summary.status == results["summary"]["status"] == "incomplete"
    assert f"{lost} of 40 frames were lost" in results["summary"]["problems"]


def test_frames_of_another_size_are_in_the_results_with_their_own(tmp_path, video_tools, run):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, size in enumerate([(96, 64), (128, 96)]):
        cv2.imwrite(str(folder / f"{i}.png"), video_tools.picture(i, *size))
    _, results, frames = run(folder)
    first, second = results["frames"]
    assert "width" not in first
    assert (second["width"], second["height"]) == (128, 96)
    assert second["instances"][0]["segmentation"]["size"] == [96, 128]
    assert [f.image.shape for f in frames] == [(64, 96, 3)] * 2


def listing(folder):
    return sorted(p.name for p in folder.iterdir())


def test_no_frame_is_an_error_and_leaves_no_file(tmp_path, video_tools):
    source = video_tools.write(tmp_path / "v.mkv", 10)
    source.write_bytes(source.read_bytes()[: video_tools.packets(source)[0][0]])
    before = listing(tmp_path)
    with pytest.raises(VideoError), VideoReader(source) as reader:
        process_video(
            reader,
            StreamDetector(video_tools.FakePredictor()),
            metadata=video_tools.metadata,
            out=tmp_path / "out.mp4",
            results=tmp_path / "out.json",
        )
    assert listing(tmp_path) == before


@pytest.mark.parametrize("stage", ["decode", "detect", "draw", "encode"])
def test_an_error_in_any_stage_comes_out_and_leaves_no_file(
    tmp_path, video_tools, monkeypatch, stage
):
    source = video_tools.write(tmp_path / "v.mp4", 30)
    detector = StreamDetector(video_tools.FakePredictor())
    calls = []

    def fail_at_five(real):
        def wrapped(*args, **kwargs):
            calls.append(None)
            if len(calls) == 5:
                raise RuntimeError(f"broken {stage}")
            return real(*args, **kwargs)

        return wrapped

    if stage == "detect":
        detector.push = fail_at_five(detector.push)
    elif stage == "draw":
        monkeypatch.setattr(
            pipeline, "draw_instance_predictions", fail_at_five(pipeline.draw_instance_predictions)
        )
    elif stage == "encode":
        real = pipeline.VideoWriter.write
        monkeypatch.setattr(pipeline.VideoWriter, "write", fail_at_five(real))
    else:
        from msnet_d2.video import decode

        monkeypatch.setattr(decode, "_upright", fail_at_five(decode._upright))
    with pytest.raises(RuntimeError, match=f"broken {stage}"), VideoReader(source) as reader:
        process_video(
            reader,
            detector,
            metadata=video_tools.metadata,
            out=tmp_path / "out.mp4",
            results=tmp_path / "out.json",
        )
    assert listing(tmp_path) == ["v.mp4"]


def test_few_frames_are_in_memory_at_once(tmp_path, video_tools):
    """A slow detector must not make the decoder pile up frames, nor a slow encoder the detector."""
    source = video_tools.write(tmp_path / "v.mp4", 60)
    read_ahead = []

    with VideoReader(source) as reader:

        class Watching(video_tools.FakePredictor):
            def predict_batch(self, images, extras=None):
                time.sleep(0.02)
                done = sum(size for size, _ in self.batches)
                read_ahead.append(reader.report.frames_read - done)
                return super().predict_batch(images, extras)

        process_video(
            reader,
            StreamDetector(Watching()),
            metadata=video_tools.metadata,
            results=tmp_path / "out.json",
            batch_size=2,
        )
    # The batch in hand (2), the queue (batch + slack = 6) and one in the decoder's hand.
    assert max(read_ahead) <= 9
    assert max(read_ahead) >= 3, "the decoder worked while the detector did"


def test_crops_do_not_keep_the_masks_of_whole_frames_alive(video_tools):
    output = video_tools.FakePredictor.output(video_tools.picture(0))
    found = Detections.from_output(output, (64, 96))
    for crop in found.pred_masks:
        assert crop.mask.base is None
        assert crop.mask.size < 64 * 96 / 2


def test_what_is_hidden_of_masks_comes_along_for_drawing(video_tools):
    output = video_tools.FakePredictor.output(video_tools.picture(0))
    assert Detections.from_output(output, (64, 96)).pred_hidden_masks is None
    count = len(output["instances"].scores)
    hidden = torch.zeros(count, 1, 28, 28)
    hidden[..., :14] = 0.9  # the left half of each box
    output["instances"].pred_hidden_masks = hidden
    found = Detections.from_output(output, (64, 96))
    assert len(found.pred_hidden_masks) == count > 0
    for crop in found.pred_hidden_masks:
        half = crop.mask.shape[1] // 2
        assert crop.mask[:, : half - 1].all()
        assert not crop.mask[:, half + 1 :].any()


def test_output_over_the_source_is_refused(tmp_path, video_tools):
    source = video_tools.write(tmp_path / "v.mp4", 3)
    content = source.read_bytes()
    detector = StreamDetector(video_tools.FakePredictor())
    options = {"metadata": video_tools.metadata}
    with VideoReader(source) as reader:
        with pytest.raises(InputError, match="source itself"):
            process_video(reader, detector, out=source, **options)
        with pytest.raises(InputError, match="both"):
            process_video(reader, detector, out="a.mp4", results="a.mp4", **options)
        with pytest.raises(InputError, match="name at least one"):
            process_video(reader, detector, **options)
    assert source.read_bytes() == content


INTERRUPTED = """
import importlib.util, sys, time
sys.argv[0] = "msnet"  # as the command does: torch is not imported, which would take seconds
spec = importlib.util.spec_from_file_location("tools", sys.argv[1])
tools = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tools)
from types import SimpleNamespace
from msnet_d2.video.detections import StreamDetector
from msnet_d2.video.pipeline import process_video
from msnet_d2.video.reader import VideoReader

class Slow(tools.FakePredictor):
    def predict_batch(self, images, extras=None):
        time.sleep(0.05)
        if len(self.batches) == 5:
            print("ready", flush=True)
        return super().predict_batch(images, extras)

metadata = SimpleNamespace(
    thing_classes=["Slight", "Severe", "Debris"],
    thing_colors=[(10, 200, 30), (250, 170, 0), (220, 40, 60)],
)
with VideoReader(sys.argv[2]) as reader:
    summary = process_video(
        reader,
        StreamDetector(Slow()),
        metadata=metadata,
        out=sys.argv[3],
        results=sys.argv[4],
    )
print(summary.status, summary.frames_processed, flush=True)
"""


def start_slow_run(tmp_path, video_tools):
    source = video_tools.write(tmp_path / "v.mp4", 200)
    tools = Path(__file__).parent / "conftest.py"
    process = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            INTERRUPTED,
            str(tools),
            str(source),
            str(tmp_path / "out.mp4"),
            str(tmp_path / "out.json"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_both_files(tmp_path, video_tools, number):
    process = start_slow_run(tmp_path, video_tools)
    assert not (tmp_path / "out.mp4").exists(), "the name is there before the file is complete"
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    status, count = output.split()
    assert process.returncode == 0
    assert status == "interrupted"
    assert 5 <= int(count) < 200
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert len(list(reader)) == int(count)
        assert reader.report.is_complete
    results = json.loads((tmp_path / "out.json").read_text())
    assert [f["index"] for f in results["frames"]] == list(range(int(count)))
    assert results["summary"]["status"] == "interrupted"
    assert listing(tmp_path) == ["out.json", "out.mp4", "v.mp4"]


def test_a_kill_leaves_no_file_under_the_name(tmp_path, video_tools):
    process = start_slow_run(tmp_path, video_tools)
    process.kill()
    process.communicate(timeout=60)
    assert not (tmp_path / "out.mp4").exists()
    assert not (tmp_path / "out.json").exists()
