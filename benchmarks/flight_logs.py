"""Try the map on rendered flights whose logs were rewritten, and count what goes wrong in silence.

  msnet synth --videos 3 --seconds 12 --fps 10 --size 640x360 --seed 7 --every 1 --out output/logs
  python benchmarks/flight_logs.py --data output/logs --cases 200 --out output/flight_logs.json

Every case takes a flight with what a faultless detector would find in it, and writes its log in a
dialect, units and a zone drawn by lot, with a fault drawn by lot: none, a cut or slowed clip,
another offset, height, yaw, pitch or zoom, a column that is missing. It says how far the map is off
(median over buildings), what radius the map states, and whether it said that it is doubtful. A case
is silent if it is off by more than it states, and did not say so.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from synthetic_flights.config import SceneConfig
from synthetic_flights.labels import building_box
from synthetic_flights.scene import Flight as Scene
from synthetic_flights.simulation import perfect_results
from synthetic_flights.telemetry import START, to_latlon
from tabulate import tabulate

from msnet_d2.damage_map.alignment.flight import align_flight
from msnet_d2.damage_map.alignment.picture_motion import PairMotion, measure_motion
from msnet_d2.damage_map.buildings.assessment import find_buildings
from msnet_d2.damage_map.buildings.association import link
from msnet_d2.damage_map.buildings.observations import MapVideo, Observation, observations_of
from msnet_d2.damage_map.buildings.placement import place
from msnet_d2.damage_map.geometry.flight import Flight, FlightOptions
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.telemetry.telemetry import Telemetry
from msnet_d2.errors import InputError

SEED, SIZE, FPS, SECONDS = 7, (640, 360), 10.0, 12.0


@dataclass
class Rendered:
    """A flight, its motion, what is found in it, and where that is."""

    scene: Scene
    pairs: list[PairMotion]
    video: MapVideo
    observations: list[Observation]
    owner: dict[tuple[int, tuple], int]
    centers: dict[int, np.ndarray]


@dataclass
class Log:
    """Columns (N,) of a log before it is written; None where it has none."""

    t: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    alt: np.ndarray | None
    abs_alt: np.ndarray | None
    yaw: np.ndarray | None
    pitch: np.ndarray | None
    nose: np.ndarray
    focal: np.ndarray | None


def load(data: Path, video: int) -> Rendered:
    """Read a flight that ``msnet synth`` has rendered."""
    config = SceneConfig(*SIZE, fps=FPS, seconds=SECONDS, seed=SEED, video=video)
    scene = Scene(config)
    video = MapVideo(Path(f"{video}.mp4"), 0, perfect_results(scene)[0])
    observations = observations_of(video)
    owner = {}
    for o in observations:
        boxes = {p.id: building_box(scene, p, scene.pose(o.frame)) for p in scene.buildings}
        near = {i: np.abs(b - o.box).max() for i, b in boxes.items() if np.isfinite(b).all()}
        owner[o.frame, tuple(o.box)] = min(near, key=near.get)
    origin = (scene.appearance.latitude, scene.appearance.longitude)
    centers = {p.id: to_latlon(p.outline, origin).mean(axis=0) for p in scene.buildings}
    pairs = measure_motion(data / "videos" / video.name, SECONDS)
    return Rendered(scene, pairs, video, observations, owner, centers)


def true_log(flight: Rendered) -> Log:
    """The log as it should be."""
    scene = flight.scene
    poses = [scene.pose(i) for i in range(scene.config.num_frames)]
    origin = (scene.appearance.latitude, scene.appearance.longitude)
    lat, lon = to_latlon(np.array([p.position[:2] for p in poses]), origin).T
    alt = np.array([p.position[2] for p in poses])
    focal = np.full(len(poses), 36 * scene.intrinsics.focal / SIZE[0])
    yaw, pitch = (np.array([getattr(p, n) for p in poses]) for n in ("yaw", "pitch"))
    t = np.array([p.time for p in poses])
    sea = alt + scene.appearance.ground_altitude
    return Log(t, lat, lon, alt, sea, yaw, pitch, yaw.copy(), focal)


# --- faults: (log, rng) to what is wrong, and the cut and rate of the clip ---


def _none(log, rng):
    return log, {}


def _cut(log, rng):
    begin = float(rng.uniform(1, 6))
    return log, {"begin": begin, "end": begin + float(rng.uniform(5, 12 - begin))}


def _slowed(log, rng):
    return log, {"rate": float(rng.choice([0.25, 0.5, 0.8, 1.5, 2.0]))}


def _offset(log, rng):
    return replace(log, t=log.t + rng.choice([-1, 1]) * rng.uniform(1, 5)), {}


def _height(log, rng):
    wrong = rng.choice(["feet", "ground", "sea"])
    if wrong == "feet":
        return replace(log, alt=log.alt / 0.3048, abs_alt=None), {}
    lift = rng.uniform(15, 60) if wrong == "ground" else rng.uniform(50, 1500)
    return replace(log, alt=log.alt + lift, abs_alt=None), {}


def _yaw(log, rng):
    wrong = rng.choice(["constant", "relative", "north"])
    if wrong == "constant":
        return replace(log, yaw=log.yaw + rng.choice([-1, 1]) * rng.uniform(10, 170)), {}
    yaw = np.zeros_like(log.yaw) if wrong == "relative" else np.full_like(log.yaw, 123.0)
    return replace(log, yaw=yaw), {}


def _pitch(log, rng):
    wrong = rng.choice(["sign", "nadir", "constant"])
    pitch = {"sign": -log.pitch, "nadir": log.pitch + 90}.get(wrong, log.pitch)
    if wrong == "constant":
        pitch = pitch + rng.choice([-1, 1]) * rng.uniform(5, 20)
    return replace(log, pitch=pitch), {}


def _zoom(log, rng):
    return replace(log, focal=log.focal * rng.choice([0.5, 0.48, 0.7, 1.5, 2.0])), {}


def _missing(log, rng):
    lost = rng.choice(["focal", "gimbal", "alt", "alt and focal"])
    changes = {
        "focal": {"focal": None},
        "gimbal": {"yaw": None, "pitch": None},
        "alt": {"alt": None},
        "alt and focal": {"alt": None, "focal": None},
    }[lost]
    return replace(log, **changes), {}


def _radians(log, rng):
    return replace(log, lat=np.radians(log.lat), lon=np.radians(log.lon)), {}


def _coarse(log, rng):
    digits = int(rng.choice([4, 5]))
    return replace(log, lat=log.lat.round(digits), lon=log.lon.round(digits)), {}


FAULTS: dict[str, Callable] = {
    "none": _none, "cut clip": _cut, "slowed clip": _slowed, "offset": _offset, "height": _height,
    "yaw": _yaw, "pitch": _pitch, "zoom": _zoom, "missing": _missing, "radians": _radians,
    "coarse": _coarse,
}  # fmt: skip


# --- dialects: (log, rng) to text and a name ---


def _cell(values, i, form="{:.7f}"):
    return "" if values is None else form.format(values[i])


def write_srt(log: Log, rng) -> tuple[str, str]:
    """DJI's subtitles, one a frame."""
    blocks = []
    for i, t in enumerate(log.t):
        if t < 0:
            continue
        a, b = (f"00:00:{v:06.3f}".replace(".", ",") for v in (t, t + 0.1))
        fields = [f"[latitude: {log.lat[i]:.9f}] [longitude: {log.lon[i]:.9f}]"]
        if log.focal is not None:
            fields.append(f"[focal_len: {log.focal[i]:.2f}]")
        heights = [("rel_alt", log.alt), ("abs_alt", log.abs_alt)]
        heights = [f"{n}: {v[i]:.3f}" for n, v in heights if v is not None]
        if heights:
            fields.append("[" + " ".join(heights) + "]")
        if log.yaw is not None:
            fields.append(f"[gb_yaw: {log.yaw[i]:.1f} gb_pitch: {log.pitch[i]:.1f} gb_roll: 0.0]")
        moment = START + timedelta(seconds=float(t))
        blocks.append(f"{i + 1}\n{a} --> {b}\n{moment:%Y-%m-%d %H:%M:%S.%f}\n{' '.join(fields)}\n")
    return "\n".join(blocks), "log.srt"


