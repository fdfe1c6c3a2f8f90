"""Reading videos: files, folders of frames, cameras, all as one stream of :class:`Frame`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from msnet_d2.errors import VideoError
from msnet_d2.utils.file_io import leads_out
from msnet_d2.utils.image_io import IMAGE_SUFFIXES, Limits, decodes_strictly, read_bgr
from msnet_d2.utils.text import natural_key, printable
from msnet_d2.video.decode import FileDecoder
from msnet_d2.video.stream import Frame, ReadReport, VideoInfo

__all__ = ["CameraReader", "FolderReader", "VideoReader"]

_DEFAULT_FOLDER_FPS = Fraction(25)
# A camera that gives no frame so often in a row has gone.
_MAX_CAMERA_FAILURES = 100


class VideoReader:
    """Frames of a file, a folder or a camera; a context manager, to be iterated once.

    Attributes:
        path: of the file or folder; None for a camera.
        stride: every so many frames are given out.
        info: what is known of the source; width, height and rotation are final with the first
            frame.
        report: what reading met so far; final when the iteration is.
    """

    def __init__(
        self,
        source: str | Path | int,
        *,
        fps: float | Fraction | None = None,
        stride: int = 1,
        start: int = 0,
        keep_damaged: bool = False,
        max_pixels: int = 1 << 26,
        depth: str = "refuse",
    ):
        """Open a source.

        Args:
            source: a video file (mp4, mov, mkv, webm, avi, ts), a folder of pictures, or the number
                of a camera (also as text, where no file has that name).
            fps: frames a second of a folder (default 25).
            stride: give out only every ``stride``-th frame.
            start: give out no frame of a lower index; a camera knows no such.
            keep_damaged: give out frames decoded from corrupt data, marked as such.
            max_pixels: larger frames are refused before they are decoded.
            depth: what becomes of pictures of more than 8 bits a sample, see
                :func:`msnet_d2.utils.image_io.read_bgr`.

        Raises:
            VideoError: if there is no such source, or it is no video.
            DependencyError: if PyAV is needed and missing.
        """
        if stride < 1:
            raise VideoError(f"the stride must be at least 1, and is {stride}")
        if fps is not None and not 0 < fps < 100_000:
            raise VideoError(f"the frame rate must be positive, and is {fps}")
        path = Path(str(source))
        self.path: Path | None = path
        self.stride = stride
        if isinstance(source, int) or (str(source).isdigit() and not path.exists()):
            self._source = CameraReader(int(source), stride=stride)
            self.path = None
        elif path.is_dir():
            rate = _DEFAULT_FOLDER_FPS if fps is None else Fraction(fps).limit_denominator(1001)
            self._source = FolderReader(
                path, fps=rate, stride=stride, start=start, max_pixels=max_pixels, depth=depth
            )
        else:
            self._source = FileDecoder(
                path,
                stride=stride,
                start=start,
                keep_damaged=keep_damaged,
                max_pixels=max_pixels,
            )

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Give out the frames in the order of their times.

        Raises:
            VideoError: at the end if there was no frame at all, or if a camera has gone.
        """
        return iter(self._source)

    @property
    def info(self) -> VideoInfo:
        """What is known of the source."""
        return self._source.info

    @property
    def report(self) -> ReadReport:
        """What reading met so far."""
        return self._source.report

    def close(self) -> None:
        """Release the source; harmless to repeat."""
        self._source.close()


