"""What a storm does to a building: which parts are damaged, and how that looks in the texture of a
roof or wall.

A part is one damaged region of one surface. It is planned with the building (kind, place, size,
seed of its outline) and painted into the surface's texture together with its number, so that
picture and mask cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from synthetic_flights import textures as tx
from synthetic_flights.buildings import BuildingPlan, Face, block_faces
from synthetic_flights.noise import blob_field, value_noise

__all__ = ["DamagePart", "paint_part", "plan_parts"]

SLIGHT, SEVERE, DEBRIS = 1, 2, 3
SLIGHT_KINDS = {"shingles": 0.72, "tarp": 0.12, "hole": 0.07, "siding": 0.09}
SEVERE_KINDS = {"caved": 0.54, "torn": 0.36, "wall": 0.10}
FEWEST_TEXELS = 12


@dataclass
class DamagePart:
    """One damaged region.

    Attributes:
        id: number of the part, unique in the data set and the same in all frames.
        part_index: number of the part in its flight, from 1: its value in the id buffer.
        level: 1 Slight, 2 Severe, 3 Debris.
        kind: what happened: shingles, tarp, hole, siding; caved, torn, wall; rubble.
        surface: ``roof``, ``wall`` or ``ground``; ``block`` and ``face`` say which.
        centre, radii: in metres of the face's texture.
        outlines: world polygons [(N, 3)], set when the part has been painted.
    """

    id: int
    part_index: int
    level: int
    kind: str
    surface: str
    block: int
    face: str
    center: tuple[float, float]
    radii: tuple[float, float]
    outlines: list[np.ndarray] = field(default_factory=list)


def _choose(rng: np.random.Generator, table: dict[str, float]) -> str:
    return str(rng.choice(list(table), p=np.array(list(table.values())) / sum(table.values())))


def plan_parts(plan: BuildingPlan, wind: np.ndarray, rng: np.random.Generator) -> None:
    """Decide ``plan.parts`` from ``plan.level``, in place. ``wind`` (2,) is where the wind blew
    to, in the world.

    Parts of one surface do not overlap: a later part that would is left out.
    """
    if plan.level == DEBRIS:
        x0, y0, x1, y1 = _extent(plan)
        center, radii = ((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2)
        plan.parts = [DamagePart(0, 0, DEBRIS, "rubble", "ground", 0, "", center, radii)]
        return
    if not plan.level:
        return
    faces = [
        f
        for i, b in enumerate(plan.blocks)
        for f in block_faces(b, i)
        if f.kind in ("roof", "wall")
    ]
    c, s = np.cos(plan.angle), np.sin(plan.angle)
    weights = []
    for face in faces:
        area = abs(float(_polygon_area(face.polygon)))
        n = face.normal
        against = -(n[0] * c - n[1] * s) * wind[0] - (n[0] * s + n[1] * c) * wind[1]
        weights.append(area * (1.0 + 1.2 * max(against, 0)))
    weights = np.array(weights)
    roof = np.array([f.kind == "roof" for f in faces])
    wanted = []
    if plan.level == SEVERE:
        wanted += [(SEVERE, _choose(rng, SEVERE_KINDS)) for _ in range(1 + (rng.random() < 0.25))]
        wanted += [(SLIGHT, _choose(rng, SLIGHT_KINDS)) for _ in range(rng.integers(0, 3))]
    else:
        count = rng.choice([1, 2, 3, 4], p=[0.32, 0.36, 0.22, 0.10])
        wanted += [(SLIGHT, _choose(rng, SLIGHT_KINDS)) for _ in range(count)]
    for level, kind in wanted:
        on_roof = kind not in ("siding", "wall")
        w = weights * (roof == on_roof)
        if not on_roof:
            w = w * np.array([f.size[0] > 4 for f in faces])
        if w.sum() == 0:
            continue
        index = int(rng.choice(len(faces), p=w / w.sum()))
        part = _place(faces[index], level, kind, rng)
        if part is not None and not any(_overlap(part, other) for other in plan.parts):
            plan.parts.append(part)


def _extent(plan: BuildingPlan) -> tuple[float, float, float, float]:
    extents = np.array([b.extent for b in plan.blocks])
    return (*extents[:, :2].min(0), *extents[:, 2:].max(0))


def _polygon_area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float(0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def _overlap(a: DamagePart, b: DamagePart) -> bool:
    if (a.surface, a.block, a.face) != (b.surface, b.block, b.face):
        return False
    # 0.75: regions seldom fill their half axes to the corner.
    return all(
        abs(a.center[i] - b.center[i]) < 0.75 * (a.radii[i] + b.radii[i]) + 0.4 for i in (0, 1)
    )


def _place(face: Face, level: int, kind: str, rng: np.random.Generator) -> DamagePart | None:
    width, height = face.size
    whole = abs(_polygon_area(face.polygon))
    median, spread, least = {
        "shingles": (48.0, 0.7, 4.0),
        "tarp": (30.0, 0.45, 8.0),
        "hole": (4.0, 0.5, 1.5),
        "siding": (15.0, 0.5, 4.0),
        "caved": (95.0, 0.35, 30.0),
        "torn": (95.0, 0.4, 30.0),
        "wall": (32.0, 0.3, 16.0),
    }[kind]
    area = float(np.clip(median * np.exp(spread * rng.standard_normal()), least, 0.8 * whole))
    aspect = rng.uniform(0.9, 2.4)
    ry = min(np.sqrt(area / aspect) / 1.85, 0.56 * height)
    rx = min(area / ry / 3.4, 0.56 * width)
    place = rng.random()
    if kind == "torn":  # from an end of the roof, over the whole slope
        ry, rx = 0.62 * height, min(max(area / height / 1.6, 1.5), 0.5 * width)
        x, y = (
            (rng.uniform(0, 0.6) * rx if rng.random() < 0.5 else width - rng.uniform(0, 0.6) * rx),
            height / 2,
        )
    else:
        edge = 0.5 if kind in ("shingles", "siding") else 0.15
        x = (
            rng.uniform(0, width)
            if place < edge
            else rng.uniform(min(rx, width / 2), max(width - rx, width / 2))
        )
        y = (
            rng.uniform(0.0, 0.35) * height
            if rng.random() < 0.45
            else rng.uniform(0.15, 0.85) * height
        )
        if kind in ("caved", "hole", "tarp"):
            y = float(np.clip(y, min(0.7 * ry, height / 2), max(height - 0.7 * ry, height / 2)))
        if kind == "wall":
            y = height - 0.8 * ry
    inside = cv2.pointPolygonTest(face.polygon.astype(np.float32), (float(x), float(y)), True)
    if inside < -0.3 or min(rx, ry) < 0.3:
        return None
    return DamagePart(
        0,
        0,
        level,
        kind,
        face.kind,
        face.block,
        face.name,
        (float(x), float(y)),
        (float(rx), float(ry)),
    )


def paint_part(
    part: DamagePart,
    face: Face,
    texture: np.ndarray,
    texels_per_meter: float,
    rng: np.random.Generator,
) -> None:
    """Paint ``part``, in place, on ``texture`` (float32) and into ``part_ids`` and ``solid`` of
    ``face``; set its outlines.
    """
    shape = texture.shape[:2]
    scale = np.array(shape[::-1]) / face.size
    inside = np.zeros(shape, np.uint8)
    cv2.fillPoly(inside, [np.round(face.polygon * scale).astype(np.int32)], 255)
    center, radii = np.asarray(part.center) * scale, np.asarray(part.radii) * scale
    if part.kind == "tarp":
        mask = _tarp_mask(rng, shape, center, radii)
    else:
        rough = {
            "shingles": 0.42,
            "hole": 0.3,
            "siding": 0.3,
            "caved": 0.3,
            "torn": 0.22,
            "wall": 0.22,
        }[part.kind]
        step = {"shingles": max(int(0.3 * texels_per_meter), 2), "hole": 2}.get(
            part.kind, max(int(0.25 * texels_per_meter), 2)
        )
        mask = blob_field(rng, shape, tuple(center), tuple(radii), rough, step) > 0
    mask = mask.astype(np.uint8) * 255 & inside
    mask[face.part_ids > 0] = 0
    mask = _main_pieces(mask, 0.12)
    if cv2.countNonZero(mask) < FEWEST_TEXELS:
        return
    region = mask > 0
    _PAINTERS[part.kind](rng, texture, region, face, texels_per_meter)
    # The label covers the region with the scraps left in it.
    label = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) & inside
    face.part_ids[(label > 0) & (face.part_ids == 0)] = part.part_index
    label = np.where(face.part_ids == part.part_index, 255, 0).astype(np.uint8)
    contours, _ = cv2.findContours(label, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    part.outlines = [
        face.point((cv2.approxPolyDP(c, 1.5, True)[:, 0] + 0.5) / scale)
        for c in contours
        if cv2.contourArea(c) >= FEWEST_TEXELS
    ]


def _main_pieces(mask: np.ndarray, share: float) -> np.ndarray:
    """Drop pieces smaller than ``share`` of the largest, and fill holes as large as a nail's."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count <= 1:
        return mask
    keep = stats[:, cv2.CC_STAT_AREA] >= share * stats[1:, cv2.CC_STAT_AREA].max()
    keep[0] = False
    return (keep[labels] * 255).astype(np.uint8)


