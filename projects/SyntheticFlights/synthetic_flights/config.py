"""What can be set about a rendered flight, and the look that a scene draws by lot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msnet_d2.errors import InputError

__all__ = ["GENERATOR_VERSION", "Appearance", "SceneConfig", "scene_rng"]

# Raised whenever the same seed gives other pixels or labels than before, so that figures can name
# their data.
GENERATOR_VERSION = 1

LEVEL_NAMES = ("undamaged", "Slight", "Severe", "Debris")


@dataclass(frozen=True)
class SceneConfig:
    """One flight: its size, its length and its seed. Equal configurations give equal bytes.

    Attributes:
        width, height: size of the frames in pixels.
        fps: frames per second.
        seconds: length of the flight.
        seed: seed of the whole data set.
        video: number of the flight in the data set, from 1; ``(seed, video)`` decides the scene.
        supersample: frames are rasterised so many times larger and reduced by area averaging.
        texels_per_meter: resolution of the textures of roofs and walls, texels per metre.
        trees: so many times as many trees stand there, from 1. The additional ones move nothing
            else: houses, damage and camera are those of the flight without them.
        flood: share of the ground in view that is under water, from 0 to 0.9.
    """

    width: int = 960
    height: int = 540
    fps: float = 25.0
    seconds: float = 8.0
    seed: int = 0
    video: int = 1
    supersample: float = 4 / 3
    texels_per_meter: int = 20
    trees: float = 1.0
    flood: float = 0.0

    def __post_init__(self):
        if not (32 <= self.width <= 4096 and 32 <= self.height <= 4096):
            raise InputError(
                f"a frame of {self.width}x{self.height} cannot be rendered: both sides must lie in "
                "32..4096"
            )
        if not (0 < self.fps <= 240):
            raise InputError(f"{self.fps} frames per second: expected more than 0, at most 240")
        if not (0 < self.seconds <= 600):
            raise InputError(f"a flight of {self.seconds} s: expected more than 0, at most 600 s")
        if self.seed < 0 or self.video < 1:
            raise InputError(
                f"seed {self.seed}, video {self.video}: expected a seed of at least 0 and a video "
                "from 1"
            )

        if not 1 <= self.trees <= 20:
            raise InputError(f"{self.trees} times the trees: expected a factor from 1 to 20")
        if not 0 <= self.flood <= 0.9:
            raise InputError(f"a flood over {self.flood} of the ground: expected a share in 0..0.9")

    @property
    def num_frames(self) -> int:
        """Frames of the flight, at least one."""
        return max(1, round(self.seconds * self.fps))


def scene_rng(config: SceneConfig, *stream: int) -> np.random.Generator:
    """Return the generator of a scene, or of one ``stream`` of it (a building, say).

    A stream does not depend on how much was drawn from others, so that what is built late, when it
    first comes into view, is the same whichever frames are asked for.
    """
    return np.random.default_rng(np.random.SeedSequence((config.seed, config.video, *stream)))


@dataclass
class Appearance:
    """What one flight has in common: light, season, neighbourhood, camera, sensor. Colours are BGR,
    0..255.
    """

    sun: np.ndarray  # unit vector towards the sun
    ambient: float  # share of the light that comes from the whole sky; near 1: overcast
    shadow: float  # darkness of shadows on the ground, 0..1
    shadow_blur: float  # metres
    light: np.ndarray  # colour of the light, about 1
    lawn: np.ndarray  # (2, 3) two colours that the lawn varies between
    dry: float  # share of brown lawn
    road: np.ndarray
    lot: tuple[float, float]  # width and depth of a lot, metres
    trees: float  # per 1,000 square metres
    bare: float  # share of trees without leaves
    storm: float  # amount of litter on the ground, about 1
    damaged: float  # share of buildings with damage
    heading: float  # degrees clockwise from north
    gaze: float  # yaw of the camera against the heading, degrees
    pitch: float  # degrees, below 0 looks down
    altitude: float  # metres above ground
    hfov: float  # degrees
    street_angle: float  # radians, direction of the streets
    haze: float  # share of haze at 100 m
    exposure: float
    contrast: float
    saturation: float
    noise: float  # standard deviation, grey levels
    shutter: float  # seconds
    sharpen: float  # the camera's own sharpening, 0..1
    quality: int  # JPEG quality of the pictures
    latitude: float
    longitude: float
    ground_altitude: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Appearance:
        """Draw the look of a scene."""
        overcast = rng.random() < 0.6
        azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(32, 62))
        sun = np.array(
            [
                np.cos(elevation) * np.sin(azimuth),
                np.cos(elevation) * np.cos(azimuth),
                np.sin(elevation),
            ]
        )
        green = np.array([76.0, 144, 112]) * rng.uniform(0.82, 1.12) * rng.uniform(0.93, 1.07, 3)
        straw = np.array([104.0, 160, 150]) * rng.uniform(0.85, 1.1)
        warm = rng.uniform(-0.05, 0.06)
        gray = rng.uniform(105, 185)
        altitude = rng.uniform(42, 86)
        # Pilots zoom or fly so that a house is a good part of the picture: the width of ground
        # across the middle of the frame is drawn first, the field of view follows from it and the
        # height.
        pitch = -rng.uniform(39, 51)
        across = rng.uniform(42, 70)
        hfov = np.degrees(2 * np.arctan(across / 2 / (altitude / np.sin(-np.radians(pitch)))))
        rural = rng.random() < 0.25
        return cls(
            sun=sun,
            ambient=rng.uniform(0.82, 0.93) if overcast else rng.uniform(0.5, 0.68),
            shadow=rng.uniform(0.14, 0.26) if overcast else rng.uniform(0.42, 0.6),
            shadow_blur=rng.uniform(0.9, 1.6) if overcast else rng.uniform(0.15, 0.4),
            light=np.array([1 - warm, 1.0, 1 + warm]),
            lawn=np.stack([green, green * 0.6 + straw * 0.4 + rng.uniform(-6, 10)]),
            dry=rng.choice([0.08, 0.2, 0.45]) * rng.uniform(0.6, 1.2),
            road=np.array([gray, gray, gray]) * rng.uniform(0.97, 1.03, 3),
            lot=(rng.uniform(26, 34), rng.uniform(36, 44))
            if rural
            else (rng.uniform(18, 23), rng.uniform(28, 35)),
            trees=rng.uniform(3.5, 10.0),
            bare=float(rng.choice([0.25, 0.6, 0.85])),
            storm=rng.uniform(0.5, 1.6),
            damaged=rng.uniform(0.38, 0.54),
            heading=rng.uniform(0, 360),
            gaze=rng.uniform(-18, 18),
            pitch=pitch,
            altitude=altitude,
            hfov=float(np.clip(hfov, 30, 75)),
            street_angle=rng.uniform(0, np.pi),
            haze=rng.uniform(0.02, 0.16),
            exposure=rng.uniform(0.94, 1.2),
            contrast=rng.uniform(0.88, 1.05),
            saturation=rng.uniform(0.78, 1.08),
            noise=rng.uniform(0.8, 3.0),
            shutter=1 / rng.uniform(110, 600),
            sharpen=rng.uniform(0.0, 0.6),
            quality=int(rng.integers(62, 92)),
            latitude=rng.uniform(29.6, 33.5),
            longitude=rng.uniform(-95.5, -84.5),
            ground_altitude=rng.uniform(2, 60),
        )