def write_csv(log: Log, rng) -> tuple[str, str]:
    """A table with units, positions, times and a zone by lot."""
    foot = rng.random() < 0.5
    unit, factor = ("feet", 1 / 0.3048) if foot else ("m", 1.0)
    clock = rng.choice(["ms", "iso", "epoch", "elapsed"])
    place = rng.choice(["plain", "letters", "dms"])
    heading = {"ms": "time(millisecond)", "iso": "time", "epoch": "timestamp",
               "elapsed": "elapsed"}[clock]  # fmt: skip
    columns = [heading, "latitude", "longitude", f"height_above_takeoff({unit})",
               f"altitude_above_seaLevel({unit})", "gimbal_heading(degrees)",
               "gimbal_pitch(degrees)", "compass_heading(degrees)", "focal_length"]  # fmt: skip
    zone = timezone(timedelta(hours=int(rng.integers(-5, 6))))
    lines = [",".join(columns)]
    for i, t in enumerate(log.t - min(log.t[0], 0)):
        moment = START.replace(tzinfo=timezone.utc) + timedelta(seconds=float(t))
        when = {"ms": f"{t * 1000:.0f}", "iso": moment.astimezone(zone).isoformat(),
                "epoch": f"{moment.timestamp() * 1000:.0f}",
                "elapsed": f"00:00:{t:06.3f}"}[clock]  # fmt: skip
        where = [_place(log.lat[i], "NS", place), _place(log.lon[i], "EW", place)]
        heights = [None if v is None else v * factor for v in (log.alt, log.abs_alt)]
        cells = [_cell(v, i, "{:.3f}") for v in (*heights, log.yaw, log.pitch, log.nose, log.focal)]
        lines.append(",".join([when, *where, *cells]))
    return "\n".join(lines), "log.csv"