def _tarp_mask(rng, shape, center, radii) -> np.ndarray:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * radii * 0.92
    corners = corners * rng.uniform(0.88, 1.12, (4, 2))
    angle = rng.normal(0, 0.1)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(
        mask, [np.round((corners @ turn + center) * 16).astype(np.int32)], 1, cv2.LINE_8, 4
    )
    return mask > 0


def _rim(region: np.ndarray, width: int) -> np.ndarray:
    """Return the ring of ``width`` texels just outside a region."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return (cv2.dilate(region.astype(np.uint8), kernel) > 0) & ~region


def _bare_shingles(rng, texture, region, face, texels_per_meter):
    shape = texture.shape[:2]
    if rng.random() < 0.25:
        deck = tx.boards(rng, shape, texels_per_meter)
    else:
        deck = tx.plywood(
            rng, shape, texels_per_meter, age=float(np.clip(rng.normal(0.25, 0.3), 0, 1))
        )
    # Torn underlay and single shingles stay behind, in rows.
    row = max(int(0.3 * texels_per_meter), 2)
    low = (shape[0] // row + 1, shape[1] // row + 1)
    scraps = value_noise(rng, low, 3.0, 2)
    scraps = cv2.resize(scraps, (low[1] * row, low[0] * row), interpolation=cv2.INTER_NEAREST)[
        : shape[0], : shape[1]
    ]
    scraps = scraps + 0.3 * rng.standard_normal(shape, dtype=np.float32)
    cut = rng.uniform(0.9, 2.2)
    keep = region & (scraps > cut)
    felt = region & (scraps < -cut - 0.2)
    deck[felt] = deck[felt] * 0.15 + np.array([62, 64, 66], np.float32)
    shown = region & ~keep
    texture[_rim(region, 1)] *= 0.72
    texture[shown] = deck[shown]


def _blue_tarp(rng, texture, region, face, texels_per_meter):
    sheet = tx.tarp(rng, texture.shape[:2], texels_per_meter)
    texture[np.roll(_rim(region, 2), 2, 0)] *= 0.75
    texture[region] = sheet[region]
    texture[_rim(~region, 1) & region] *= 0.85


def _small_hole(rng, texture, region, face, texels_per_meter):
    texture[_rim(region, max(int(0.15 * texels_per_meter), 2))] = tx.plywood(
        rng, texture.shape[:2], texels_per_meter, 0.3
    )[_rim(region, max(int(0.15 * texels_per_meter), 2))]
    dark = (
        np.array([30, 33, 38], np.float32)
        + 9 * value_noise(rng, texture.shape[:2], 0.4 * texels_per_meter, 2)[..., None]
    )
    texture[region] = dark[region]
    _rafters(rng, texture, region, face, texels_per_meter, broken=0.5)


def _bare_wall(rng, texture, region, face, texels_per_meter):
    shape = texture.shape[:2]
    kind = rng.random()
    if kind < 0.5:
        under = tx.plywood(rng, shape, texels_per_meter, rng.uniform(0.1, 0.8))
    elif kind < 0.8:  # insulation between studs
        under = np.broadcast_to(np.array([150, 140, 205], np.float32), (*shape, 3)).copy()
        under += (14 * value_noise(rng, shape, 0.5 * texels_per_meter, 2))[..., None]
        under[:, :: max(int(0.6 * texels_per_meter), 4)] = (110, 150, 185)
        under[:, 1 :: max(int(0.6 * texels_per_meter), 4)] = (90, 130, 165)
    else:  # torn house wrap
        under = tx.stucco(rng, shape, (222, 224, 222), texels_per_meter)
        torn = value_noise(rng, shape, 0.8 * texels_per_meter, 2) > 0.4
        under[torn] = tx.plywood(rng, shape, texels_per_meter, 0.4)[torn]
    texture[_rim(region, 1)] *= 0.7
    texture[region] = under[region]


def _rafters(rng, texture, region, face, texels_per_meter, broken=0.35, pitch=0.6):
    """Draw rafters down the slope across a hole; they stay solid."""
    height, width = texture.shape[:2]
    wood = np.array([105.0, 150, 192]) * rng.uniform(0.8, 1.05)
    mask = np.zeros((height, width), np.uint8)
    step = max(pitch * texels_per_meter, 5)
    phase = rng.uniform(0, step)
    for x in np.arange(phase, width, step):
        if rng.random() < 0.12:
            continue
        y0, y1 = 0.0, float(height)
        if rng.random() < broken:
            cut = rng.uniform(0.2, 0.9) * height
            y0, y1 = (0.0, cut) if rng.random() < 0.5 else (cut, float(height))
        lean = rng.normal(0, 0.02) * height * (3 if rng.random() < broken / 2 else 1)
        cv2.line(
            mask,
            (int(x), int(y0)),
            (int(x + lean), int(y1)),
            255,
            max(round(0.1 * texels_per_meter), 1),
        )
    if rng.random() < 0.5:  # battens across
        for y in np.arange(
            rng.uniform(0, 2) * texels_per_meter, height, rng.uniform(1.0, 2.2) * texels_per_meter
        ):
            cv2.line(mask, (0, int(y)), (width, int(y)), 255, 1)
    drawn = (mask > 0) & region
    tone = wood + 12 * value_noise(rng, (height, width), 0.8 * texels_per_meter)[..., None]
    texture[drawn] = tone[drawn]
    if face.solid is not None:
        face.solid[drawn] = 255


def _open_surface(
    rng, texture, region, face, texels_per_meter, *, deck_share: float, broken: float, pitch: float
):
    shape = texture.shape[:2]
    # A torn margin of decking around the hole belongs to the part.
    margin = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, 3) / texels_per_meter
    ragged = margin < deck_share * (0.8 + 0.7 * value_noise(rng, shape, 0.8 * texels_per_meter, 2))
    islands = value_noise(rng, shape, 1.1 * texels_per_meter, 2) > rng.uniform(1.0, 1.7)
    deck = tx.plywood(rng, shape, texels_per_meter, rng.uniform(0.0, 0.5))
    hole = region & ~(ragged | islands)
    texture[_rim(region, 1)] *= 0.7
    texture[region] = deck[region]
    rim = _rim(hole, 1) & region
    texture[rim] = texture[rim] * 0.6
    face.solid[hole] = 0
    _rafters(rng, texture, hole, face, texels_per_meter, broken, pitch)
    # Boards and sheets that hang in the hole.
    loose = np.full((*shape, 3), -1, np.float32)
    count = int(0.45 * hole.sum() / texels_per_meter**2) + 2
    ys, xs = np.nonzero(hole)
    if len(xs):
        x0, y0, x1, y1 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        window = loose[y0:y1, x0:x1]
        tx.scatter_planks(
            rng,
            window,
            count,
            (0.5 * texels_per_meter, 2.4 * texels_per_meter),
            max(0.1 * texels_per_meter, 1.6),
            shadow=0,
        )
        drawn = (loose[..., 0] >= 0) & hole
        texture[drawn] = loose[drawn]
        face.solid[drawn] = 255


def _caved(rng, texture, region, face, texels_per_meter):
    _open_surface(
        rng,
        texture,
        region,
        face,
        texels_per_meter,
        deck_share=rng.uniform(0.2, 0.6),
        broken=0.55,
        pitch=0.6,
    )


def _torn(rng, texture, region, face, texels_per_meter):
    _open_surface(
        rng,
        texture,
        region,
        face,
        texels_per_meter,
        deck_share=rng.uniform(0.05, 0.35),
        broken=0.15,
        pitch=0.6,
    )


def _open_wall(rng, texture, region, face, texels_per_meter):
    _open_surface(
        rng, texture, region, face, texels_per_meter, deck_share=0.1, broken=0.4, pitch=0.45
    )


_PAINTERS = {
    "shingles": _bare_shingles,
    "tarp": _blue_tarp,
    "hole": _small_hole,
    "siding": _bare_wall,
    "caved": _caved,
    "torn": _torn,
    "wall": _open_wall,
}
