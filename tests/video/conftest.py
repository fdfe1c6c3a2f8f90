"""Videos with every fault that the reader must notice, made on the spot."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

av = pytest.importorskip("av")


def picture(index, width=96, height=64):
    """Frame ``index`` of a test video, BGR: a gradient that moves, so that frames differ."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 2 + index * 3, y * 2 + index * 5, x + y + index * 7], axis=-1) % 256
    image = image.astype(np.uint8)
    top, left = (index * 2) % (height - 16), (index * 3) % (width - 16)
    image[top : top + 16, left : left + 16] = 255
    return image


def write_video(
    path,
    frames=30,
    *,
    codec="libx264",
    size=(96, 64),
    fps=30,
    gop=10,
    pixel_format="yuv420p",
    pts=None,
    time_base=None,
    rotation=0,
    options=None,
    container_options=None,
    container=None,
):
    """Encode test pictures; ``pts`` are the time stamps in units of ``time_base``."""
    time_base = time_base or Fraction(1, fps)
    with av.open(str(path), "w", format=container, options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = time_base
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(i, *size), format="bgr24")
            frame.pts = i if pts is None else pts[i]
            frame.time_base = time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def packets(path):
    """(position in the file, size, is key frame) of each packet in decoding order."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size, p.is_keyframe) for p in container.demux(video=0) if p.size]


def corrupt(path, packet, seed=0):
    """Overwrite 24 bytes in the middle of a packet's data with noise."""
    data = bytearray(path.read_bytes())
    position, size, _ = packets(path)[packet]
    rng = np.random.default_rng(seed)
    start = position + min(size - 1, 12 + size // 3)
    for i in range(start, min(position + size, start + 24)):
        data[i] = int(rng.integers(256))
    path.write_bytes(data)
    return path


class FakePredictor:
    """Finds the same three parts in every frame; remembers what it was asked."""

    def __init__(self):
        self.batches = []

    def predict_batch(self, images, extras=None):
        self.batches.append((len(images), extras))
        return [self.output(image) for image in images]

    @staticmethod
    def output(image):
        height, width = image.shape[:2]
        boxes = np.array([[4, 4, 24, 20], [30, 10, 60, 40], [0, 40, 20, 60]], float)
        masks = np.zeros((3, height, width), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int)):
            mask[y0:y1, x0:x1] = True
        # A score that depends on the pixels, so that another picture gives other results.
        scores = np.array([0.9, 0.6, 0.5 * float(image.mean()) / 255])
        return {
            "instances": SimpleNamespace(
                pred_boxes=boxes, scores=scores, pred_classes=np.array([0, 1, 2]), pred_masks=masks
            )
        }


@pytest.fixture
def video_tools():
    """What tests/video shares: functions and classes of this file."""
    return SimpleNamespace(
        picture=picture,
        write=write_video,
        packets=packets,
        corrupt=corrupt,
        FakePredictor=FakePredictor,
        metadata=SimpleNamespace(
            thing_classes=["Slight", "Severe", "Debris"],
            thing_colors=[(10, 200, 30), (250, 170, 0), (220, 40, 60)],
        ),
    )
