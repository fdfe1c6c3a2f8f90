from __future__ import annotations

import os
from fractions import Fraction
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from msnet_d2.errors import VideoError
from msnet_d2.utils.text import natural_key
from msnet_d2.video.integrity import IntegrityChecker
from msnet_d2.video.reader import VideoReader
from msnet_d2.video.stream import ReadReport

av = pytest.importorskip("av")


def read(path, **options):
    with VideoReader(path, **options) as reader:
        frames = list(reader)
    return frames, reader


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("v.mp4", "libx264"),
        ("v.mov", "mpeg4"),
        ("v.mkv", "libx264"),
        ("v.ts", "libx264"),
        ("v.avi", "mpeg4"),
        ("v.avi", "libx264"),
        ("v.webm", "libvpx"),
        ("v.mp4", "libx265"),
    ],
)
def test_every_frame_comes_once_in_order_with_its_time(tmp_path, video_tools, name, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    options = {"x265-params": "log-level=0"} if codec == "libx265" else {}
    path = video_tools.write(tmp_path / name, 30, codec=codec, options=options)
    frames, reader = read(path)
    assert [f.index for f in frames] == list(range(30))
    # 30 frames a second; Matroska keeps milliseconds.
    assert [f.time_s for f in frames] == pytest.approx([i / 30 for i in range(30)], abs=1e-3)
    assert reader.report.is_complete, reader.report.problems()
    assert reader.report.notes() == []
    assert (reader.info.width, reader.info.height, reader.info.fps) == (96, 64, 30)
    assert frames[0].key
    assert not any(f.damaged for f in frames)
    assert all(f.image.shape == (64, 96, 3) and f.image.dtype == np.uint8 for f in frames)
    # Lossy, but the right picture: the next one differs by more.
    for frame in (frames[0], frames[17]):
        error = np.abs(frame.image.astype(int) - video_tools.picture(frame.index)).mean()
        other = np.abs(frame.image.astype(int) - video_tools.picture(frame.index + 1)).mean()
        assert error < 15 < other + 10


def test_stride_gives_every_nth_frame_and_counts_all(tmp_path, video_tools):
    frames, reader = read(video_tools.write(tmp_path / "v.mp4", 10), stride=4)
    assert [f.index for f in frames] == [0, 4, 8]
    assert reader.report.frames_read == 10


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_rotation_tag_is_applied(tmp_path, video_tools, degrees, turns):
    plain, _ = read(video_tools.write(tmp_path / "plain.mp4", 2))
    turned, reader = read(video_tools.write(tmp_path / "turned.mp4", 2, rotation=degrees))
    # Display rotation counts counter-clockwise, as np.rot90 does.
    assert (turned[0].image == np.rot90(plain[0].image, turns)).all()
    assert (reader.info.width, reader.info.height) == ((64, 96) if turns % 2 else (96, 64))
    assert reader.info.rotation == turns * 90


def test_variable_frame_rate_keeps_time_stamps(tmp_path, video_tools):
    stamps = [0, 33, 66, 166, 200, 350, 400]
    path = video_tools.write(tmp_path / "v.mp4", 7, pts=stamps, time_base=Fraction(1, 1000))
    frames, reader = read(path)
    assert [f.time_s for f in frames] == pytest.approx([t / 1000 for t in stamps], abs=1e-4)
    assert reader.report.variable_frame_rate
    assert reader.report.is_complete
    assert reader.report.notes() == ["the frame rate varies"]


def test_a_gap_in_time_makes_a_video_incomplete(tmp_path, video_tools):
    stamps = [*range(10), *range(100, 110)]  # 91 frames of 1/30 s: from 9/30 to 100/30 s
    frames, reader = read(video_tools.write(tmp_path / "v.mp4", 20, pts=stamps))
    assert len(frames) == 20
    assert frames[10].time_s == pytest.approx(100 / 30, abs=1e-4)
    assert reader.report.time_gaps == [(0.3, 3.333)]
    assert not reader.report.is_complete
    assert reader.report.frames_lost == 0


def test_ten_bits_are_read_as_eight(tmp_path, video_tools):
    options = {"crf": "5"}
    ten = video_tools.write(tmp_path / "10.mp4", 3, pixel_format="yuv420p10le", options=options)
    eight = video_tools.write(tmp_path / "8.mp4", 3, options=options)
    (ten_frames, reader), (eight_frames, _) = read(ten), read(eight)
    assert reader.info.pixel_format == "yuv420p10le"
    for a, b in zip(ten_frames, eight_frames):
        assert np.abs(a.image.astype(int) - b.image).mean() < 3
    assert reader.report.is_complete


def test_size_change_is_noted_and_frames_keep_their_size(tmp_path, video_tools):
    # Motion JPEG has a size in every frame, and Matroska does not look.
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=30, width=96, height=64, pix_fmt="yuvj420p")
        small = av.CodecContext.create("mjpeg", "w")
        small.width, small.height, small.pix_fmt = 64, 48, "yuvj420p"
        small.time_base = Fraction(1, 30)
        for i in range(20):
            size, encoder = ((96, 64), stream) if i < 10 else ((64, 48), small)
            frame = av.VideoFrame.from_ndarray(video_tools.picture(i, *size), format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, 30)
            for packet in encoder.encode(frame.reformat(format="yuvj420p")):
                packet.stream = stream
                out.mux(packet)
    frames, reader = read(path)
    assert [f.image.shape[1::-1] for f in frames] == [(96, 64)] * 10 + [(64, 48)] * 10
    assert reader.report.size_changes == [(10, 64, 48)]
    assert (reader.info.width, reader.info.height) == (96, 64)
    assert "64x48 at frame 10" in reader.report.notes()[0]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_a_cut_off_video_gives_what_is_there_and_counts_the_rest(tmp_path, video_tools, name):
    # Index first, as recorders and web servers write it, so that a cut leaves it whole.
    fast = {"movflags": "faststart"} if name == "v.mp4" else {}
    path = video_tools.write(tmp_path / name, 60, container_options=fast)
    cut = video_tools.packets(path)[40][0] + 5
    path.write_bytes(path.read_bytes()[:cut])
    frames, reader = read(path)
    # Packet 40 and all behind it are gone; B-frames may take a few shown before it with them.
    assert 36 <= len(frames) <= 40
    assert len(frames) + reader.report.frames_lost == pytest.approx(60, abs=1)
    assert reader.report.truncated
    assert not reader.report.is_complete
    assert [f.index for f in frames] == list(range(len(frames)))