class FolderReader:
    """Pictures of a folder in the natural order of their names, at a given rate.

    More than 8 bits a sample are scaled by the depth of the usual sensor that holds them. Links
    that lead out of the folder are not followed; the report names them.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: Fraction = _DEFAULT_FOLDER_FPS,
        stride: int = 1,
        start: int = 0,
        max_pixels: int = 1 << 26,
        depth: str = "refuse",
    ):
        """List a folder; arguments as those of :class:`VideoReader`.

        Raises:
            VideoError: if it holds no pictures.
        """
        path = Path(path)
        self.report = ReadReport()
        self._files = []
        for file in sorted(path.iterdir(), key=natural_key):
            if file.suffix.lower() not in IMAGE_SUFFIXES or file.name.startswith("."):
                continue
            if leads_out(file, path):
                self.report.add_link(printable(file.name))
            elif file.is_file():
                self._files.append(file)
        if not self._files:
            links = f"; {self.report.link_count} are links out of it" * bool(self.report.links)
            raise VideoError(
                f"the folder {path} holds no pictures ({', '.join(IMAGE_SUFFIXES)}){links}"
            )
        self._path = path
        self._stride = stride
        self._start = start
        self._limits = Limits(max_pixels=max_pixels)
        self._depth = depth
        size = self._size()
        self.info = VideoInfo(
            name=printable(path.resolve().name),
            kind="folder",
            width=size[0],
            height=size[1],
            fps=fps,
            time_base=1 / fps,
            frame_count=len(self._files),
            duration_s=float(len(self._files) / fps),
        )

    def __iter__(self) -> Iterator[Frame]:
        """Give out the pictures; unreadable ones count as lost, those with holes as damaged."""
        size = None
        for index, file in enumerate(self._files):
            if index < self._start or index % self._stride:
                self.report.frames_read += 1
                continue
            try:
                image = read_bgr(file, self._limits, self._depth)
            except (OSError, ValueError, SyntaxError):  # what PIL raises on broken files
                self.report.decode_errors += 1
                self.report.frames_lost += 1
                continue
            self.report.frames_read += 1
            damaged = not decodes_strictly(file)
            self.report.frames_damaged += damaged
            if size is not None and image.shape[1::-1] != size:
                self.report.add_size_change(index, *image.shape[1::-1])
            size = image.shape[1::-1]
            yield Frame(
                image=image,
                index=index,
                time_s=float(index * self.info.time_base),
                pts=index,
                time_base=self.info.time_base,
                damaged=damaged,
            )
        if size is None and not self._start:
            raise VideoError(f"none of the {len(self._files)} pictures in {self._path} can be read")

    def close(self) -> None:
        """Nothing is open between frames."""

    def _size(self) -> tuple[int, int]:
        """Width and height of the first picture that can be read."""
        reason = ""
        for file in self._files:
            try:
                image = read_bgr(file, self._limits, self._depth)
            except (OSError, ValueError, SyntaxError) as error:
                reason = reason or f"{file.name}: {' '.join(str(error).split())}"
                continue
            return image.shape[1], image.shape[0]
        raise VideoError(
            f"none of the {len(self._files)} pictures in {self._path} can be read; {reason}"
        )


class CameraReader:
    """A camera, until it goes or the reader is closed. Times are those of arrival."""

    def __init__(self, number: int, *, stride: int = 1):
        """Open the camera ``number``.

        Raises:
            VideoError: if it cannot be opened.
        """
        import cv2

        self._number = number
        self._stride = stride
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise VideoError(
                f"camera {number} cannot be opened; expected the number of a connected camera, or "
                "the path of a file or folder that exists"
            )
        self.report = ReadReport()
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.info = VideoInfo(
            name=f"camera {number}",
            kind="camera",
            width=int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            height=int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            fps=Fraction(rate).limit_denominator(1001) if 0 < rate < 1000 else Fraction(30),
            time_base=Fraction(1, 1000),
        )

    def __iter__(self) -> Iterator[Frame]:
        """Give out frames as they come.

        Raises:
            VideoError: if the camera gives no frame at all.
        """
        start, last, failures = None, -1, 0
        while failures < _MAX_CAMERA_FAILURES:
            ok, image = self._capture.read()
            if not ok or image is None:
                failures += 1
                time.sleep(0.01)
                continue
            failures = 0
            now = time.monotonic()
            start = now if start is None else start
            index = self.report.frames_read
            self.report.frames_read += 1
            if index % self._stride:
                continue
            pts = max(round((now - start) * 1000), last + 1)
            last = pts
            yield Frame(
                image=image, index=index, time_s=pts / 1000, pts=pts, time_base=Fraction(1, 1000)
            )
        self.report.truncated = True
        if self.report.frames_read == 0:
            raise VideoError(f"camera {self._number} gives no frames")

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()
