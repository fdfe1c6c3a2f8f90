"""Random access to the frames of videos and of folders of frames, and how either is named in a
config.

A source is opened for one reading and closed again, so it holds no file and goes to the workers of
a data loader as it is. (The streaming reader that follows a video from start to end is another:
:mod:`msnet_d2.video`.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msnet_d2.data.isbda.catalog import resolve_dataset
from msnet_d2.errors import DatasetError, VideoError
from msnet_d2.utils.file_io import leads_out
from msnet_d2.utils.image_io import IMAGE_SUFFIXES, read_bgr
from msnet_d2.utils.text import natural_key
from msnet_d2.utils.video_io import VIDEO_SUFFIXES, import_av, open_video

__all__ = [
    "FrameFiles",
    "FrameSource",
    "VideoFile",
    "find_frame_sources",
]


class FrameSource:
    """Frames of one video that can be read in any order.

    Attributes:
        name: for messages, such as the path.
        fps: frames a second of the video.
        numbers: (F,) int64, ascending: the number in the video of each frame that can be read.
            Where a frame of ten was kept, these are ten apart.
        frames_decoded: how many frames have been decoded or loaded so far.
    """

    def __init__(self, name: str, fps: float, numbers: np.ndarray) -> None:
        self.name = name
        self.fps = float(fps)
        self.numbers = np.asarray(numbers, dtype=np.int64)
        self.frames_decoded = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, positions: Sequence[int]) -> list[np.ndarray]:
        """Read frames.

        Args:
            positions: which, each from 0 to ``len(self) - 1``, in any order.

        Returns:
            as many pictures (H, W, 3) uint8 BGR, in the order of ``positions``.

        Raises:
            MSNetError: if a frame cannot be decoded; the message names the source and the frame.
        """
        raise NotImplementedError


class FrameFiles(FrameSource):
    """A video that is there as picture files.

    Attributes:
        files: paths, in the order of the video.
        depth: what becomes of more than 8 bits a sample, see
            :func:`msnet_d2.utils.image_io.read_bgr`.
    """

    def __init__(
        self, name: str, files: Sequence[str | Path], fps: float, numbers: np.ndarray | None = None
    ) -> None:
        """Take files; they are not opened.

        Args:
            name: of the video, for messages.
            files: paths, in the order of the video.
            fps: frames a second.
            numbers: (N,) int, the files' numbers in the video, ascending; None: 0, 1, 2, …
        """
        super().__init__(name, fps, np.arange(len(files)) if numbers is None else numbers)
        self.files = [str(file) for file in files]
        self.depth = "refuse"

    def read(self, positions: Sequence[int]) -> list[np.ndarray]:
        """Load the files, see :meth:`FrameSource.read`.

        Raises:
            DatasetError: if one cannot be read.
        """
        frames = []
        for position in positions:
            try:
                frames.append(read_bgr(self.files[position], depth=self.depth))
            except (OSError, SyntaxError, ValueError, MemoryError) as error:
                raise DatasetError(
                    f"{self.files[position]} cannot be read as a picture: {error}"
                ) from error
            self.frames_decoded += 1
        return frames


class VideoFile(FrameSource):
    """A video file. Opening it reads the time stamps of all packets, and decodes nothing.

    Time stamps, not the header, say how many frames there are and where: a header may lack the
    number of frames (mkv), and rates vary (phones).
    """

    def __init__(self, path: str | Path) -> None:
        """Index the video.

        Raises:
            VideoError: if the file is not a video or has no frames.
            DependencyError: if PyAV is missing.
        """
        self.path = str(path)
        stamps, key_stamps = [], []
        av = import_av()
        try:
            with open_video(self.path) as container:
                if not container.streams.video:
                    raise VideoError(f"{self.path} has no video stream")
                stream = container.streams.video[0]
                rate = stream.average_rate or stream.base_rate or stream.guessed_rate
                for packet in container.demux(stream):
                    stamp = packet.dts if packet.pts is None else packet.pts
                    if (
                        stamp is None or packet.is_discard
                    ):  # the empty packet at the end; cut-off parts
                        continue
                    stamps.append(stamp)
                    if packet.is_keyframe:
                        key_stamps.append(stamp)
        except av.FFmpegError as error:
            if not stamps:
                raise VideoError(f"{self.path} cannot be opened as a video: {error}") from error
            # A truncated file: what was found so far can be read.
        if not stamps or not rate:
            raise VideoError(f"{self.path} has no frames, or no frame rate")
        self._stamps = sorted(set(stamps))
        self._key_stamps = sorted(key_stamps)
        super().__init__(self.path, float(rate), np.arange(len(self._stamps)))

    def read(self, positions: Sequence[int]) -> list[np.ndarray]:
        """Decode the groups of pictures that the frames are in, see :meth:`FrameSource.read`.

        Raises:
            VideoError: if a frame cannot be decoded.
        """
        av = import_av()
        wanted = sorted(set(positions))
        found: dict[int, np.ndarray] = {}
        try:
            with open_video(self.path) as container:
                stream = container.streams.video[0]
                frames, reached = None, None
                for position in wanted:
                    key = self._key_before(self._stamps[position])
                    # Decoding on is cheaper than seeking only within a group of pictures.
                    if reached is None or reached < key:
                        container.seek(key, stream=stream)
                        frames = container.decode(stream)
                    frame, reached = self._decode_to(frames, position)
                    if frame is None:  # the seek went past it: the index of the file is wrong
                        container.seek(self._stamps[0], stream=stream)
                        frames = container.decode(stream)
                        frame, reached = self._decode_to(frames, position)
                    if frame is None:
                        raise VideoError(f"{self.path}: frame {position} cannot be decoded")
                    found[position] = frame
        except av.FFmpegError as error:
            raise VideoError(f"{self.path} cannot be decoded: {error}") from error
        return [found[position] for position in positions]

    def _key_before(self, stamp: int) -> int:
        i = bisect_right(self._key_stamps, stamp)
        return self._key_stamps[i - 1] if i else self._stamps[0]

    def _decode_to(self, frames, position: int) -> tuple[np.ndarray | None, int | None]:
        """Decode on to a frame; the frame and its time stamp, or None if it is not among the frames
        to come."""
        stamp = self._stamps[position]
        for frame in frames:
            self.frames_decoded += 1
            reached = frame.dts if frame.pts is None else frame.pts
            if reached is not None and reached >= stamp:
                return (
                    (frame.to_ndarray(format="bgr24"), reached)
                    if reached == stamp
                    else (None, None)
                )
        return None, None


def find_frame_sources(
    specs: Sequence[str], frame_rate: float = 30.0, depth: str = "refuse"
) -> list[FrameSource]:
    """Open what DATASETS.SRN_VIDEOS names.

    Args:
        specs: each one of: a video file; a folder of one video's frames, named in their order
            ("frame_9.jpg" before "frame_10.jpg"); a folder of video files; a folder in whose
            ``videos`` folder these are; a folder of folders of frames;
            or a data set as everywhere in this project, whose images are grouped by ``video_id``.
        frame_rate: frames a second of folders of frames, and of data sets that do not say.
        depth: ``INPUT.DEPTH``, for pictures.

    Returns:
        the sources, in the order of ``specs`` and by name in folders.

    Raises:
        DatasetError: if there is nothing, an entry names nothing of the kind, or a link leads out
            of its folder.
        VideoError: if a file named is not a video.
    """
    if not specs:
        raise DatasetError(
            "triplets need videos, but DATASETS.SRN_VIDEOS is empty: set it to video files or "
            "folders of frames"
        )
    sources: list[FrameSource] = []
    for spec in specs:
        sources += _find(str(spec), frame_rate)
    for source in sources:
        if isinstance(source, FrameFiles):
            source.depth = depth
    return sources


def _find(spec: str, frame_rate: float) -> list[FrameSource]:
    path = Path(spec).expanduser()
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return [VideoFile(path)]
    if path.is_dir():
        for folder in (path, path / "videos"):
            videos = _files(folder, VIDEO_SUFFIXES)
            if videos:
                return [VideoFile(video) for video in videos]
        pictures = _files(path, IMAGE_SUFFIXES)
        if pictures:
            return [FrameFiles(str(path), pictures, frame_rate)]
        if not (path / "annotations").is_dir():
            folders = [p for p in sorted(path.iterdir(), key=natural_key) if p.is_dir()]
            groups = [(folder, _files(folder, IMAGE_SUFFIXES)) for folder in folders]
            sources = [FrameFiles(str(f), files, frame_rate) for f, files in groups if files]
            if sources:
                return sources
            raise DatasetError(
                f"there are neither videos ({', '.join(VIDEO_SUFFIXES)}) nor pictures in {path}, "
                "nor in its folders"
            )
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise DatasetError(f"DATASETS.SRN_VIDEOS names {spec}, but there is no such file")
    return _from_data_set(spec, frame_rate)


def _from_data_set(spec: str, frame_rate: float) -> list[FrameSource]:
    from detectron2.data import DatasetCatalog

    sources: list[FrameSource] = []
    for name in resolve_dataset(spec):
        videos: dict[str, list[dict]] = {}
        for record in DatasetCatalog.get(name):
            if record.get("video_id") is not None and record.get("frame_index") is not None:
                videos.setdefault(str(record["video_id"]), []).append(record)
        for video_id, records in sorted(videos.items(), key=lambda item: natural_key(item[0])):
            by_number = {r["frame_index"]: r for r in records}
            numbers = sorted(by_number)
            sources.append(
                FrameFiles(
                    f"{name}, video {video_id}",
                    [by_number[n]["file_name"] for n in numbers],
                    records[0].get("fps") or frame_rate,
                    np.array(numbers),
                )
            )
    if not sources:
        raise DatasetError(
            f"no image of {spec} says which frame of which video it is (video_id, frame_index): it "
            "gives no triplets"
        )
    return sources


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.is_file())
    found = sorted((p for p in files if not p.name.startswith(".")), key=natural_key)
    for path in found:
        if leads_out(path, folder):
            raise DatasetError(
                f"{path} is a link that leads out of its folder, and is not followed; put the file "
                "there, or name the folder or video that it leads to"
            )
    return found