def _place(value: float, letters: str, how: str) -> str:
    letter = letters[0] if value >= 0 else letters[1]
    if how == "plain" or abs(value) < 4:  # radians have no letters
        return f"{value:.10f}"
    if how == "letters":
        return f"{letter}{abs(value):.9f}"
    degrees, rest = divmod(abs(value) * 3600, 3600)
    return f'"{degrees:.0f} deg {rest // 60:.0f}\' {rest % 60:.4f}"" {letter}"'


def write_gpx(log: Log, rng) -> tuple[str, str]:
    """A track with extensions."""
    points = []
    for i, t in enumerate(log.t):
        moment = START + timedelta(seconds=float(t))
        inner = f"<time>{moment:%Y-%m-%dT%H:%M:%S.%f}Z</time>"
        if log.abs_alt is not None:
            inner += f"<ele>{log.abs_alt[i]:.2f}</ele>"
        extra = [("relalt", log.alt), ("gimbalyaw", log.yaw), ("gimbalpitch", log.pitch),
                 ("focallen", log.focal)]  # fmt: skip
        tags = "".join(f"<{n}>{v[i]:.3f}</{n}>" for n, v in extra if v is not None)
        points.append(
            f'<trkpt lat="{log.lat[i]:.9f}" lon="{log.lon[i]:.9f}">{inner}'
            f"<extensions>{tags}</extensions></trkpt>"
        )
    return f"<gpx><trk><trkseg>{''.join(points)}</trkseg></trk></gpx>", "log.gpx"


DIALECTS = {"srt": write_srt, "csv": write_csv, "gpx": write_gpx}


