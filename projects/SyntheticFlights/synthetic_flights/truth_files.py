"""Files of all truth beside ISBDA's: panoptic and semantic pictures, amodal masks, flow, tracks."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from msnet_d2.errors import InputError
from synthetic_flights.amodal import amodal_annotations, building_views, occlusion_order
from synthetic_flights.encode import write_arrays, write_json, write_picture, write_png
from synthetic_flights.flow import frame_flow
from synthetic_flights.materials import IGNORED, LABEL_TABLES, material_names
from synthetic_flights.panoptic import CATEGORIES, encode_ids, panoptic_segments
from synthetic_flights.scene import Flight, Frame
from synthetic_flights.tracks import tracks_document

__all__ = ["FLOW_STEP", "FlightTruth", "TruthOptions", "write_truth_annotations"]

FLOW_STEP = 2  # flow is kept of every second pixel of every second row
INSTANCE_CATEGORIES = [c for c in CATEGORIES if c["isthing"]]


@dataclass(frozen=True)
class TruthOptions:
    """What is written beside ISBDA's files, of the annotated frames.

    Attributes:
        panoptic: semantic and panoptic pictures.
        amodal: whole masks of buildings and parts.
        flow_gaps: flow from each annotated frame to the one so many frames before it; below 0:
            behind it. Frames before the first or behind the last have none.
        clean: the same frames without trees.
        tracks: masks over the frames of a flight.
    """

    panoptic: bool = False
    amodal: bool = False
    flow_gaps: tuple[int, ...] = ()
    clean: bool = False
    tracks: bool = False

    def __post_init__(self):
        if 0 in self.flow_gaps:
            raise InputError("a flow gap of 0 frames: expected gaps other than 0, such as 1 5")
        if len(set(self.flow_gaps)) < len(self.flow_gaps):
            raise InputError(f"flow gaps {' '.join(map(str, self.flow_gaps))}: one is there twice")

    def __bool__(self) -> bool:
        return any((self.panoptic, self.amodal, self.flow_gaps, self.clean, self.tracks))

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders that are written, beside ``annotations``."""
        wanted = {
            "semantic": self.panoptic,
            "panoptic": self.panoptic,
            "flow": bool(self.flow_gaps),
            "clean": self.clean,
        }
        return tuple(name for name, there in wanted.items() if there)


class FlightTruth:
    """Writes the pictures of one flight and gathers what its JSON files will say.

    Attributes:
        records: one dict for each frame added, in this order.
    """

    def __init__(self, out: Path, side: str, options: TruthOptions, flight: Flight):
        self.out, self.side, self.options, self.flight = out, side, options, flight
        self.records: list[dict] = []
        self._recent: OrderedDict[int, Frame] = OrderedDict()  # without pictures

    def add(self, frame: Frame, stem: str) -> None:
        """Write what there is of an annotated frame with truth; ``stem`` names its files."""
        record: dict = {}
        options = self.options
        if options.panoptic:
            materials = frame.truth.materials
            write_png(self._path("semantic", f"{stem}.png"), materials)
            ids, record["segments"] = panoptic_segments(self.flight, frame)
            write_png(self._path("panoptic", f"{stem}.png"), encode_ids(ids))
        if options.amodal or options.tracks:
            views = building_views(self.flight, frame.index)
            record["instances"] = amodal_annotations(self.flight, frame, views)
            record["order"] = occlusion_order(self.flight, frame, views)
        if options.clean:
            quality = self.flight.appearance.quality
            write_picture(self._path("clean", f"{stem}.jpg"), frame.clean, quality)
            write_png(self._path("clean", f"{stem}_cover.png"), frame.truth.tree_cover)
        record["flows"] = self._flows(frame, stem)
        self.records.append(record)

    def _path(self, folder: str, name: str) -> Path:
        return self.out / folder / self.side / name

    def _flows(self, frame: Frame, stem: str) -> list[dict]:
        written = []
        self._remember(frame)
        for gap in self.options.flow_gaps:
            index = frame.index - gap
            if not 0 <= index < self.flight.config.num_frames:
                continue
            other = self._recent.get(index)
            if other is None:
                other = self.flight.frame(index, with_truth=True, with_image=False)
                self._remember(other)
            flow, valid = frame_flow(self.flight.intrinsics, frame, other, FLOW_STEP)
            name = f"{stem}_{index}.npz"
            # Half a float ends at 65,504, far beyond any frame.
            half = flow.clip(-60_000, 60_000).astype("float16")
            write_arrays(self._path("flow", name), flow=half, valid=valid)
            written.append({"flow_file_name": name, "to_frame_index": index})
        return written

    def _remember(self, frame: Frame) -> None:
        if self.options.flow_gaps:
            self._recent[frame.index] = Frame(frame.index, frame.pose, None, truth=frame.truth)
            while len(self._recent) > 2 * len(self.options.flow_gaps) + 1:
                self._recent.popitem(last=False)


def write_truth_annotations(
    out: Path,
    side: str,
    options: TruthOptions,
    info: dict,
    images: list[dict],
    flights: list[list[dict]],
) -> None:
    """Write the JSON files of one side of a data set.

    Args:
        out: folder of the data set.
        side: ``train`` or ``val``.
        options: what is written.
        info: what the files say of themselves.
        images: of the side, as ISBDA's JSON has them, flight by flight.
        flights: for each flight the records of :class:`FlightTruth`.
    """
    if not options:
        return
    records = [record for flight in flights for record in flight]
    documents = {}
    if options.panoptic:
        documents["semantic"] = _semantic(images)
        documents["panoptic"] = _panoptic(images, records)
    if options.amodal:
        documents["amodal"] = _amodal(images, records)
    if options.flow_gaps:
        documents["flow"] = _flow(images, records)
    if options.tracks:
        documents["tracks"] = tracks_document(images, records, INSTANCE_CATEGORIES)
    for kind, document in documents.items():
        write_json(out / "annotations" / f"{kind}_{side}.json", {"info": info, **document})


def _semantic(images: list[dict]) -> dict:
    return {
        "images": [{**image, "sem_seg_file_name": _png(image["file_name"])} for image in images],
        "labels": [{"id": n, "name": name} for n, name in enumerate(material_names())],
        "ignore_label": IGNORED,
        "label_tables": LABEL_TABLES,
    }


def _png(name: str) -> str:
    return name.removesuffix(".jpg") + ".png"


def _panoptic(images: list[dict], records: list[dict]) -> dict:
    annotations = [
        {
            "image_id": image["id"],
            "file_name": _png(image["file_name"]),
            "segments_info": record["segments"],
        }
        for image, record in zip(images, records)
    ]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def _amodal(images: list[dict], records: list[dict]) -> dict:
    annotations = [
        {"image_id": image["id"], **annotation}
        for image, record in zip(images, records)
        for annotation in record["instances"]
    ]
    return {
        "images": [
            {**image, "occlusion_order": record["order"]} for image, record in zip(images, records)
        ],
        "annotations": [{"id": n, **a} for n, a in enumerate(annotations, start=1)],
        "categories": INSTANCE_CATEGORIES,
    }


def _flow(images: list[dict], records: list[dict]) -> dict:
    pairs = [
        {
            "image_id": image["id"],
            "file_name": image["file_name"],
            "video_id": image["video_id"],
            "frame_index": image["frame_index"],
            **flow,
        }
        for image, record in zip(images, records)
        for flow in record["flows"]
    ]
    return {
        "images": images,
        "pairs": [{"id": n, **pair} for n, pair in enumerate(pairs, start=1)],
        "step": FLOW_STEP,
    }