def test_a_video_cut_off_before_its_index_cannot_be_opened(tmp_path, video_tools):
    path = video_tools.write(tmp_path / "v.mp4", 30)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(VideoError, match="cut off while recording"):
        VideoReader(path)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.mp4", "libx264"), ("v.ts", "libx264"), ("v.mp4", "mpeg4"), ("v.avi", "mpeg4")],
)
def test_no_concealed_picture_passes_as_sound(tmp_path, video_tools, name, codec):
    # Large enough: noise may be read as some dozens of macroblocks, but not as a thousand.
    options = {"preset": "veryfast"} if codec == "libx264" else {}
    path = video_tools.write(tmp_path / name, 40, codec=codec, size=(480, 360), options=options)
    sound = [f.image for f in read(path)[0]]
    data = path.read_bytes()
    for packet in (12, 15, 23, 34):
        path.write_bytes(data)
        frames, reader = read(video_tools.corrupt(path, packet, seed=packet))
        assert reader.report.frames_lost > 0
        assert reader.report.decode_errors > 0
        assert len(frames) + reader.report.frames_lost == 40
        # The damage ends with the next key frame: every tenth.
        assert reader.report.frames_lost <= 10
        for frame in frames:
            error = np.abs(frame.image.astype(int) - sound[frame.index]).max()
            assert error <= 8, f"packet {packet} is corrupt, frame {frame.index} is wrong unmarked"


