"""How the picture moves: videos of a pattern that is pushed by known steps."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from msnet_d2.damage_map.alignment.picture_motion import measure_motion


def write_video(path, step, frames=60, fps=10, size=(320, 240), gop=12):
    """A blurred noise that moves by ``step`` pixels (right, down) a frame."""
    noise = np.random.default_rng(0).integers(0, 255, (900, 1100), dtype=np.uint8)
    noise = cv2.GaussianBlur(noise, (0, 0), 3)
    noise = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"g": str(gop), "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            x, y = 400 - step[0] * i, 300 - step[1] * i
            gray = noise[y : y + size[1], x : x + size[0]]
            frame = av.VideoFrame.from_ndarray(np.repeat(gray[..., None], 3, 2), format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize("step", [(4, 2), (-3, 0)])
def test_points_are_followed_at_their_speed(tmp_path, step):
    pairs = measure_motion(write_video(tmp_path / "a.mp4", step), 6.0, pairs=8)
    assert len(pairs) >= 6
    for pair in pairs:
        frames = round((pair.t1 - pair.t0) * 10)
        assert np.median(pair.end - pair.start, axis=0) == pytest.approx(
            np.array(step) * frames, abs=0.25
        )
        # 8% of 320 pixels are 26; the last step may go beyond by one.
        assert np.hypot(*step) * frames <= 26 + np.hypot(*step) + 1
    assert pairs[0].t0 < 1.0
    assert pairs[-1].t1 > 5.0


def test_the_same_video_gives_the_same_motion(tmp_path):
    video = write_video(tmp_path / "a.mp4", (4, 2))
    first, second = (measure_motion(video, 6.0, pairs=6) for _ in range(2))
    for a, b in zip(first, second):
        assert (a.t0, a.t1) == (b.t0, b.t1)
        assert np.array_equal(a.end, b.end)


def test_folders_of_frames_too(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (300, 500), dtype=np.uint8)
    noise = cv2.GaussianBlur(noise, (0, 0), 2)
    for i in range(50):
        cv2.imwrite(str(tmp_path / f"frame_{i}.png"), noise[20:180, 200 - 3 * i : 440 - 3 * i])
    pairs = measure_motion(tmp_path, 2.0, pairs=4)
    assert pairs
    moved = np.median(pairs[0].end - pairs[0].start, axis=0)
    # 25 frames a second, steps of 0.06 s or more: of two frames.
    assert moved[0] == pytest.approx(3 * 25 * (pairs[0].t1 - pairs[0].t0), abs=0.5)


def test_pictures_without_texture_give_nothing(tmp_path):
    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for i in range(30):
            image = np.full((120, 160, 3), 128, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    assert measure_motion(path, 3.0) == []
