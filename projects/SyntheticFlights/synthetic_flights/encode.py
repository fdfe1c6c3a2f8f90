"""Pictures and videos to files, atomically and with the same bytes for the same frames."""

from __future__ import annotations

import io
import json
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from msnet_d2.errors import VideoError
from msnet_d2.utils.file_io import replacing_path, write_bytes, write_text

__all__ = ["VideoSink", "write_arrays", "write_json", "write_picture", "write_png"]


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as compact JSON, which data sets of thousands of polygons want.

    Raises:
        ValueError: if it holds NaN or infinity, which JSON does not know.
        OutputError: if the file cannot be written.
    """
    write_text(path, json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n")


def write_picture(path: Path, image: np.ndarray, quality: int) -> None:
    """Write a picture as JPEG.

    Args:
        path: of the file.
        image: (H, W, 3) uint8, BGR.
        quality: of JPEG, 0 to 100.

    Raises:
        VideoError: if OpenCV cannot encode it.
        OutputError: if the file cannot be written.
    """
    good, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise VideoError(
            f"{path}: OpenCV could not encode a picture of shape {image.shape} as JPEG"
        )
    write_bytes(path, data.tobytes())


def write_png(path: Path, image: np.ndarray) -> None:
    """Write a picture without loss.

    Args:
        path: of the file.
        image: (H, W) uint8, or (H, W, 3) uint8, BGR.

    Raises:
        OutputError: if the file cannot be written.
    """
    _, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 2])
    write_bytes(path, data.tobytes())


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays as a compressed .npz, which unlike numpy's holds no time of day.

    Raises:
        OutputError: if the file cannot be written.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content.getvalue())
    write_bytes(path, buffer.getvalue())


class VideoSink:
    """Writes an .mp4: H.264 by PyAV where that is installed and has the encoder, MPEG-4 part 2 by
    OpenCV otherwise.

    A context manager; the file appears under its name only if the block ends well.
    """

    def __init__(self, path: Path, width: int, height: int, fps: float):
        self.path, self.size, self.fps = Path(path), (width, height), fps

    def __enter__(self) -> VideoSink:
        self._replacing = replacing_path(self.path, ".tmp.mp4")  # OpenCV goes by the name
        self._temporary = self._replacing.__enter__()
        try:
            self._open()
        except BaseException as error:
            self._replacing.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _open(self) -> None:
        self._container = self._writer = None
        even = self.size[0] % 2 == 0 and self.size[1] % 2 == 0
        try:
            import av

            if even and "libx264" in av.codecs_available:
                # One thread and no version string: the same frames give the same bytes.
                self._container = av.open(
                    str(self._temporary), "w", format="mp4", options={"fflags": "+bitexact"}
                )
                stream = self._container.add_stream(
                    "libx264", rate=Fraction(self.fps).limit_denominator(1001)
                )
                stream.width, stream.height = self.size
                stream.pix_fmt = "yuv420p"
                stream.codec_context.thread_count = 1
                stream.options = {"preset": "superfast", "crf": "23", "threads": "1"}
                self._stream, self._av = stream, av
                return
        except ImportError:
            pass
        self._writer = cv2.VideoWriter(
            str(self._temporary), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, self.size
        )
        if not self._writer.isOpened():
            raise VideoError(
                f"{self.path}: no encoder for mp4 video was found (neither PyAV's libx264 nor "
                "OpenCV's mp4v); "
                "install the package av, or leave the videos out with --no-video"
            )

    @property
    def codec(self) -> str:
        """``h264`` or ``mp4v``."""
        return "h264" if self._container is not None else "mp4v"

    def write(self, image: np.ndarray) -> None:
        """Append a BGR frame."""
        if self._container is None:
            self._writer.write(image)
            return
        frame = self._av.VideoFrame.from_ndarray(image, format="bgr24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def __exit__(self, kind, error, trace) -> None:
        if self._container is not None:
            if kind is None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
            self._container.close()
        else:
            self._writer.release()
        self._replacing.__exit__(kind, error, trace)
