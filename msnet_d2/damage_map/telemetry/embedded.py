"""Flight logs inside of videos: DJI's subtitle track, GoPro's GPMF, MISB ST 0601 in MPEG-TS.

No library that reads GPMF or ST 0601 is kept up; only the fields that a map needs are read here.

- DJI (Mini 2, Mini SE, …) writes its subtitles as a ``mov_text`` track.
- GPMF (github.com/gopro/gpmf-parser) is nested records of key, type, size and count, big-endian;
  GPS5 and GPS9 hold latitude, longitude and altitude, scaled by SCAL.
- ST 0601 is a local set of tags, each a scaled integer; the sensor's attitude counts from the
  platform's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msnet_d2.damage_map.telemetry.flight_log import FlightLog
from msnet_d2.damage_map.telemetry.plausibility import check_log
from msnet_d2.damage_map.telemetry.telemetry import Telemetry
from msnet_d2.errors import InputError
from msnet_d2.utils.video_io import import_av, open_video

# An hour of any of them is less than half of this.
MAX_BYTES = 1 << 27
MAX_RECORDS = 400_000
_UNIVERSAL_KEY = bytes.fromhex("060E2B34020B01010E01030101000000")
_GPMF_TYPES = {b"l": "i", b"L": "I", b"s": "h", b"S": "H", b"f": "f", b"d": "d", b"b": "b",
               b"B": "B", b"j": "q", b"J": "Q"}  # fmt: skip


@dataclass
class _Packet:
    time_s: float
    duration_s: float
    data: bytes


def read_embedded(video: Path) -> Telemetry | None:
    """The log inside of a video file, on the video's time; None if there is none.

    Raises:
        InputError: if there is one, but none of its records has a position.
    """
    if not video.is_file():
        return None
    for kind, packets in _tracks(video):
        if kind == "subtitle":
            text = _subtitle_text(packets)
            if "latitude" in text.lower() or "GPS" in text:
                return Telemetry.from_text(text, video.name)
        elif packets[0].data[:4] == b"DEVC":
            return _telemetry(_gpmf_rows(packets), video.name, "gpx")
        elif _UNIVERSAL_KEY in packets[0].data:
            return _telemetry(_klv_rows(packets), video.name, "csv")
    return None


def _tracks(video: Path) -> list[tuple[str, list[_Packet]]]:
    """Packets of the subtitle and data tracks of a file."""
    errors = import_av().FFmpegError
    found: dict[int, tuple[str, list[_Packet]]] = {}
    total = 0
    with suppress(errors), open_video(video) as container:
        streams = [s for s in container.streams if s.type in ("subtitle", "data")]
        if not streams:
            return []
        begin = (container.start_time or 0) / 1e6
        for packet in container.demux(streams):
            data = bytes(packet)
            total += len(data)
            if total > MAX_BYTES:
                raise InputError(f"{video}: more than {MAX_BYTES >> 20} MiB of telemetry in it")
            if not data:
                continue
            base = packet.time_base or packet.stream.time_base
            time_s = np.nan if packet.pts is None else float(packet.pts * base) - begin
            duration = float((packet.duration or 0) * base)
            track = found.setdefault(packet.stream.index, (packet.stream.type, []))
            track[1].append(_Packet(time_s, duration, data))
    return list(found.values())


def _subtitle_text(packets: list[_Packet]) -> str:
    """The subtitles as they stand in an .srt file."""

    def stamp(seconds: float) -> str:
        ms = round(max(np.nan_to_num(seconds), 0) * 1000)
        return (
            f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"
        )

    cues = []
    for i, packet in enumerate(packets, start=1):
        raw = packet.data
        # A text sample begins with its length in two bytes; other subtitles are plain text.
        if len(raw) >= 2 and struct.unpack(">H", raw[:2])[0] <= len(raw) - 2 and raw[0] < 32:
            raw = raw[2 : 2 + struct.unpack(">H", raw[:2])[0]]
        text = raw.decode("utf-8", errors="replace")
        if text.strip():
            end = packet.time_s + packet.duration_s
            cues.append(f"{i}\n{stamp(packet.time_s)} --> {stamp(end)}\n{text}\n")
    return "\n".join(cues)


def _telemetry(rows: list[dict[str, float]], source: str, dialect: str) -> Telemetry:
    if not rows:
        raise InputError(f"{source}: no position was recognised in the telemetry inside of it")
    return Telemetry.from_log(
        check_log(FlightLog.from_rows(rows, dialect=dialect, source=source, time_is_video=True))
    )


def _gpmf_items(data: bytes) -> Iterator[tuple[bytes, bytes, int, int, bytes]]:
    """Key, type, size, count and payload of the records of one level."""
    at = 0
    while at + 8 <= len(data):
        key, kind = data[at : at + 4], data[at + 4 : at + 5]
        size, count = struct.unpack(">BH", data[at + 5 : at + 8])
        length = size * count
        yield key, kind, size, count, data[at + 8 : at + 8 + length]
        at += 8 + (length + 3) // 4 * 4


def _gpmf_rows(packets: list[_Packet]) -> list[dict[str, float]]:
    """A row for each fix; those of a packet share its time."""
    rows: list[dict[str, float]] = []
    for packet in packets:
        for key, _, _, _, device in _gpmf_items(packet.data):
            if key != b"DEVC":
                continue
            for inner, _, _, _, stream in _gpmf_items(device):
                if inner == b"STRM":
                    rows += _gpmf_fixes(stream, packet)
        if len(rows) > MAX_RECORDS:
            break
    return rows


def _gpmf_fixes(stream: bytes, packet: _Packet) -> list[dict[str, float]]:
    scale, fix, kinds = [1.0], 3, b""
    for key, kind, size, count, payload in _gpmf_items(stream):
        if key == b"SCAL" and kind in _GPMF_TYPES:
            form = f">{len(payload) // struct.calcsize(_GPMF_TYPES[kind])}{_GPMF_TYPES[kind]}"
            scale = list(struct.unpack(form, payload[: struct.calcsize(form)]))
        elif key == b"GPSF" and len(payload) >= 4:
            fix = struct.unpack(">I", payload[:4])[0]
        elif key == b"TYPE":
            kinds = payload
        elif key in (b"GPS5", b"GPS9"):
            form = ">5i" if key == b"GPS5" else ">7i2H"
            if key == b"GPS9" and kinds[:9] not in (b"lllllllSS", b""):
                return []
            if size != struct.calcsize(form) or len(scale) < 3 or not all(scale[:3]) or fix < 2:
                return []
            values = [struct.unpack_from(form, payload, i * size)
                      for i in range(min(count, len(payload) // size))]  # fmt: skip
            if key == b"GPS9":
                values = [v for v in values if v[8] >= 2]
            return [
                {
                    "time_s": packet.time_s + packet.duration_s * i / max(len(values), 1),
                    "lat": v[0] / scale[0],
                    "lon": v[1] / scale[1],
                    "abs_alt": v[2] / scale[2],
                }
                for i, v in enumerate(values)
            ]
    return []


def _unsigned(raw: bytes, low: float, high: float) -> float:
    return low + int.from_bytes(raw, "big") * (high - low) / (256 ** len(raw) - 1)


def _signed(raw: bytes, limit: float) -> float:
    """An integer that stands for ±``limit``; its smallest value means out of range."""
    value, top = int.from_bytes(raw, "big", signed=True), 2 ** (8 * len(raw) - 1)
    return np.nan if value == -top else value * limit / (top - 1)


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A BER length and where its value begins."""
    first = data[at]
    if first < 128:
        return first, at + 1
    count = first & 127
    return int.from_bytes(data[at + 1 : at + 1 + count], "big"), at + 1 + count


