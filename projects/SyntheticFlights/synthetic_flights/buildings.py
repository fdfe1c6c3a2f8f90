"""Buildings: plans made of rectangular blocks, and the planar faces (walls, roofs, trim) they turn
into.

A plan is decided when the neighbourhood is laid out; its faces are painted when it first comes
into view.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Block", "BuildingPlan", "Face", "block_faces", "outline_of_blocks", "to_world"]


@dataclass
class Block:
    """A box with a roof, in the building's own frame (x along the street, y away from it), metres.

    ``along`` is the direction of the ridge: 0 along x, 1 along y. ``half`` are the half sides
    along and across it.
    """

    x: float
    y: float
    along: int
    half: tuple[float, float]
    height: float
    roof: str  # gable, hip or flat
    slope: float  # rise over run
    overhang: float = 0.45
    stories: int = 1

    @property
    def rise(self) -> float:
        """Height of the ridge above the walls."""
        return 0.0 if self.roof == "flat" else self.half[1] * self.slope

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """The walls' x0, y0, x1, y1 in the building's frame."""
        hx, hy = self.half if self.along == 0 else self.half[::-1]
        return self.x - hx, self.y - hy, self.x + hx, self.y + hy


@dataclass
class BuildingPlan:
    """One building: where it stands, what it is made of, what befell it."""

    id: int
    kind: str  # house, garage, shed, hall
    center: tuple[float, float]
    angle: float  # radians, counter-clockwise from east, of the building's x axis
    blocks: list[Block]
    level: int  # 0 undamaged, 1 Slight, 2 Severe, 3 Debris
    roof_kind: str
    roof_color: np.ndarray
    wall_kind: str
    wall_color: np.ndarray
    trim: np.ndarray
    parts: list = field(default_factory=list)  # damage.DamagePart

    @property
    def outline(self) -> np.ndarray:
        """The walls' outline on the ground, world metres, (N, 2), counter-clockwise."""
        return to_world(outline_of_blocks([b.extent for b in self.blocks]), self.center, self.angle)

    @property
    def height(self) -> float:
        """Height of the highest ridge."""
        return max(b.height + b.rise for b in self.blocks)

    @property
    def radius(self) -> float:
        """Radius of a circle around ``centre`` that holds the building, its eaves and its
        rubble.
        """
        corners = [
            np.hypot(x, y) for b in self.blocks for x in b.extent[::2] for y in b.extent[1::2]
        ]
        return max(corners) + (3.5 if self.level == 3 else 1.5)


@dataclass
class Face:
    """A planar polygon with a texture.

    ``origin + u * x + v * y`` is the place of the texture's metres (x, y), y downwards in the
    texture; all in world coordinates once :func:`to_world_faces` has been applied. ``v × u``
    points outwards.
    """

    kind: str  # roof, wall, trim, inside, rubble
    origin: np.ndarray
    u: np.ndarray
    v: np.ndarray
    polygon: np.ndarray  # (N, 2) metres
    block: int = 0
    name: str = ""  # which face of its block
    top: float = 0.0  # walls: metres from the texture's top to the eave
    textures: list[np.ndarray] = field(default_factory=list)  # uint8, each half the one before
    part_ids: np.ndarray | None = (
        None  # uint16 like textures[0]: 0 or the part's number in the flight
    )
    solid: np.ndarray | None = None  # uint8 like textures[0]: 0 where the surface is missing

    def __post_init__(self):
        self.place(self.origin, self.u, self.v)
        self.size = self.polygon.max(0)  # width and height in metres

    def place(self, origin: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
        """Set where the face is; ``normal`` (outward, unit) follows."""
        self.origin, self.u, self.v = origin, u, v
        self.normal = np.array(
            [v[1] * u[2] - v[2] * u[1], v[2] * u[0] - v[0] * u[2], v[0] * u[1] - v[1] * u[0]]
        )

    @property
    def corners(self) -> np.ndarray:
        """The polygon in space, (N, 3)."""
        return self.origin + self.polygon[:, :1] * self.u + self.polygon[:, 1:] * self.v

    def point(self, xy: np.ndarray) -> np.ndarray:
        """Return the places in space of face metres (..., 2)."""
        return self.origin + xy[..., :1] * self.u + xy[..., 1:] * self.v


def to_world(points: np.ndarray, center, angle: float) -> np.ndarray:
    """Turn plan coordinates (N, 2) of a building into world metres."""
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(points, np.float64) @ np.array([[c, s], [-s, c]]) + np.asarray(center)


def _rotate(vector: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1], vector[2]])