def test_pictures_shown_before_the_corrupt_one_that_they_build_on(tmp_path, video_tools):
    size = (480, 360)
    path = video_tools.write(tmp_path / "v.mp4", 40, size=size, options={"preset": "veryfast"})
    with av.open(str(path)) as container:
        stamps = [p.pts for p in container.demux(video=0) if p.size]
    # B-frames follow these in the file, and are shown before them.
    anchors = [i for i in range(len(stamps) - 1) if stamps[i + 1] < stamps[i]]
    assert len(anchors) >= 6
    sound = [f.image for f in read(path)[0]]
    data = path.read_bytes()
    for packet in anchors:
        path.write_bytes(data)
        frames, reader = read(video_tools.corrupt(path, packet, seed=packet))
        assert not reader.report.is_complete
        for frame in frames:
            error = np.abs(frame.image.astype(int) - sound[frame.index]).max()
            assert error <= 8, f"packet {packet} is corrupt, frame {frame.index} is wrong unmarked"


@pytest.mark.parametrize("corrupt", [None, 3, 2])
def test_what_builds_on_a_corrupt_picture_is_damaged_whenever_it_is_shown(corrupt):
    # In decoding order 0 (key), 3, 1, 2, 6 (key); 1 and 2 build on 0 and 3.
    def packet(stamp):
        return SimpleNamespace(
            pts=stamp, dts=0, is_keyframe=stamp in (0, 6), is_corrupt=False, is_discard=False
        )

    def picture(stamp):
        return SimpleNamespace(
            pts=stamp,
            key_frame=stamp in (0, 6),
            interlaced_frame=False,
            is_corrupt=stamp == corrupt,
        )

    tracker = IntegrityChecker(True, ReadReport(), keep_stamps=False)
    for stamp in (0, 3, 1, 2, 6):
        tracker.sent(packet(stamp))
    ready = {}
    for stamp in (0, 1, 2, 3, 6):
        tracker.arrived(picture(stamp))
        ready[stamp] = [s for s in (0, 1, 2, 3, 6) if s <= stamp and tracker.is_ready(picture(s))]
    # 1 and 2 wait for 3. (The second key frame, sent at once here, waits for nothing.)
    assert ready == {0: [0], 1: [0], 2: [0], 3: [0, 1, 2, 3], 6: [0, 1, 2, 3, 6]}
    damaged = {s for s in (0, 1, 2, 3, 6) if tracker.received(picture(s), True)[1]}
    assert damaged == {None: set(), 3: {1, 2, 3}, 2: {2}}[corrupt]


def test_a_packet_that_vanishes_from_a_transport_stream_is_missed(tmp_path, video_tools):
    path = video_tools.write(tmp_path / "v.ts", 40, size=(160, 128))
    sound = [f.image for f in read(path)[0]]
    data = path.read_bytes()
    for packet in (6, 13, 17, 25, 36):
        # Without its start code a packet is skipped, and nothing else tells of it.
        start = data.index(b"\0\0\1\xe0", video_tools.packets(path)[packet][0])
        path.write_bytes(data[:start] + b"\xff" * 4 + data[start + 4 :])
        frames, reader = read(path)
        path.write_bytes(data)
        assert not reader.report.is_complete
        assert len(frames) + reader.report.frames_lost == 40
        assert [f.time_s for f in frames] == pytest.approx([f.index / 30 for f in frames], abs=1e-4)
        for frame in frames:
            assert np.abs(frame.image.astype(int) - sound[frame.index]).max() <= 8, packet


@pytest.mark.parametrize("name", ["v.ts", "v.mkv"])
def test_an_uneven_rate_is_no_loss(tmp_path, video_tools, name):
    stamps = [0, 33, 66, 100, 133, 300, 333, 420, 500, 533, 566, 600, 700]
    path = video_tools.write(tmp_path / name, 13, pts=stamps, time_base=Fraction(1, 1000))
    frames, reader = read(path)
    assert len(frames) == 13
    assert reader.report.is_complete
    assert reader.report.variable_frame_rate


def test_times_and_numbers_behind_a_damage_are_right(tmp_path, video_tools):
    path = video_tools.corrupt(video_tools.write(tmp_path / "v.mp4", 40, size=(160, 128)), 15)
    frames, _ = read(path)
    assert [f.time_s for f in frames] == pytest.approx([f.index / 30 for f in frames], abs=1e-4)
    assert frames[-1].index == 39


