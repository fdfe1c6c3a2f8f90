from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from msnet_d2.errors import InputError, VideoError
from msnet_d2.video.reader import VideoReader
from msnet_d2.video.writer import VideoWriter, fit_frame

av = pytest.importorskip("av")


def read(path):
    with VideoReader(path) as reader:
        return list(reader), reader


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_times_come_back_as_they_went_in(tmp_path, video_tools, name, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    stamps = [0, 3003, 6006, 15015, 18018]  # 90 kHz, 30000/1001 frames a second, two left out
    path = tmp_path / name
    with VideoWriter(
        path,
        width=96,
        height=64,
        fps=Fraction(30000, 1001),
        time_base=Fraction(1, 90000),
        codec=codec,
    ) as writer:
        for i, stamp in enumerate(stamps):
            writer.write(video_tools.picture(i), stamp)
    assert writer.frames_written == 5
    frames, reader = read(path)
    assert [f.time_s for f in frames] == pytest.approx([s / 90000 for s in stamps], abs=1e-3)
    assert reader.report.is_complete
    for i, frame in enumerate(frames):
        assert np.abs(frame.image.astype(int) - video_tools.picture(i)).mean() < 12


def test_without_time_stamps_the_rate_decides(tmp_path, video_tools):
    with VideoWriter(tmp_path / "v.mp4", width=96, height=64, fps=12.5) as writer:
        for i in range(5):
            writer.write(video_tools.picture(i))
    frames, reader = read(tmp_path / "v.mp4")
    assert [f.time_s for f in frames] == pytest.approx([0, 0.08, 0.16, 0.24, 0.32], abs=1e-4)
    assert reader.info.fps == Fraction(25, 2)


def test_stamps_that_do_not_grow_are_moved(tmp_path, video_tools):
    with VideoWriter(
        tmp_path / "v.mp4", width=96, height=64, fps=10, time_base=Fraction(1, 1000)
    ) as writer:
        for i, stamp in enumerate([0, 100, 100, 90]):
            writer.write(video_tools.picture(i), stamp)
    frames, _ = read(tmp_path / "v.mp4")
    assert [f.time_s for f in frames] == pytest.approx([0, 0.1, 0.101, 0.102], abs=1e-4)


def test_odd_sizes_are_padded_at_the_right_and_lower_edge(tmp_path):
    image = np.zeros((33, 65, 3), np.uint8)
    image[:, 32:] = (200, 120, 60)
    with VideoWriter(tmp_path / "v.mp4", width=65, height=33, fps=10) as writer:
        writer.write(image)
    frames, _ = read(tmp_path / "v.mp4")
    assert frames[0].image.shape == (34, 66, 3)
    # The last column is repeated, not black.
    assert np.abs(frames[0].image[20, 65].astype(int) - (200, 120, 60)).max() < 12


@pytest.mark.parametrize("color", [(0, 0, 255), (0, 255, 0), (255, 0, 0), (30, 90, 200)])
def test_colors_survive(tmp_path, color):
    image = np.full((720, 1280, 3), color, np.uint8)  # of a size where players assume BT.709
    with VideoWriter(tmp_path / "v.mp4", width=1280, height=720, fps=10) as writer:
        writer.write(image)
    frames, _ = read(tmp_path / "v.mp4")
    assert np.abs(frames[0].image.mean(axis=(0, 1)) - color).max() < 6
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace == 1  # said to be BT.709


def test_frames_of_another_size_are_fitted():
    # 100 × 50 into 60 × 60: factor 0.6, so 60 × 30 with 15 black rows above and below.
    fitted = fit_frame(np.full((50, 100, 3), 9, np.uint8), 60, 60)
    assert (fitted[15:45] == 9).all()
    assert (fitted[:15] == 0).all()
    assert (fitted[45:] == 0).all()
    same = np.zeros((60, 60, 3), np.uint8)
    assert fit_frame(same, 60, 60) is same


def test_a_video_has_its_name_only_when_it_is_complete(tmp_path, video_tools):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"an older file")
    writer = VideoWriter(path, width=96, height=64, fps=10)
    for i in range(5):
        writer.write(video_tools.picture(i))
    assert path.read_bytes() == b"an older file"
    writer.close()
    assert len(read(path)[0]) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    writer.close()
    writer.abort()
    assert path.exists()


def write_and_raise(path, image, error):
    with VideoWriter(path, width=96, height=64, fps=10) as writer:
        writer.write(image)
        raise error


def test_an_error_in_the_block_leaves_nothing(tmp_path, video_tools):
    with pytest.raises(RuntimeError):
        write_and_raise(tmp_path / "v.mp4", video_tools.picture(0), RuntimeError())
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_the_block_finishes_the_file(tmp_path, video_tools):
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(tmp_path / "v.mp4", video_tools.picture(0), KeyboardInterrupt())
    assert len(read(tmp_path / "v.mp4")[0]) == 1


def test_without_an_h264_encoder_mpeg4_is_taken(tmp_path, video_tools, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with VideoWriter(tmp_path / "v.mp4", width=96, height=64, fps=10) as writer:
        writer.write(video_tools.picture(0))
    assert writer.codec == "mpeg4"
    monkeypatch.undo()
    assert read(tmp_path / "v.mp4")[1].info.codec == "mpeg4"


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("v.gif", {}, InputError, "suffix"),
        ("none/v.mp4", {}, InputError, "folder"),
        ("v.mp4", {"codec": "h269"}, VideoError, "no encoder h269"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, options, error, message):
    with pytest.raises(error, match=message):
        VideoWriter(tmp_path / name, width=96, height=64, fps=10, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_video_error_and_leaves_nothing(tmp_path, video_tools, monkeypatch):
    writer = VideoWriter(tmp_path / "v.mp4", width=96, height=64, fps=10)

    class Full:
        def mux(self, packets):
            raise OSError(28, "No space left on device")

        def close(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_container", Full())

    def write_all():
        with writer:
            for i in range(100):
                writer.write(video_tools.picture(i))

    with pytest.raises(VideoError, match="No space left"):
        write_all()
    assert list(tmp_path.iterdir()) == []
