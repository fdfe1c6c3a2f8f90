"""A flight over a damaged neighbourhood, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from .buildings import BuildingPlan
from .camera import FlightPath, Intrinsics, Pose, ground_footprint
from .config import SceneConfig, Style, scene_rng
from .ground import Ground
from .layout import build_world
from .painting import build
from .post import Film
from .raster import Raster
from .vegetation import sprite_library

__all__ = ["Flight", "Frame", "render_flight"]

KEEP = 40  # frames that a building out of view keeps its textures


@dataclass
class Frame:
    """One frame of a flight.

    Attributes:
        index: number of the frame, from 0.
        pose: the camera's.
        image: (H, W, 3) uint8, BGR.
        ids: (H, W) uint16: 0, or the code of the damaged part seen there; None if it was not asked
        for. owners: (H, W) uint16: 0, or 1 + the index of the building seen there (trees left out);
        None likewise.
    """

    index: int
    pose: Pose
    image: np.ndarray
    ids: np.ndarray | None = None
    owners: np.ndarray | None = None


class Flight:
    """One scene and the flight over it.

    ``flight.frame(i)`` renders a frame; frames may be asked for in any order and come out the same.
    """

    def __init__(self, config: SceneConfig):
        self.config = config
        rng = scene_rng(config, 1)
        self.style = Style.draw(rng)
        self.intrinsics = Intrinsics.of(config, self.style)
        self.path = FlightPath(self.style, config.seconds, rng)
        self.world = build_world(
            config, self.style, self.path, self.intrinsics, scene_rng(config, 2)
        )
        self.parts = {p.code: (b, p) for b in self.world.buildings for p in b.parts}
        self.by_id = {b.id: b for b in self.world.buildings}
        self._built: dict[int, list] = {}
        self._tree_feet = np.array([(t.x, t.y, 0.0) for t in self.world.trees]).reshape(-1, 3)

    # Made when first needed: plans and ground truth alone do not take them.
    @cached_property
    def ground(self) -> Ground:
        """The ground."""
        return Ground(self.world.ground, self.style, scene_rng(self.config, 3))

    @cached_property
    def sprites(self) -> dict:
        """The trees' pictures by kind."""
        return sprite_library(scene_rng(self.config, 4), 1 - self.style.ambient)

    @cached_property
    def film(self) -> Film:
        """What the camera makes of a rendering."""
        return Film(self.style, self.intrinsics, scene_rng(self.config, 5))

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
            faces, meshes = build(self.buildings[number], self.style, self.config)
            centres = np.stack([f.corners.mean(0) for f in faces])
            radii = np.array(
                [np.linalg.norm(f.corners - c, axis=1).max() for f, c in zip(faces, centres)]
            )
            balls = (centres, radii, np.stack([f.normal for f in faces]))
            entry = self._built[number] = [faces, meshes, now, balls]
        entry[2] = now
        return entry

    def frame(self, index: int, with_ids: bool = True) -> Frame:
        """Render frame ``index``; ``with_ids`` False leaves out the id buffers."""
        pose = self.pose(index)
        raster = Raster(self.intrinsics, pose, self.config.supersample, with_ids)
        raster.draw_ground(self.ground, ground_footprint(pose, self.intrinsics, 4))
        self._draw_buildings(raster, index)
        for mesh in self.world.meshes:
            if raster.sees(mesh.centre, mesh.radius):
                raster.draw_mesh(mesh)
        self._draw_trees(raster)
        for wire in self.world.wires:
            raster.draw_wire(wire)
        size = (self.config.width, self.config.height)
        image = raster.colour
        if image.shape[1::-1] != size:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        before, after = (np.asarray(self.path.pose(pose.time + d).position) for d in (-0.05, 0.05))
        image = self.film.expose(image, pose, (after - before) / 0.1, index)
        ids = owners = None
        if with_ids:
            ids, owners = (
                b
                if b.shape[::-1] == size
                else cv2.resize(b, size, interpolation=cv2.INTER_NEAREST_EXACT)
                for b in (raster.ids, raster.owners)
            )
        return Frame(index, pose, image, ids, owners)

    def _draw_buildings(self, raster: Raster, index: int) -> None:
        seen = []
        for number, plan in enumerate(self.buildings):
            centre = np.array([*plan.centre, plan.height / 2])
            if raster.sees(centre, plan.radius + plan.height / 2):
                seen.append((float(np.linalg.norm(centre - raster.position)), number))
        for _, number in sorted(
            seen, reverse=True
        ):  # far ones first: rubble is drawn without a test within itself
            faces, meshes, _, balls = self._build(number, index)
            for i in raster.facing(*balls):
                raster.draw_face(faces[i], number + 1)
            for mesh in meshes:
                raster.draw_mesh(mesh, number + 1)
        for number in [n for n, entry in self._built.items() if abs(entry[2] - index) > KEEP]:
            del self._built[number]

    def _draw_trees(self, raster: Raster) -> None:
        if not len(self._tree_feet):
            return
        depth = (self._tree_feet - raster.position) @ raster.rotation[2]
        for i in np.argsort(-depth, kind="stable"):
            tree = self.world.trees[i]
            foot = self._tree_feet[i]
            if raster.sees(foot + np.array([0, 0, tree.height / 2]), tree.height * 0.75):
                sprite = self.sprites[tree.kind][tree.sprite]
                raster.draw_sprite(sprite, foot, tree.height, tree.flip, tree.lean, tree.tone)


def render_flight(config: SceneConfig, every: int = 1) -> Iterator[Frame]:
    """Render the frames of a flight in order; one in ``every`` has its id buffers."""
    flight = Flight(config)
    for index in range(config.num_frames):
        yield flight.frame(index, with_ids=index % every == 0)
