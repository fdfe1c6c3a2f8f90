"""A flight over a damaged neighbourhood, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from synthetic_flights.buildings import BuildingPlan
from synthetic_flights.camera import FlightPath, Intrinsics, Pose, ground_footprint
from synthetic_flights.config import Appearance, SceneConfig, scene_rng
from synthetic_flights.flood import Flood, mirrored
from synthetic_flights.ground import Ground
from synthetic_flights.layout import build_world
from synthetic_flights.painting import build
from synthetic_flights.post import SensorModel
from synthetic_flights.raster import Raster
from synthetic_flights.surfaces import PixelTruth, nearest
from synthetic_flights.vegetation import sprite_library

__all__ = ["Flight", "Frame", "render_flight"]

KEEP = 40  # frames that a building out of view keeps its textures


@dataclass
class Frame:
    """One frame of a flight.

    Attributes:
        index: number of the frame, from 0.
        pose: the camera's.
        image: (H, W, 3) uint8, BGR; None if it was not asked for.
        part_ids: (H, W) uint16: 0, or ``part_index`` of the damaged part seen there; None if it was
            not asked for.
        building_ids: (H, W) uint16: 0, or 1 + the index of the building seen there (trees left
            out); None likewise.
        truth: materials, depth and trees; None likewise.
        clean: like ``image``, grain and all, without the trees; their shadows and what water
            mirrors of them stay. None likewise.
    """

    index: int
    pose: Pose
    image: np.ndarray | None
    part_ids: np.ndarray | None = None
    building_ids: np.ndarray | None = None
    truth: PixelTruth | None = None
    clean: np.ndarray | None = None

    def building_mask(self, number: int) -> np.ndarray:
        """Where building 1 + ``number`` is seen, not hidden by a tree: (H, W) bool."""
        return (self.building_ids == number + 1) & (self.truth.tree_ids == 0)


class Flight:
    """One scene and the flight over it.

    ``flight.frame(i)`` renders a frame; frames may be asked for in any order and come out the same.
    """

    def __init__(self, config: SceneConfig):
        self.config = config
        rng = scene_rng(config, 1)
        self.appearance = Appearance.draw(rng)
        self.intrinsics = Intrinsics.of(config, self.appearance)
        self.path = FlightPath(self.appearance, config.seconds, rng)
        self.world = build_world(
            config, self.appearance, self.path, self.intrinsics, scene_rng(config, 2)
        )
        self.parts = {p.part_index: (b, p) for b in self.world.buildings for p in b.parts}
        self.by_id = {b.id: b for b in self.world.buildings}
        self._built: dict[int, list] = {}
        trees, meshes = self.world.trees, self.world.meshes
        self._feet = np.array([(t.x, t.y, 0.0) for t in trees]).reshape(-1, 3)
        high = np.array([t.height for t in trees])
        middles = [(*b.center, b.height / 2) for b in self.buildings]
        # Balls around everything: centres and radii.
        self._balls = {
            "buildings": (
                np.array(middles).reshape(-1, 3),
                np.array([b.radius + b.height / 2 for b in self.buildings]),
            ),
            "meshes": (
                np.array([m.center for m in meshes]).reshape(-1, 3),
                np.array([m.radius for m in meshes]),
            ),
            "trees": (self._feet + np.outer(high / 2, (0, 0, 1)), 0.75 * high),
        }

    # Made when first needed: plans and ground truth alone do not take them.
    @cached_property
    def ground(self) -> Ground:
        """The ground."""
        return Ground(self.world.ground, self.appearance, scene_rng(self.config, 3))

    @cached_property
    def sprites(self) -> dict:
        """The trees' pictures by kind."""
        return sprite_library(scene_rng(self.config, 4), 1 - self.appearance.ambient)

    @cached_property
    def sensor(self) -> SensorModel:
        """What the camera makes of a rendering."""
        return SensorModel(self.appearance, self.intrinsics, scene_rng(self.config, 5))

    @cached_property
    def flood(self) -> Flood | None:
        """The water on the ground; None where it is dry."""
        if not self.config.flood:
            return None
        times = np.arange(0, self.config.seconds + 0.5, 0.5)
        views = [ground_footprint(self.path.pose(float(t)), self.intrinsics) for t in times]
        rng = scene_rng(self.config, 6)
        return Flood(self.config.flood, self.appearance, self.world.ground, views, rng)

    @property
    def buildings(self) -> list[BuildingPlan]:
        """All buildings of the scene."""
        return self.world.buildings

    def pose(self, index: int) -> Pose:
        """Return the pose of a frame."""
        return self.path.pose(index / self.config.fps)

    def build(self, number: int):
        """Return faces and meshes of building ``number`` of :attr:`buildings`."""
        return self._build(number, 0)[:2]

    def _build(self, number: int, now: int):
        entry = self._built.get(number)
        if entry is None:
            faces, meshes = build(self.buildings[number], self.appearance, self.config)
            centers = np.stack([f.corners.mean(0) for f in faces])
            radii = np.array(
                [np.linalg.norm(f.corners - c, axis=1).max() for f, c in zip(faces, centers)]
            )
            balls = (centers, radii, np.stack([f.normal for f in faces]))
            entry = self._built[number] = [faces, meshes, now, balls]
        entry[2] = now
        return entry

    def frame(
        self,
        index: int,
        with_ids: bool = True,
        *,
        with_truth: bool = False,
        with_clean: bool = False,
        with_image: bool = True,
    ) -> Frame:
        """Render a frame.

        Args:
            index: its number, from 0.
            with_ids: also give the id buffers.
            with_truth: also give materials, depth and trees, and the id buffers.
            with_clean: also give the picture as it would be if no tree stood there.
            with_image: False: everything but the picture, in half the time.
        """
        pose = self.pose(index)
        raster = Raster(
            self.intrinsics,
            pose,
            self.config.supersample,
            with_ids or with_truth,
            with_color=with_image,
            # A flood needs the depth of what it covers.
            with_surfaces=with_truth or bool(self.config.flood),
        )
        bare = self._draw(raster, index, with_clean)
        size = (self.config.width, self.config.height)
        image = self._expose(raster.color, index) if with_image else None
        frame = Frame(index, pose, image)
        if bare is not None:
            frame.clean = self._expose(bare, index)
        if with_ids or with_truth:
            frame.part_ids = nearest(raster.part_ids, size)
            frame.building_ids = nearest(raster.building_ids, size)
        if with_truth:
            frame.truth = raster.surfaces.reduced(size)
        return frame

    def _draw(self, raster: Raster, index: int, with_clean: bool) -> np.ndarray | None:
        """Draw frame ``index``; return its colours without trees if they are wanted."""
        footprint = ground_footprint(self.pose(index), self.intrinsics, 4)
        raster.draw_ground(self.ground, footprint)
        self._draw_buildings(raster, index)
        self._draw_meshes(raster)
        if self.flood is not None:
            reflection = self._reflection(raster, index)
            self.flood.draw(raster, self.ground.features_in(footprint), reflection)
        bare = raster.color.copy() if with_clean else None
        self._draw_trees(raster)
        for wire in self.world.wires:
            raster.draw_wire(wire)
            if bare is not None:
                raster.draw_wire(wire, bare)
        return bare

    def _reflection(self, raster: Raster, index: int) -> np.ndarray | None:
        """What the water mirrors, (H, W, 3) uint8: the scene seen from below its surface."""
        if raster.color is None:
            return None
        pose = mirrored(self.pose(index), self.flood.surface_z)
        mirror = Raster(self.intrinsics, pose, self.config.supersample / 2, with_ids=False)
        self.flood.draw_sky(mirror.color)
        self._draw_buildings(mirror, index)
        self._draw_meshes(mirror)
        self._draw_trees(mirror)
        return cv2.resize(mirror.color[::-1], (raster.width, raster.height))

    def _expose(self, image: np.ndarray, index: int) -> np.ndarray:
        """The picture that the camera takes of a raster's colours."""
        pose, size = self.pose(index), (self.config.width, self.config.height)
        if image.shape[1::-1] != size:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        before, after = (np.asarray(self.path.pose(pose.time + d).position) for d in (-0.05, 0.05))
        return self.sensor.expose(image, pose, (after - before) / 0.1, index)

    def visible_buildings(self, raster: Raster) -> list[int]:
        """Numbers of the buildings that may be in view, the farthest first."""
        centers, radii = self._balls["buildings"]
        distance = np.linalg.norm(centers - raster.position, axis=1)
        seen = np.nonzero(raster.in_view(centers, radii))[0]
        return seen[np.argsort(-distance[seen], kind="stable")].tolist()

    def draw_building(self, raster: Raster, number: int, index: int) -> None:
        """Draw one building as frame ``index`` shows it."""
        faces, meshes, _, balls = self._build(number, index)
        for i in raster.facing(*balls):
            raster.draw_face(faces[i], number + 1)
        for mesh in meshes:
            raster.draw_mesh(mesh, number + 1)

    def _draw_buildings(self, raster: Raster, index: int) -> None:
        # Far ones first: rubble is drawn without a test within itself.
        for number in self.visible_buildings(raster):
            self.draw_building(raster, number, index)
        for number in [n for n, entry in self._built.items() if abs(entry[2] - index) > KEEP]:
            del self._built[number]

    def _draw_meshes(self, raster: Raster) -> None:
        for i in np.nonzero(raster.in_view(*self._balls["meshes"]))[0]:
            raster.draw_mesh(self.world.meshes[i])

    def _draw_trees(self, raster: Raster) -> None:
        seen = np.nonzero(raster.in_view(*self._balls["trees"]))[0]
        depth = (self._feet[seen] - raster.position) @ raster.rotation[2]
        for i in seen[np.argsort(-depth, kind="stable")]:
            tree = self.world.trees[i]
            sprite = self.sprites[tree.kind][tree.sprite]
            water = 0.0 if self.flood is None else float(self.flood.depth(self._feet[i, :2]))
            raster.draw_sprite(sprite, tree, int(i) + 1, max(water, 0.0))


def render_flight(config: SceneConfig, every: int = 1) -> Iterator[Frame]:
    """Render the frames of a flight in order; one in ``every`` has its id buffers."""
    flight = Flight(config)
    for index in range(config.num_frames):
        yield flight.frame(index, with_ids=index % every == 0)
