"""Small flights whose truth is known: a video, its log, and what a faultless detector finds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from msnet_d2.video.results import (
    FORMAT,
    VERSION,
    Category,
    FrameResults,
    ModelInfo,
    PartDetection,
    ResultsHeader,
    ResultsSummary,
    SourceInfo,
)
from msnet_d2.video.results_writer import write_results

HOME = (48.0, 11.0)
SIZE = (320, 180)
FPS = 4
SHA = "ab" * 32
LEVELS = [Category(i, n) for i, n in enumerate(("Slight", "Severe", "Debris"), start=1)]


@dataclass
class House:
    """A square house: centre in metres east and north of HOME, side, level, confidence."""

    x: float
    y: float
    level: int = 2
    score: float = 0.9
    side: float = 12.0
    height: float = 4.5


@dataclass
class FlightFiles:
    """Files of a flight, and where its houses are."""

    video: Path
    log: Path
    results: Path
    houses: list[House] = field(default_factory=list)


def log_text(frames: int, heading: float, start: tuple[float, float], speed: float) -> str:
    """A DJI log of a flight at 60 m, 60 degrees down, straight on along ``heading``."""
    from msnet_d2.damage_map.geometry.local_frame import EnuFrame

    local, lines = EnuFrame(*HOME), []
    step = np.array([np.sin(np.radians(heading)), np.cos(np.radians(heading))]) * speed / FPS
    for i in range(frames):
        lat, lon = local.to_lat_lon(np.array(start) + i * step)[0]
        a, b = (f"00:00:{t:06.3f}".replace(".", ",") for t in (i / FPS, (i + 1) / FPS))
        lines.append(
            f"{i + 1}\n{a} --> {b}\nFrameCnt: {i + 1}\n2026-03-01 10:00:{i / FPS:06.3f}\n"
            f"[focal_len: 24.00] [latitude: {lat:.8f}] [longitude: {lon:.8f}] "
            f"[rel_alt: 60.000 abs_alt: 560.000] "
            f"[gb_yaw: {heading:.1f} gb_pitch: -60.0 gb_roll: 0.0]\n"
        )
    return "\n".join(lines)


def write_flight(
    folder: Path,
    houses: list[House],
    *,
    name: str = "flight",
    frames: int = 16,
    heading: float = 0.0,
    start: tuple[float, float] = (0.0, 0.0),
    speed: float = 8.0,
) -> FlightFiles:
    """Write video, log and results; houses are found where half of them is in the frame."""
    import av

    from msnet_d2.damage_map.geometry.flight import Flight
    from msnet_d2.damage_map.geometry.local_frame import EnuFrame
    from msnet_d2.damage_map.telemetry.telemetry import Telemetry

    folder.mkdir(parents=True, exist_ok=True)
    text = log_text(frames, heading, start, speed)
    telemetry = Telemetry.from_text(text, "log.srt").for_video(frames / FPS)
    flight = Flight(telemetry, duration_s=frames / FPS, size=SIZE, fps=FPS)
    local = EnuFrame(*HOME)
    files = FlightFiles(*(folder / f"{name}{s}" for s in (".mp4", ".srt", ".json")), houses)
    files.log.write_text(text)
    entries = []
    with av.open(str(files.video), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for i in range(frames):
            image = np.full((SIZE[1], SIZE[0], 3), (90, 120, 90), np.uint8)
            image += (np.indices(SIZE[::-1]).sum(axis=0) % 32).astype(np.uint8)[..., None]
            found = []
            for house in houses:
                box = _box(house, flight.projector(i / FPS), local)
                if box is None:
                    continue
                x0, y0, x1, y1 = box
                cv2.rectangle(image, (int(x0), int(y0)), (int(x1), int(y1)), (60, 60, 160), -1)
                w, h = x1 - x0, y1 - y0
                found.append(
                    PartDetection(
                        category_id=house.level,
                        bbox=_rounded(x0 + w / 4, y0 + h / 4, w / 2, h / 2),
                        score=house.score,
                        score_raw=house.score,
                        parent_bbox=_rounded(x0, y0, w, h),
                    )
                )
            entries.append(FrameResults(i, i / FPS, instances=found))
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    source = SourceInfo(
        name=files.video.name,
        width=SIZE[0],
        height=SIZE[1],
        fps=FPS,
        duration_s=frames / FPS,
    )
    header = ResultsHeader(FORMAT, VERSION, source, ModelInfo(weights_sha256=SHA), LEVELS)
    write_results(files.results, header.with_frames(entries, ResultsSummary()))
    return files


def _rounded(*box: float) -> tuple[float, ...]:
    return tuple(round(float(v), 2) for v in box)


def _box(house: House, projector, local) -> np.ndarray | None:
    """The house's box in the frame, cut at its edge; None where less than half of it is seen."""
    half = house.side / 2
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    places = local.to_lat_lon(corners + np.array([house.x, house.y]))
    pixels = np.concatenate([projector.to_pixels(places, height_m=h) for h in (0, house.height)])
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    seen_low, seen_high = np.maximum(low, 0), np.minimum(high, SIZE)
    if (seen_high <= seen_low).any():
        return None
    if np.prod(seen_high - seen_low) < 0.5 * np.prod(high - low):
        return None
    return np.concatenate([seen_low, seen_high])


@pytest.fixture
def flights(tmp_path):
    """What tests of maps share: ``write(houses, name=, …)`` into tmp_path, ``House``, and what a
    map's files hold: ``buildings(folder)``."""

    def buildings(folder: Path) -> list[dict]:
        features = json.loads((folder / "damage.geojson").read_text())["features"]
        return [f for f in features if f["properties"]["layer"] == "building"]

    def write(houses, **options):
        return write_flight(tmp_path / "in", houses, **options)

    return SimpleNamespace(write=write, House=House, buildings=buildings, home=HOME, sha=SHA)
