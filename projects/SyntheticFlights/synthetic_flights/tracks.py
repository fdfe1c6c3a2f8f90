"""Masks of buildings and parts over the annotated frames of a flight, as YouTube-VIS has them."""

from __future__ import annotations

__all__ = ["tracks_document"]


def tracks_document(images: list[dict], records: list[dict], categories: list[dict]) -> dict:
    """Return videos, annotations and categories of a YouTube-VIS JSON.

    Args:
        images: as ISBDA's JSON has them, the frames of a video one after another.
        records: for each image a dict with ``instances``, of
            :func:`.amodal.amodal_annotations`.
        categories: of the instances.

    Returns:
        One annotation for each building or part that any frame of a video shows. ``segmentations``,
        ``bboxes`` and ``areas`` have an entry for each frame, None where it is not seen; ``id`` is
        its track id.
    """
    videos: dict[str, dict] = {}
    tracks: dict[tuple[int, int], dict] = {}
    for image, record in zip(images, records):
        name = image["video_id"]
        video = videos.setdefault(name, _video(len(videos) + 1, image))
        position = len(video["file_names"])
        video["file_names"].append(image["file_name"])
        video["frame_indices"].append(image["frame_index"])
        video["length"] = position + 1
        for instance in record["instances"]:
            key = (video["id"], instance["track_id"])
            track = tracks.setdefault(key, _track(video, instance))
            for field in ("segmentation", "bbox", "area"):
                values = track[f"{field}s"]
                values += [None] * (position - len(values))
                values.append(instance[field])
    for track in tracks.values():
        length = track.pop("video")["length"]
        for field in ("segmentations", "bboxes", "areas"):
            values = track[field] if field != "bboxes" else track.pop("bboxs")
            track[field] = values + [None] * (length - len(values))
    return {
        "videos": list(videos.values()),
        "annotations": list(tracks.values()),
        "categories": categories,
    }


def _video(number: int, image: dict) -> dict:
    return {
        "id": number,
        "name": image["video_id"],
        "width": image["width"],
        "height": image["height"],
        "length": 0,
        "fps": image["fps"],
        "file_names": [],
        "frame_indices": [],
    }


def _track(video: dict, instance: dict) -> dict:
    return {
        "id": instance["track_id"],
        "video_id": video["id"],
        "category_id": instance["category_id"],
        "iscrowd": 0,
        "width": video["width"],
        "height": video["height"],
        "building_id": instance["building_id"],
        "part_id": instance["part_id"],
        "segmentations": [],
        "bboxs": [],
        "areas": [],
        "video": video,
    }
