"""In which order a data set's images are tested when they are frames of videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from detectron2.utils import comm
from torch.utils.data import Sampler

__all__ = ["VideoInferenceSampler"]


class VideoInferenceSampler(Sampler):
    """Each image once over all ranks; a video's frames on one rank, one after another, in order.

    So what a frame's neighbours are does not depend on the number of processes. Videos go, the
    longest first, to the rank that has the fewest images so far; images without ``video_id`` count
    as videos of one frame.
    """

    def __init__(
        self, records: Sequence[dict], *, rank: int | None = None, world_size: int | None = None
    ) -> None:
        """Share out the images.

        Args:
            records: Detectron2's dataset dicts, in the order of the data set.
            rank: of this process; None: as Detectron2 says.
            world_size: number of processes; None: as Detectron2 says.
        """
        rank = comm.get_rank() if rank is None else rank
        world_size = comm.get_world_size() if world_size is None else world_size
        videos: dict[object, list[int]] = {}
        for i, record in enumerate(records):
            video = record.get("video_id")
            videos.setdefault(("picture", i) if video is None else ("video", video), []).append(i)
        shares: list[list[list[int]]] = [[] for _ in range(world_size)]
        counts = [0] * world_size
        # sorted() keeps the order of videos that are equally long, so all ranks agree.
        for frames in sorted(videos.values(), key=len, reverse=True):
            least = counts.index(min(counts))
            shares[least].append(frames)
            counts[least] += len(frames)
        self._indices = [
            i
            for frames in sorted(shares[rank])
            for i in sorted(frames, key=lambda i: (records[i].get("frame_index") or 0, i))
        ]

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)