def to_world_faces(faces: list[Face], plan: BuildingPlan) -> list[Face]:
    """Move ``faces`` from the building's frame into the world, in place."""
    for face in faces:
        origin = _rotate(face.origin, plan.angle) + np.array([*plan.center, 0.0])
        face.place(origin, _rotate(face.u, plan.angle), _rotate(face.v, plan.angle))
    return faces


def _face(kind, origin, u, v, polygon, **more) -> Face:
    return Face(
        kind,
        np.asarray(origin, np.float64),
        np.asarray(u, np.float64),
        np.asarray(v, np.float64),
        np.asarray(polygon, np.float64),
        **more,
    )


def _rectangle(width: float, height: float) -> list[tuple[float, float]]:
    return [(0, 0), (width, 0), (width, height), (0, height)]


def block_faces(block: Block, index: int) -> list[Face]:
    """Return walls, roof planes and trim of a block, in the building's frame."""
    a, b = block.half
    h, o, t = block.height, block.overhang, block.slope
    zr, rise = h + block.rise + 0.12, block.rise
    gable = block.roof == "gable"
    wall_top = h + (0.35 if block.roof == "flat" else 0.0)
    faces = []
    # Walls, seen from outside: u to the right, v down.
    for name, origin, u, width in (
        ("front", (-a, -b), (1, 0, 0), 2 * a),
        ("right", (a, -b), (0, 1, 0), 2 * b),
        ("back", (a, b), (-1, 0, 0), 2 * a),
        ("left", (-a, b), (0, -1, 0), 2 * b),
    ):
        if gable and name in ("right", "left"):
            polygon = [(0, rise), (b, 0), (2 * b, rise), (2 * b, rise + h), (0, rise + h)]
            faces.append(
                _face("wall", (*origin, h + rise), u, (0, 0, -1), polygon, name=name, top=rise)
            )
        else:
            polygon = _rectangle(width, wall_top)
            faces.append(_face("wall", (*origin, wall_top), u, (0, 0, -1), polygon, name=name))
    cos, sin = 1 / np.hypot(1, t), t / np.hypot(1, t)
    if block.roof == "flat":
        faces.append(
            _face("roof", (-a, b, h), (1, 0, 0), (0, -1, 0), _rectangle(2 * a, 2 * b), name="flat")
        )
    else:
        length = (b + o) / cos  # ridge to eave along the slope
        wide = 2 * (a + o)
        if gable:
            side = _rectangle(wide, length)
        else:
            side = [(b + o, 0), (wide - b - o, 0), (wide, length), (0, length)]
        faces.append(_face("roof", (-a - o, 0, zr), (1, 0, 0), (0, -cos, -sin), side, name="front"))
        faces.append(_face("roof", (a + o, 0, zr), (-1, 0, 0), (0, cos, -sin), side, name="back"))
        ze = zr - (b + o) * t  # the eave
        if not gable:
            end = [(b + o, 0), (2 * (b + o), length), (0, length)]
            faces.append(
                _face("roof", (a - b, -b - o, zr), (0, 1, 0), (cos, 0, -sin), end, name="right")
            )
            faces.append(
                _face("roof", (b - a, b + o, zr), (0, -1, 0), (-cos, 0, -sin), end, name="left")
            )
        else:
            drop, span = zr - ze, 2 * (b + o)
            rake = [
                (0, drop),
                (b + o, 0),
                (span, drop),
                (span, drop + 0.2),
                (b + o, 0.2),
                (0, drop + 0.2),
            ]
            faces.append(
                _face("trim", (a + o, -b - o, zr), (0, 1, 0), (0, 0, -1), rake, name="right")
            )
            faces.append(
                _face("trim", (-a - o, b + o, zr), (0, -1, 0), (0, 0, -1), rake, name="left")
            )
        faces.append(
            _face(
                "trim",
                (-a - o, -b - o, ze),
                (1, 0, 0),
                (0, 0, -1),
                _rectangle(wide, 0.2),
                name="front",
            )
        )
        faces.append(
            _face(
                "trim",
                (a + o, b + o, ze),
                (-1, 0, 0),
                (0, 0, -1),
                _rectangle(wide, 0.2),
                name="back",
            )
        )
        if not gable:
            for name, x, y, u in (
                ("right", a + o, -b - o, (0, 1, 0)),
                ("left", -a - o, b + o, (0, -1, 0)),
            ):
                strip = _rectangle(2 * (b + o), 0.2)
                faces.append(_face("trim", (x, y, ze), u, (0, 0, -1), strip, name=name))
    turn = np.pi / 2 * block.along
    for face in faces:
        origin = _rotate(face.origin, turn) + np.array([block.x, block.y, 0.0])
        face.place(origin, _rotate(face.u, turn), _rotate(face.v, turn))
        face.block = index
    return faces


