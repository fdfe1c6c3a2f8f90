"""From a building's plan to painted, lit faces and meshes in the world."""

from __future__ import annotations

import cv2
import numpy as np

from synthetic_flights import textures as tx
from synthetic_flights.buildings import (
    BuildingPlan,
    Face,
    block_faces,
    inside_faces,
    to_world_faces,
)
from synthetic_flights.config import Appearance, SceneConfig, scene_rng
from synthetic_flights.damage import paint_part
from synthetic_flights.meshes import Mesh
from synthetic_flights.noise import value_noise
from synthetic_flights.rubble import rubble_building

__all__ = ["build", "finish_face", "lighting"]

ROOFS = {
    "shingles": tx.shingles,
    "metal": tx.metal_roof,
    "tiles": tx.shingles,
    "membrane": tx.flat_roof,
}
WALLS = {"brick": tx.brick, "siding": tx.siding, "stucco": tx.stucco}
STREAM = 7  # of scene_rng


def lighting(normal: np.ndarray, appearance: Appearance) -> np.ndarray:
    """Return the light (3,) on a surface, about 1 on level ground."""
    direct = max(float(normal @ appearance.sun), 0.0) / appearance.sun[2]
    sky = 0.72 + 0.28 * float(normal[2])
    return (
        np.minimum(appearance.ambient * sky + (1 - appearance.ambient) * direct, 1.3)
        * appearance.light
    )


def build(
    plan: BuildingPlan, appearance: Appearance, config: SceneConfig
) -> tuple[list[Face], list[Mesh]]:
    """Return the painted faces and meshes of a building, and set the outlines of its parts.

    The result depends on the plan and the scene alone, not on when it is asked for.
    """
    rng = scene_rng(config, STREAM, plan.id)
    if plan.level == 3:
        return rubble_building(plan, appearance, config.texels_per_meter, rng)
    faces = [face for index, block in enumerate(plan.blocks) for face in block_faces(block, index)]
    if any(p.level == 2 for p in plan.parts):
        faces = [f for i, b in enumerate(plan.blocks) for f in inside_faces(b, i)] + faces
    boarded = rng.choice([0.0, 0.3, 0.8], p=[0.75, 0.15, 0.1]) if plan.level else 0.05
    to_world_faces(faces, plan)
    for face in faces:
        parts = [
            p
            for p in plan.parts
            if (p.surface, p.block, p.face) == (face.kind, face.block, face.name)
        ]
        _paint(face, plan, appearance, config.texels_per_meter, rng, parts, boarded)
    return faces, []


def _paint(
    face: Face,
    plan: BuildingPlan,
    appearance: Appearance,
    texels_per_meter: float,
    rng,
    parts,
    boarded: float,
) -> None:
    light = lighting(face.normal, appearance)
    if face.kind == "trim":
        face.textures = [np.clip(plan.trim * light, 0, 255).astype(np.uint8).reshape(1, 1, 3)]
        return
    shape = tuple(np.maximum(np.ceil(face.size[::-1] * texels_per_meter).astype(int), 2).tolist())
    block = plan.blocks[face.block]
    if face.kind == "inside":
        texture = tx.interior(rng, shape, texels_per_meter, light=0.9 if face.name == "" else 0.6)
    elif face.kind == "roof":
        kind = "membrane" if block.roof == "flat" and plan.roof_kind != "metal" else plan.roof_kind
        texture = ROOFS[kind](rng, shape, plan.roof_color, texels_per_meter)
        _roof_furniture(rng, texture, face, plan, texels_per_meter)
    else:
        texture = WALLS[plan.wall_kind](rng, shape, plan.wall_color, texels_per_meter)
        tx.add_openings(
            rng,
            texture,
            texels_per_meter,
            top=face.top * texels_per_meter,
            stories=block.stories,
            boarded=boarded,
            garage=plan.kind == "garage" or (face.name == "front" and rng.random() < 0.25),
        )
    if parts:
        face.part_ids = np.zeros(shape, np.uint16)
        face.solid = np.full(shape, 255, np.uint8)
        for part in parts:
            paint_part(part, face, texture, texels_per_meter, rng)
        if cv2.countNonZero(255 - face.solid) == 0:
            face.solid = None
    finish_face(face, texture * light.astype(np.float32))


def _roof_furniture(rng, texture, face: Face, plan: BuildingPlan, texels_per_meter: float) -> None:
    """Paint what belongs on a sound roof: ridge cap, vents, roof lights, solar panels, stains."""
    height, width = texture.shape[:2]
    if plan.roof_kind in ("shingles", "tiles") and height > 8:
        texture[: max(int(0.15 * texels_per_meter), 1)] *= 1.12
    if plan.kind != "house" or min(height, width) < 3 * texels_per_meter:
        return
    level = face.name == "flat"
    for _ in range(rng.integers(0, 4)):
        x, y, r = (
            rng.uniform(0.2, 0.8) * width,
            rng.uniform(0.1, 0.6) * height,
            max(0.14 * texels_per_meter, 1.5),
        )
        cv2.circle(texture, (int(x + r), int(y + 1.6 * r)), int(r), (50, 50, 52), -1)
        cv2.circle(
            texture,
            (int(x), int(y)),
            int(r),
            (40, 40, 44) if rng.random() < 0.5 else (165, 170, 172),
            -1,
        )
    if rng.random() < 0.06:
        for _ in range(rng.integers(1, 4)):
            x, y = rng.uniform(0.25, 0.75) * width, rng.uniform(0.3, 0.6) * height
            w, h = 0.7 * texels_per_meter, 1.1 * texels_per_meter
            cv2.rectangle(texture, (int(x), int(y)), (int(x + w), int(y + h)), (225, 226, 228), -1)
            cv2.rectangle(
                texture,
                (int(x + 2), int(y + 2)),
                (int(x + w - 2), int(y + h - 2)),
                (150, 118, 96),
                -1,
            )
    if rng.random() < 0.03 and not level:
        columns, rows = rng.integers(2, 6), rng.integers(1, 3)
        w, h = 1.0 * texels_per_meter, 1.65 * texels_per_meter
        x0, y0 = rng.uniform(0.2, 0.35) * width, rng.uniform(0.12, 0.3) * height
        for i in range(columns):
            for j in range(rows):
                p = (int(x0 + i * w), int(y0 + j * h))
                q = (int(p[0] + w - 2), int(p[1] + h - 2))
                if q[0] < 0.9 * width and q[1] < 0.95 * height:
                    cv2.rectangle(texture, p, q, (84, 50, 34), -1)
                    cv2.rectangle(texture, p, q, (150, 138, 130), 1)
    if rng.random() < 0.3:  # moss, rust or wet patches: no damage
        field = value_noise(rng, (height, width), 2.2 * texels_per_meter, 3)
        tint = np.array(
            rng.choice([[0.8, 0.95, 0.9], [0.75, 0.8, 0.86], [1.1, 1.1, 1.12]]), np.float32
        )
        share = np.clip((field - 0.4) * 0.6, 0, 0.6)[..., None].astype(np.float32)
        texture *= 1 - share + share * tint


def finish_face(face: Face, texture: np.ndarray) -> None:
    """Store a lit texture (float32) in ``face`` as uint8, with its reductions."""
    level = np.clip(texture, 0, 255).astype(np.uint8)
    face.textures = [level]
    while min(level.shape[:2]) >= 16 and len(face.textures) < 4:
        level = cv2.resize(
            level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA
        )
        face.textures.append(level)