def _local_set(data: bytes) -> dict[int, bytes]:
    """Tags of the first local set in a packet."""
    at = data.find(_UNIVERSAL_KEY)
    if at < 0:
        return {}
    tags: dict[int, bytes] = {}
    try:
        length, at = _length(data, at + 16)
        end = min(at + length, len(data))
        while at < end:
            tag, at = data[at], at + 1
            while tag >= 128 and data[at - 1] >= 128:  # BER-OID: seven bits a byte
                tag, at = (tag & 127) << 7 | data[at] & 127, at + 1
            size, at = _length(data, at)
            tags[tag] = data[at : at + size]
            at += size
    except IndexError:
        pass
    return tags


def _klv_rows(packets: list[_Packet]) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    first = None
    for packet in packets[:MAX_RECORDS]:
        tags = _local_set(packet.data)
        if not {13, 14} <= tags.keys():
            continue
        time_s = packet.time_s
        if 2 in tags:
            stamp = int.from_bytes(tags[2], "big") / 1e6
            first = stamp - np.nan_to_num(time_s) if first is None else first
            time_s = stamp - first if np.isnan(time_s) else time_s
        row = {"time_s": time_s, "lat": _signed(tags[13], 90), "lon": _signed(tags[14], 180)}
        if 15 in tags:
            row["abs_alt"] = _unsigned(tags[15], -900, 19_000)
            if 25 in tags:  # what is in view, hence the height above the ground that counts
                row["alt"] = row["abs_alt"] - _unsigned(tags[25], -900, 19_000)
        if 16 in tags:
            row["hfov_deg"] = _unsigned(tags[16], 0, 180)
        if {5, 18, 19} <= tags.keys():
            platform = (
                _unsigned(tags[5], 0, 360),
                _signed(tags[6], 20) if 6 in tags else 0.0,
                _signed(tags[7], 50) if 7 in tags else 0.0,
            )
            roll = _unsigned(tags[20], 0, 360) if 20 in tags else 0.0
            sensor = _unsigned(tags[18], 0, 360), _signed(tags[19], 180), roll
            row["yaw"], row["pitch"], row["roll"] = _compose(platform, sensor)
            row["flight_yaw"] = platform[0]
        rows.append(row)
    return rows


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """North, east, down (rows) of the forward, right and down axes (columns); z, y', x''."""
    (cy, cp, cr), (sy, sp, sr) = ((f(np.radians([yaw, pitch, roll]))) for f in (np.cos, np.sin))
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return about_z @ about_y @ about_x


def _compose(platform: tuple, sensor: tuple) -> tuple[float, float, float]:
    """Yaw, pitch and roll (degrees) of a sensor whose attitude counts from its platform's."""
    whole = _rotation(*platform) @ _rotation(*sensor)
    yaw = np.degrees(np.arctan2(whole[1, 0], whole[0, 0]))
    pitch = np.degrees(np.arcsin(np.clip(-whole[2, 0], -1, 1)))
    return float(yaw), float(pitch), float(np.degrees(np.arctan2(whole[2, 1], whole[2, 2])))