def inside_faces(block: Block, index: int) -> list[Face]:
    """Return what shows through holes in a block: the ceiling below the roof, the floor, and the
    walls' inner sides.
    """
    x0, y0, x1, y1 = block.extent
    w, d = x1 - x0 - 0.3, y1 - y0 - 0.3
    faces = []
    for z in (0.15, block.height - 0.45):
        faces.append(
            _face(
                "inside",
                (x0 + 0.15, y1 - 0.15, z),
                (1, 0, 0),
                (0, -1, 0),
                _rectangle(w, d),
                block=index,
            )
        )
    for face in block_faces(block, index):
        if face.kind == "wall":
            # The same wall seen from within: mirrored, so that its normal points into the rooms.
            width = face.size[0]
            inner = face.polygon * (-1, 1) + (width, 0)
            origin = face.origin + face.u * width - 0.15 * face.normal
            faces.append(
                _face("inside", origin, -face.u, face.v, inner, block=index, name=face.name)
            )
    return faces


def outline_of_blocks(extents: list[tuple[float, float, float, float]]) -> np.ndarray:
    """Return the outline (N, 2), counter-clockwise, of the union of axis-aligned rectangles that
    hang together.

    If they do not, it is that of the largest piece. Holes are left out.
    """
    xs = np.unique([x for e in extents for x in (e[0], e[2])])
    ys = np.unique([y for e in extents for y in (e[1], e[3])])
    full = np.zeros((len(ys) + 1, len(xs) + 1), bool)  # a border of empty cells on every side
    for x0, y0, x1, y1 in extents:
        i0, i1 = np.searchsorted(xs, (x0, x1))
        j0, j1 = np.searchsorted(ys, (y0, y1))
        full[j0 + 1 : j1 + 1, i0 + 1 : i1 + 1] = True
    # Directed edges with the inside on their left; cell (j, i) spans xs[i-1]..xs[i],
    # ys[j-1]..ys[j].
    follow: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for j, i in zip(*np.nonzero(full)):
        for near, start, end in (
            ((j - 1, i), (i - 1, j - 1), (i, j - 1)),
            ((j, i + 1), (i, j - 1), (i, j)),
            ((j + 1, i), (i, j), (i - 1, j)),
            ((j, i - 1), (i - 1, j), (i - 1, j - 1)),
        ):
            inside = near[0] < full.shape[0] and near[1] < full.shape[1] and full[near]
            if not inside:
                follow.setdefault(start, []).append(end)
    loops = []
    while follow:
        start = min(follow)
        loop, at = [start], start
        while True:
            ends = follow[at]
            at = ends.pop()
            if not ends:
                del follow[loop[-1]]
            if at == start:
                break
            loop.append(at)
        points = np.array([(xs[i], ys[j]) for i, j in loop])
        before, after = np.roll(points, 1, 0), np.roll(points, -1, 0)
        d1, d2 = points - before, after - points
        points = points[np.abs(d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]) > 1e-12]
        loops.append(points)
    return max(loops, key=signed_area)


def signed_area(polygon: np.ndarray) -> float:
    """Return the area of a polygon (N, 2), positive if it runs counter-clockwise."""
    x, y = np.asarray(polygon, np.float64).T
    return float(0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
