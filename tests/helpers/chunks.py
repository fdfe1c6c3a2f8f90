"""What workers run in tests of detection in chunks; a module, so that other processes find it."""

from __future__ import annotations

import os
import signal
import uuid
from dataclasses import dataclass
from pathlib import Path

from msnet_d2.errors import VideoError, WeightsError


@dataclass(frozen=True)
class KilledOnce:
    """Detects; the worker that has the chunk from frame 4 on is killed the first time."""

    log: Path

    def __call__(self, settings, video, chunk):
        calls = len(list(self.log.glob(f"{chunk.first}_*")))
        (self.log / f"{chunk.first}_{uuid.uuid4().hex}").touch()
        if chunk.first == 4 and not calls:
            os.kill(os.getpid(), signal.SIGKILL)
        from msnet_d2.video.distributed.chunks import detect_chunk

        return detect_chunk(settings, video, chunk)

    def ran(self):
        """First frames of the chunks that were begun, in order."""
        return sorted(int(p.name.split("_")[0]) for p in self.log.iterdir())


def by_name(settings, video, chunk):
    """Does what the video's name says, without a model."""
    name = Path(video).stem
    if name == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "exits":
        os._exit(0)
    if name == "stopped":
        raise InterruptedError("a signal stopped the detection in it")
    if name == "bad":
        raise VideoError("bad cannot be opened")
    if name == "weights":
        raise WeightsError("no weights")
    if name == "defect":
        raise RuntimeError("something of ours")
    return name.encode()
