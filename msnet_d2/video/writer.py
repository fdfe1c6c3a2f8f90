"""Writing annotated videos, whole or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from msnet_d2.errors import InputError, VideoError
from msnet_d2.utils.file_io import PendingFile
from msnet_d2.utils.video_io import import_av, open_video

__all__ = ["CONTAINERS", "VideoWriter", "fit_frame", "was_written_here"]

# FFmpeg's names of the containers, by suffix.
CONTAINERS = {
    ".mp4": "mp4",
    ".mov": "mov",
    ".m4v": "mp4",
    ".mkv": "matroska",
    ".avi": "avi",
    ".ts": "mpegts",
}
# A comment in the file, by which a later run knows that it may replace it.
_MARK = "annotated by msnet_d2"
# The first that this FFmpeg has: H.264 by the encoders there are, then what every FFmpeg has.
_CODECS = ("libx264", "libopenh264", "mpeg4")
# MPEG-4 counts time in at most 16 bits a second.
_MAX_MPEG4_CLOCK = 65535


class VideoWriter:
    """Writes frames to a temporary file that gets its name when it is complete.

    As a context manager it closes the file at the end of the block, also after Ctrl-C, and removes
    it after any other exception.

    Attributes:
        frames_written: so far.
        codec: name of the encoder.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        width: int,
        height: int,
        fps: Fraction | float,
        time_base: Fraction | None = None,
        sample_aspect_ratio: Fraction = Fraction(1),
        codec: str | None = None,
        options: dict[str, str] | None = None,
    ):
        """Open the temporary file beside ``path``.

        Args:
            path: with the suffix mp4, mov, m4v, mkv, avi or ts; replaced if it exists.
            width, height: of the frames in pixels. Odd sizes are padded by one row or column at the
                right and lower edge, which repeats the last: H.264's colours are stored by 2 × 2.
            fps: frames a second, on average.
            time_base: unit of the time stamps that :meth:`write` gets, in seconds; None: 1 / fps.
            sample_aspect_ratio: width of a pixel by its height.
            codec: FFmpeg's name of the encoder; None: H.264 where there is an encoder, else MPEG-4.
            options: the encoder's own; None: a quality that the eye takes for the original.

        Raises:
            InputError: if the suffix is unknown or the folder does not exist.
            VideoError: if the encoder is missing or refuses the size.
            DependencyError: if PyAV is missing.
        """
        self._av = import_av()
        self._path = Path(path)
        if self._path.suffix.lower() not in CONTAINERS:
            raise InputError(
                f"cannot write a video to {self._path.name}: the suffix must be one of "
                f"{', '.join(sorted(CONTAINERS))}"
            )
        if not self._path.parent.is_dir():
            raise InputError(f"the folder {self._path.parent} for the video does not exist")
        self.codec = codec or next(c for c in _CODECS if c in self._av.codecs_available)
        if self.codec not in self._av.codecs_available:
            raise VideoError(f"this FFmpeg has no encoder {self.codec}")
        if options is None:
            options = _default_options(self.codec)
        self.frames_written = 0
        self._size = (width, height)
        self._fps = Fraction(fps).limit_denominator(100_000)
        self._time_base = Fraction(time_base or 1 / self._fps)
        self._encoder_base = self._time_base
        if self.codec == "mpeg4" and self._time_base.denominator > _MAX_MPEG4_CLOCK:
            self._encoder_base = Fraction(1, 60_000)
        self._last_pts: int | None = None
        self._pending: PendingFile | None = PendingFile(self._path, ".part")
        try:
            self._container = self._av.open(
                str(self._pending.path), "w", format=CONTAINERS[self._path.suffix.lower()]
            )
            self._container.metadata["comment"] = _MARK
            self._stream = self._add_stream(options, sample_aspect_ratio)
            self._container.start_encoding()
        except (OSError, ValueError) as error:
            self._remove()
            raise VideoError(
                f"cannot encode {width}x{height} frames to {self._path.name} by {self.codec}: "
                f"{error}"
            ) from error

    def _add_stream(self, options: dict[str, str], sample_aspect_ratio: Fraction) -> Any:
        stream = self._container.add_stream(self.codec, rate=self._fps, options=options)
        width, height = self._size
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = self._encoder_base
        context = stream.codec_context
        context.time_base = self._encoder_base
        context.sample_aspect_ratio = sample_aspect_ratio
        # Said in the file, or players guess by the size and shift the colours.
        context.colorspace = 1  # BT.709, as the conversion in `write`
        context.color_primaries = 1
        context.color_trc = 1
        context.color_range = 1
        return stream

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()
        else:
            self.abort()

    def write(self, image: np.ndarray, pts: int | None = None) -> None:
        """Encode a frame.

        Args:
            image: (H, W, 3) uint8 BGR. Another size than the video's is fitted into it.
            pts: time stamp in units of ``time_base``; None: the previous one's plus 1 / fps. One
                that is not later than the previous is moved just behind it.

        Raises:
            VideoError: if it cannot be encoded or written, such as on a full disk.
        """
        image = fit_frame(image, *self._size)
        odd = image.shape[0] % 2, image.shape[1] % 2
        if any(odd):
            image = cv2.copyMakeBorder(image, 0, odd[0], 0, odd[1], cv2.BORDER_REPLICATE)
        picture = self._av.VideoFrame.from_ndarray(image, format="bgr24").reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        if pts is not None:
            stamp = round(pts * self._time_base / self._encoder_base)
        elif self._last_pts is None:
            stamp = 0
        else:
            stamp = self._last_pts + max(1, round(1 / (self._fps * self._encoder_base)))
        if self._last_pts is not None:
            stamp = max(stamp, self._last_pts + 1)
        self._last_pts = stamp
        picture.pts = stamp
        picture.time_base = self._encoder_base
        self._mux(picture)
        self.frames_written += 1

    def close(self) -> None:
        """Finish the file and give it its name; harmless to repeat.

        Raises:
            VideoError: if it cannot be finished; then there is no file.
        """
        if self._pending is None:
            return
        try:
            self._mux(None)
            self._container.close()
            self._pending.commit()
        except OSError as error:
            self.abort()
            raise VideoError(f"cannot finish {self._path.name}: {error}") from error
        except BaseException:
            self.abort()
            raise
        self._pending = None

    def abort(self) -> None:
        """Remove what was written; harmless to repeat, and after :meth:`close` without effect."""
        if self._pending is None:
            return
        try:
            self._container.close()
        except (OSError, ValueError):
            pass  # it is removed all the same
        finally:
            self._remove()

    def _remove(self) -> None:
        if self._pending is not None:
            self._pending.discard()
            self._pending = None

    def _mux(self, picture: Any) -> None:
        try:
            self._container.mux(self._stream.encode(picture))
        except (OSError, ValueError) as error:
            raise VideoError(
                f"cannot write frame {self.frames_written} of {self._path.name}: {error}"
            ) from error


def was_written_here(path: str | Path) -> bool:
    """Whether :class:`VideoWriter` wrote a file; False for ``.ts``, which holds no comments."""
    av = import_av()
    try:
        with open_video(path) as container:
            return container.metadata.get("comment", container.metadata.get("COMMENT")) == _MARK
    except av.FFmpegError:
        return False


def fit_frame(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """``image`` scaled to fit into ``width`` × ``height``, centred on black; itself if it fits."""
    if image.shape[:2] == (height, width):
        return image
    factor = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    scaled = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    frame = np.zeros((height, width, 3), np.uint8)
    x, y = (width - size[0]) // 2, (height - size[1]) // 2
    frame[y : y + size[1], x : x + size[0]] = scaled
    return frame


def _default_options(codec: str) -> dict[str, str]:
    if codec == "libx264":
        # A preset that costs less than drawing and detecting do; CRF keeps the quality constant.
        return {"preset": "veryfast", "crf": "20"}
    if codec == "mpeg4":
        return {"qmin": "2", "qmax": "5"}
    return {}