def run_case(flight: Rendered, fault: str, dialect: str, rng: np.random.Generator) -> dict:
    """Map one case; returns error and stated radius in metres and what was said."""
    log, clip = FAULTS[fault](true_log(flight), rng)
    text, name = DIALECTS[dialect](log, rng)
    begin, end, rate = clip.get("begin", 0.0), clip.get("end", SECONDS), clip.get("rate", 1.0)
    observations = [
        replace(o, time_s=(o.time_s - begin) / rate)
        for o in flight.observations
        if begin <= o.time_s < end
    ]
    pairs = [
        replace(p, t0=(p.t0 - begin) / rate, t1=(p.t1 - begin) / rate)
        for p in flight.pairs
        if begin <= p.t0 and p.t1 <= end
    ]
    duration = (end - begin) / rate
    found = {"fault": fault, "dialect": dialect}
    try:
        telemetry = Telemetry.from_text(text, name)
        # A file's time of creation, which a cut clip often keeps from the whole one.
        start = datetime.combine(START.date(), START.time(), timezone.utc)
        telemetry = telemetry.for_video(duration, start=start)
    except InputError as error:
        return {**found, "outcome": "refused", "said": str(error)}
    options = FlightOptions()
    size = tuple(map(float, SIZE))
    mapped = Flight(telemetry, duration_s=duration, size=size, fps=FPS, options=options)
    align_flight(mapped, Path(name), pairs)
    enu = EnuFrame(flight.scene.appearance.latitude, flight.scene.appearance.longitude)
    video = replace(flight.video, flight=mapped)
    observations = place([replace(o, video=video) for o in observations], enu)
    errors, stated = [], []
    for building in find_buildings(link(observations), enu):
        if building.point is None:
            continue
        owners = [flight.owner[o.frame, tuple(o.box)] for o in building.observations]
        truth = enu.to_xy([flight.centers[max(set(owners), key=owners.count)]])[0]
        errors.append(float(np.linalg.norm(building.point - truth)))
        stated.append(building.ce90_m)
    found["said"] = mapped.doubts or [n for n in mapped.notes if "motion" in n]
    if not errors:
        return {**found, "outcome": "unplaced"}
    found |= {"error_m": float(np.median(errors)), "stated_m": float(np.median(stated))}
    right = found["error_m"] <= found["stated_m"]
    outcome = "doubtful" if mapped.doubts else "right" if right else "SILENT"
    mended = any("mended" in n or "by the picture's motion" in n for n in mapped.notes)
    return {**found, "outcome": outcome, "mended": mended}


def main() -> None:
    """Try cases and print a table of outcomes by fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder by msnet synth")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON of all cases")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    flights = [load(args.data, video) for video in (1, 2, 3)]
    cases = []
    for k in range(args.cases):
        fault = list(FAULTS)[k % len(FAULTS)]
        dialect = str(rng.choice(list(DIALECTS)))
        video = int(rng.integers(len(flights)))
        case = run_case(flights[video], fault, dialect, rng)
        cases.append({**case, "video": video + 1})
        if args.out:
            args.out.write_text(json.dumps(cases, indent=1))
    kinds = ("right", "doubtful", "refused", "unplaced", "SILENT")
    rows = []
    for fault in (*FAULTS, "all"):
        of = [c for c in cases if fault in (c["fault"], "all")]
        if not of:
            continue
        placed = [c for c in of if c["outcome"] == "right"]
        errors = [c["error_m"] for c in placed] or [math.nan]
        stated = [c["stated_m"] for c in placed] or [math.nan]
        counts = [sum(c["outcome"] == kind for c in of) for kind in kinds]
        rows.append((fault, len(of), *counts, np.median(errors), np.median(stated)))
    head = ("fault", "cases", *kinds, "median error, m", "stated, m")
    print(tabulate(rows, head, tablefmt="github", floatfmt=".1f"))


if __name__ == "__main__":
    main()
