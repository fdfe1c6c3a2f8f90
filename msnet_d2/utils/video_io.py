"""Opening video files that others made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msnet_d2.errors import DependencyError

__all__ = ["VIDEO_SUFFIXES", "import_av", "open_video"]

# Files of a folder that are taken for videos. A file that is named is opened whatever its suffix.
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mts", ".ts", ".webm")

# Containers that hold their own pictures. Playlists and concatenations (m3u8, concat, …) open
# further files at the will of whoever made them, and are refused by FFmpeg itself with this list.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}


def import_av() -> Any:
    """Import PyAV.

    Raises:
        DependencyError: if it is missing.
    """
    try:
        import av
    except ImportError as error:
        raise DependencyError.for_extra("av", "video", "reading and writing video files") from error
    return av


def open_video(path: str | Path) -> Any:
    """Open a video for reading, in a container that opens no other file.

    Args:
        path: of a file; nothing else, such as a URL, is opened.

    Returns:
        PyAV's container, a context manager.

    Raises:
        av.FFmpegError: what PyAV raises, if it is none.
        DependencyError: if PyAV is missing.
    """
    # An absolute path: no name can be taken for a protocol.
    return import_av().open(
        str(Path(path).resolve()), options=dict(_OPTIONS), metadata_errors="replace"
    )