def test_damaged_frames_can_be_kept_and_are_marked(tmp_path, video_tools):
    path = video_tools.corrupt(video_tools.write(tmp_path / "v.mp4", 40, size=(160, 128)), 15)
    without, strict = read(path)
    kept, lenient = read(path, keep_damaged=True)
    marked = [f for f in kept if f.damaged]
    assert len(marked) == lenient.report.frames_damaged > 0
    assert len(kept) - len(marked) == len(without)
    assert len(kept) + lenient.report.frames_lost == 40
    assert not lenient.report.is_complete
    assert not strict.report.is_complete


def test_audio_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(VideoError, match="no video, only audio"):
        VideoReader(path)


@pytest.mark.parametrize(
    "content", [b"", b"This is no video.\n" * 100, bytes(5000)], ids=["empty", "text", "zeros"]
)
def test_what_is_no_video_is_refused_with_the_expected_formats(tmp_path, content):
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match="expected a whole mp4"):
        VideoReader(path)


@pytest.mark.parametrize("suffix", [".m3u8", ".mp4", ".ffconcat"])
def test_playlists_are_refused_whatever_they_are_called(tmp_path, video_tools, suffix):
    video_tools.write(tmp_path / "secret.ts", 10)
    playlist = tmp_path / f"v{suffix}"
    if suffix == ".ffconcat":
        playlist.write_text("ffconcat version 1.0\nfile secret.ts\n")
    else:
        playlist.write_text(
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n"
        )
    with pytest.raises(VideoError):
        VideoReader(playlist)


def test_missing_files_and_bad_arguments(tmp_path, video_tools):
    with pytest.raises(VideoError, match="does not exist"):
        VideoReader(tmp_path / "none.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="not a file"):
        VideoReader(tmp_path / "pipe.mp4")
    path = video_tools.write(tmp_path / "v.mp4", 3)
    with pytest.raises(VideoError, match="stride"):
        VideoReader(path, stride=0)
    with pytest.raises(VideoError, match="96x64"):
        VideoReader(path, max_pixels=96 * 64 - 1)


def test_a_video_without_frames_is_an_error(tmp_path, video_tools):
    path = video_tools.write(tmp_path / "v.mkv", 5, gop=5)
    # Everything behind the header goes: packets are announced nowhere.
    path.write_bytes(path.read_bytes()[: video_tools.packets(path)[0][0]])
    with pytest.raises(VideoError):
        read(path)


def test_folder_in_natural_order(tmp_path, video_tools):
    for i in (10, 9, 1):
        cv2.imwrite(str(tmp_path / f"frame_{i}.png"), video_tools.picture(i))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    frames, reader = read(tmp_path, fps=10)
    for frame, i in zip(frames, (1, 9, 10), strict=True):
        assert (frame.image == video_tools.picture(i)).all()
    assert [f.time_s for f in frames] == [0, 0.1, 0.2]
    assert reader.info.frame_count == 3
    assert reader.report.is_complete


def test_folder_counts_pictures_that_cannot_be_read(tmp_path, video_tools):
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.png"), video_tools.picture(i))
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])  # OpenCV would give half a picture
    frames, reader = read(tmp_path)
    assert [f.index for f in frames] == [0, 2, 3]
    assert reader.report.frames_lost == 1
    assert not reader.report.is_complete


def test_folder_without_pictures(tmp_path):
    with pytest.raises(VideoError, match="holds no pictures"):
        VideoReader(tmp_path)
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(VideoError, match="none of the 1 pictures"):
        VideoReader(tmp_path)


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8), 0x8040, np.uint16))
    with pytest.raises(VideoError, match="a.png: it has 16 bits a sample .*INPUT.DEPTH"):
        VideoReader(tmp_path)
    with VideoReader(tmp_path, depth="bits") as reader:
        (frame,) = reader
    assert (frame.image == 0x80).all()


def test_a_camera_that_is_not_there(capfd):
    with pytest.raises(VideoError, match="camera 97"):
        VideoReader(97)
    with pytest.raises(VideoError, match="camera 97"):
        VideoReader("97")


def test_natural_order_of_names(tmp_path):
    names = ["a10", "a9", "A1", "b", "2", "10", "a09"]
    ordered = sorted((tmp_path / n for n in names), key=natural_key)
    assert [p.name for p in ordered] == ["2", "10", "A1", "a09", "a9", "a10", "b"]
