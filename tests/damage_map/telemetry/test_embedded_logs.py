"""Logs inside of videos, written here byte by byte after the formats' descriptions."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from msnet_d2.damage_map.geometry.camera import camera_to_world
from msnet_d2.damage_map.telemetry.embedded import (
    _compose,
    _gpmf_rows,
    _klv_rows,
    _Packet,
    _subtitle_text,
    read_embedded,
)
from msnet_d2.damage_map.telemetry.telemetry import Telemetry

CUE = (
    "F/2.8, SS 100, ISO 100, EV 0, DZOOM 1.000, GPS (-94.7950, {lat:.4f}, 23), D 9.91m, H 50.09m, "
    "H.S 9.45m/s, V.S 1.90m/s"
)


def test_a_subtitle_track_is_read_as_the_file_would_be(tmp_path):
    path = tmp_path / "mini2.mp4"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=5)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        text = out.add_stream("mov_text")
        text.time_base = Fraction(1, 1000)
        text.codec_context.subtitle_header = b"[Script Info]\n"
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, 5)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for i in range(4):
            body = CUE.format(lat=32.37 + i * 1e-4).encode()
            packet = av.Packet(struct.pack(">H", len(body)) + body)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = 1000 * i
            packet.duration = 1000
            out.mux(packet)
    telemetry = read_embedded(path)
    assert telemetry.source == "mini2.mp4"
    assert telemetry.time_is_video
    assert telemetry.at(2.0).lat == pytest.approx(32.3702, abs=1e-6)
    assert telemetry.at(2.0).alt == pytest.approx(50.09)


def test_a_text_sample_begins_with_its_length():
    body = CUE.format(lat=32.5).encode()
    packets = [_Packet(i, 1.0, struct.pack(">H", len(body)) + body + b"\0\0\0\x0cencd\0\0\1\0")
               for i in range(2)]  # fmt: skip
    text = _subtitle_text(packets)
    assert text.startswith("1\n00:00:00,000 --> 00:00:01,000\nF/2.8")
    assert Telemetry.from_text(text, "a.mp4").at(0.5).lat == 32.5


def gpmf(key: bytes, kind: bytes, size: int, count: int, payload: bytes) -> bytes:
    pad = -len(payload) % 4
    return key + kind + struct.pack(">BH", size, count) + payload + bytes(pad)


def test_gopro_gpmf():
    packets = []
    for second in range(3):
        fixes = [(32.5 + 1e-4 * second + 5e-5 * i, -94.25, 120.5) for i in range(2)]
        body = b"".join(
            struct.pack(">5i", round(a * 1e7), round(b * 1e7), round(c * 1000), 0, 0)
            for a, b, c in fixes
        )
        stream = (
            gpmf(b"GPSF", b"L", 4, 1, struct.pack(">I", 3))
            + gpmf(b"SCAL", b"l", 4, 5, struct.pack(">5i", 10_000_000, 10_000_000, 1000, 1, 1))
            + gpmf(b"GPS5", b"l", 20, 2, body)
        )
        device = gpmf(b"STRM", b"\0", 1, len(stream), stream)
        packets.append(_Packet(second, 1.0, gpmf(b"DEVC", b"\0", 1, len(device), device)))
    rows = _gpmf_rows(packets)
    assert [r["time_s"] for r in rows] == [0, 0.5, 1, 1.5, 2, 2.5]
    assert rows[3]["lat"] == pytest.approx(32.50015)
    assert rows[3]["abs_alt"] == pytest.approx(120.5)
    assert _gpmf_rows([_Packet(0, 1, b"DEVC\0\1\xff\xff" + b"STRM")]) == []


def klv(tags: dict[int, bytes]) -> bytes:
    body = b"".join(bytes([tag, len(value)]) + value for tag, value in tags.items())
    key = bytes.fromhex("060E2B34020B01010E01030101000000")
    return key + b"\x82" + struct.pack(">H", len(body)) + body


def test_misb_st_0601():
    def angle(value, whole, size):
        return round(value / whole * (256**size - 1)).to_bytes(size, "big")

    def signed(value, limit, size):
        top = 2 ** (8 * size - 1) - 1
        return round(value / limit * top).to_bytes(size, "big", signed=True)

    def height(value):
        return round((value + 900) / 19_900 * 65_535).to_bytes(2, "big")

    packets = [
        _Packet(
            float(i), 1.0,
            klv({
                2: (1_700_000_000_000_000 + i * 1_000_000).to_bytes(8, "big"),
                5: angle(90, 360, 2), 6: signed(0, 20, 2), 7: signed(0, 50, 2),
                13: signed(32.5 + i * 1e-4, 90, 4), 14: signed(-94.25, 180, 4),
                15: height(150), 16: angle(60, 180, 2), 18: angle(30, 360, 4),
                19: signed(-45, 180, 4), 20: angle(0, 360, 4), 25: height(100),
            }),
        )
        for i in range(2)
    ]  # fmt: skip
    rows = _klv_rows(packets)
    assert rows[1]["lat"] == pytest.approx(32.5001, abs=1e-7)
    assert rows[1]["lon"] == pytest.approx(-94.25, abs=1e-7)
    # A platform that flies level to the east, its camera 30 degrees to the right: 120 degrees.
    assert rows[1]["yaw"] == pytest.approx(120, abs=0.01)
    assert rows[1]["pitch"] == pytest.approx(-45, abs=0.01)
    assert rows[1]["hfov_deg"] == pytest.approx(60, abs=0.01)
    # 150 m less 100 m of ground, in steps of 0.3 m.
    assert rows[1]["alt"] == pytest.approx(50, abs=0.4)


def test_attitudes_compose_as_rotations():
    yaw, pitch, roll = _compose((70.0, 8.0, -12.0), (25.0, -40.0, 3.0))
    assert camera_to_world(*_compose((70.0, 0, 0), (25.0, -40.0, 3.0))) == pytest.approx(
        camera_to_world(95.0, -40.0, 3.0)
    )
    back = _compose((yaw, pitch, roll), (0.0, 0.0, 0.0))
    assert back == pytest.approx((yaw, pitch, roll))


@pytest.mark.parametrize("data", [b"", b"\x06\x0e", bytes(40), klv({13: b"\x01", 14: b""})[:20]])
def test_broken_telemetry_gives_no_rows(data):
    assert _klv_rows([_Packet(0.0, 1.0, data)]) == []
    assert _gpmf_rows([_Packet(0.0, 1.0, data)]) == []


def test_a_video_without_telemetry_has_none(tmp_path):
    assert read_embedded(tmp_path) is None
