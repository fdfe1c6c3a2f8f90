"""Draws faces, meshes and sprites into a frame with a depth buffer and id buffers; no GPU, numpy
and OpenCV only.
"""

from __future__ import annotations

import cv2
import numpy as np

from synthetic_flights.buildings import Face
from synthetic_flights.camera import Intrinsics, Pose, rotation_matrix
from synthetic_flights.ground import TEXEL, Ground
from synthetic_flights.materials import FACE_MATERIALS
from synthetic_flights.meshes import Mesh
from synthetic_flights.surfaces import SHIFT, SurfaceBuffers, affine
from synthetic_flights.vegetation import Sprite
from synthetic_flights.world import Tree

__all__ = ["Raster"]

# Surfaces that lie on others win over them by so much of their depth.
NEARER = {"trim": 1.0025, "roof": 1.002}


class Raster:
    """A frame being drawn, ``supersample`` times larger than ``intrinsics`` says.

    Attributes:
        colour: (H, W, 3) uint8, BGR; None if not wanted.
        nearness: (H, W) float32, 1 / depth along the optical axis; the ground's is not written.
        part_ids: (H, W) uint16, 0 or the number of the damaged part seen; None if not wanted.
        building_ids: (H, W) uint16, 0 or the number of the building seen, trees left out; None
            likewise.
        surfaces: materials, depth and trees; None if not wanted.
    """

    def __init__(
        self,
        intrinsics: Intrinsics,
        pose: Pose,
        supersample: float,
        with_ids: bool,
        *,
        with_color: bool = True,
        with_surfaces: bool = False,
    ):
        self.width = round(intrinsics.width * supersample)
        self.height = round(intrinsics.height * supersample)
        self.scale = supersample
        sx, sy = self.width / intrinsics.width, self.height / intrinsics.height
        # From continuous frame coordinates to the enlarged raster's pixel indices, whose centres
        # are whole numbers.
        enlarge = np.array([[sx, 0, -0.5], [0, sy, -0.5], [0, 0, 1]])
        self.position = np.asarray(pose.position)
        self.rotation = rotation_matrix(pose)
        self.camera = enlarge @ intrinsics.matrix
        self.view = self.camera @ self.rotation
        shape = (self.height, self.width)
        self.color = np.empty((*shape, 3), np.uint8) if with_color else None
        self.nearness = np.zeros(shape, np.float32)
        self.part_ids = np.zeros(shape, np.uint16) if with_ids else None
        self.building_ids = np.zeros(shape, np.uint16) if with_ids else None
        self.surfaces = None
        if with_surfaces:
            back = np.linalg.inv(self.view)
            self.surfaces = SurfaceBuffers(*shape, back, float(self.position[2]))

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return raster pixel indices (..., 2) and depths (...) of world points (..., 3)."""
        h = (points - self.position) @ self.view.T
        return h[..., :2] / h[..., 2:], h[..., 2]

    def in_view(self, centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
        """Return for balls (N, 3), (N,) whether they may be seen: (N,) bool."""
        x, y, depth = self.rotation @ (centers - self.position).T
        near = np.maximum(depth, 1.0)
        focal = self.camera[0, 0]
        slack = radii * focal / near * 1.15
        seen = (np.abs(x) * focal / near < self.width / 2 + slack) & (depth + radii > 1.0)
        return seen & (np.abs(y) * focal / near < self.height / 2 + slack)

    def facing(self, centers: np.ndarray, radii: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Return which faces, given by balls around them and their normals (N, 3), may be seen."""
        towards = ((centers - self.position) * normals).sum(1) < 0
        return np.nonzero(towards & self.in_view(centers, radii))[0]

    def _clip(self, low: np.ndarray, high: np.ndarray):
        x0, y0 = np.maximum(np.floor(low).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(high).astype(int) + 1, (self.width, self.height))
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None

    def draw_ground(self, ground: Ground, footprint: np.ndarray) -> None:
        """Fill the frame with the ground; ``footprint`` (4, 2) is what of it the frame shows."""
        if self.surfaces is not None:
            features = ground.features_in(footprint)
            self.surfaces.paint_ground(features, self.view, self.position)
        if self.color is None:
            return
        levels, (west, north) = ground.window(footprint)
        place = np.array(
            [[1, 0, 0], [0, 1, 0], [0, 0, 0]], np.float64
        )  # (X, Y, 1) to a point of the ground
        place[:, 2] = -self.position
        to_frame = self.view @ place
        back = np.linalg.inv(to_frame)
        # Metres of ground a pixel covers, away from the camera, row by row down the middle.
        rows = np.arange(-1, self.height + 1)
        h = back @ np.stack([np.full(len(rows), self.width / 2), rows, np.ones(len(rows))])
        line = h[:2] / h[2]
        meters = np.linalg.norm(line[:, 2:] - line[:, :-2], axis=0) / 2
        # A pixel is longer than wide on the ground; a level between both blurs across no more than
        # it shimmers along.
        wanted = np.clip(np.log2(np.maximum(meters / TEXEL * 0.62, 1e-3)), 0, len(levels) - 1)
        base = np.floor(wanted).astype(int)
        for level in range(base.min(), base.max() + 1):
            r = np.nonzero(base == level)[0]
            if not len(r):
                continue
            y0, y1 = int(r[0]), int(r[-1]) + 1
            band = self._warp_ground(levels[level], level, west, north, to_frame, y0, y1)
            if level + 1 < len(levels) and wanted[y0:y1].max() > level + 0.5:
                # Fade into the next level over the upper half of this one.
                coarse = self._warp_ground(
                    levels[level + 1], level + 1, west, north, to_frame, y0, y1
                )
                share = np.clip((wanted[y0:y1] - level - 0.5) * 2, 0, 1).astype(np.float32)
                share = np.repeat(share[:, None], self.width, 1)
                band = cv2.blendLinear(coarse, band, share, 1 - share)
            self.color[y0:y1] = band

    def _warp_ground(self, picture, level, west, north, to_frame, y0, y1) -> np.ndarray:
        texel = TEXEL * 2**level
        place = np.array([[texel, 0, west + texel / 2], [0, -texel, north - texel / 2], [0, 0, 1]])
        down = np.array([[1, 0, 0], [0, 1, -y0], [0, 0, 1.0]])
        return cv2.warpPerspective(
            picture,
            down @ to_frame @ place,
            (self.width, y1 - y0),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )

    def draw_face(self, face: Face, building_id: int) -> None:
        """Draw one face, whose outside must be towards the camera."""
        offset = face.origin - self.position
        basis = np.array([face.u, face.v, offset]).T
        plane = self.view @ basis  # metres on the face to raster pixels
        corners = plane[:, :2] @ face.polygon.T + plane[:, 2:]
        if corners[2].min() < 1.0:
            return
        pixels = (corners[:2] / corners[2]).T
        clip = self._clip(pixels.min(0), pixels.max(0))
        if clip is None:
            return
        # Seen edge on, a plane is thinner than a pixel and its depth within that pixel means
        # nothing.
        x, y = pixels.T
        area = x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1]
        if abs(area) < 1.6 * float(np.hypot(x.max() - x.min(), y.max() - y.min())):
            return
        x0, y0, x1, y1 = clip
        size = (x1 - x0, y1 - y0)
        inside = np.zeros((size[1], size[0]), np.uint8)
        cv2.fillPoly(
            inside,
            [np.round((pixels - (x0, y0)) * 2**SHIFT).astype(np.int32)],
            255,
            cv2.LINE_8,
            SHIFT,
        )
        # 1 / depth is affine in the picture: the last row of the inverse homography.
        gx, gy, g1 = np.linalg.inv(plane)[2]
        window = (slice(y0, y1), slice(x0, x1))
        near = affine((gx, gy, g1), *window)
        # Beyond a polygon's edge a plane seen nearly edge on would run off towards the camera
        # within half a pixel.
        near = np.clip(near, float(1 / corners[2].max()), float(1 / corners[2].min()), out=near)
        exact_near = near.copy() if self.surfaces is not None else None
        near *= NEARER.get(face.kind, 1.0)
        inside &= cv2.compare(near, self.nearness[window], cv2.CMP_GT)
        if not inside.any():
            return
        shift = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1.0]])
        solid = inside
        marks = None
        if face.part_ids is not None:
            exact = shift @ plane @ self._texels(face, face.part_ids.shape)
            marks = cv2.warpPerspective(
                face.part_ids, exact, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
            )
        if face.solid is not None:
            exact = shift @ plane @ self._texels(face, face.solid.shape)
            there = cv2.warpPerspective(
                face.solid, exact, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            solid = inside & _compare(there, 127, cv2.CMP_GT)
            written = (
                solid if marks is None else inside & (solid | (marks > 0).view(np.uint8) * 255)
            )
        else:
            written = inside
        if self.color is not None:
            self._paint_face(face, plane, window, solid)
        cv2.copyTo(near, written, self.nearness[window])
        if self.surfaces is not None:
            material = FACE_MATERIALS[face.kind]
            self.surfaces.write_face(window, material, exact_near, written, solid)
        if self.part_ids is not None:
            chosen = written > 0
            self.building_ids[window][chosen] = building_id
            self.part_ids[window][chosen] = 0 if marks is None else marks[chosen]

    def _paint_face(self, face: Face, plane: np.ndarray, window, solid: np.ndarray) -> None:
        ys, xs = window
        texture = self._level(face, plane)
        if texture.shape[:2] == (1, 1):
            self.color[window][solid > 0] = texture[0, 0]
            return
        shift = np.array([[1, 0, -xs.start], [0, 1, -ys.start], [0, 0, 1.0]])
        patch = cv2.warpPerspective(
            texture,
            shift @ plane @ self._texels(face, texture.shape),
            solid.shape[::-1],
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cv2.copyTo(patch, solid, self.color[window])

    @staticmethod
    def _texels(face: Face, shape) -> np.ndarray:
        """Map a texture's pixel indices to metres on the face; the texture covers the face's
        size.
        """
        sx, sy = face.size[0] / shape[1], face.size[1] / shape[0]
        return np.array([[sx, 0, sx / 2], [0, sy, sy / 2], [0, 0, 1]])

    @staticmethod
    def _level(face: Face, plane: np.ndarray) -> np.ndarray:
        """The texture, of those of the face, whose texels are about a pixel large."""
        textures = face.textures
        if len(textures) == 1:
            return textures[0]
        # Texels a pixel covers at the face's middle, the longer way.
        middle = np.array([*(face.size / 2), 1.0])
        h = plane @ middle
        jacobian = (plane[:2, :2] - np.outer(h[:2] / h[2], plane[2, :2])) / h[2]
        # The smaller singular value of a 2 × 2 matrix, from its squares' sum and its determinant.
        squares = float((jacobian**2).sum())
        det = float(jacobian[0, 0] * jacobian[1, 1] - jacobian[0, 1] * jacobian[1, 0])
        root = max(squares * squares - 4 * det * det, 0.0) ** 0.5
        least = (max(squares - root, 0.0) / 2) ** 0.5
        texels = textures[0].shape[1] / face.size[0] / max(least, 1e-6)
        level = int(np.clip(np.log2(max(texels * 0.7, 1e-3)), 0, len(textures) - 1))
        return textures[level]

    def draw_mesh(self, mesh: Mesh, building_id: int = 0) -> None:
        """Draw a mesh as one thing at the depth of its centre."""
        pixels, depth = self.project(mesh.quads)
        if depth.min() < 1.0:
            return
        clip = self._clip(pixels.min((0, 1)), pixels.max((0, 1)))
        if clip is None:
            return
        x0, y0, x1, y1 = clip
        window = (slice(y0, y1), slice(x0, x1))
        patch = None if self.color is None else self.color[window].copy()
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        front = None if self.surfaces is None else np.zeros(mask.shape, np.int16)
        fixed = np.round((pixels - (x0, y0)) * 2**SHIFT).astype(np.int32)
        colors = mesh.colors.tolist()
        for i in np.argsort(-depth.mean(1), kind="stable"):
            if patch is not None:
                cv2.fillConvexPoly(patch, fixed[i], colors[i], cv2.LINE_8, SHIFT)
            if front is not None:
                cv2.fillConvexPoly(front, fixed[i], int(i), cv2.LINE_8, SHIFT)
            cv2.fillConvexPoly(mask, fixed[i], 255, cv2.LINE_8, SHIFT)
        # A little nearer than its centre, so that boards do not sink into the heap they lie on.
        near = 1 / max(float(depth.mean()) - 0.5 * min(mesh.radius, 4.0), 1.0)
        mask &= _compare(self.nearness[window], near, cv2.CMP_LT)
        if patch is not None:
            cv2.copyTo(patch, mask, self.color[window])
        if front is not None:
            self.surfaces.write_mesh(window, mesh, front, pixels, depth, mask)
        chosen = mask > 0
        self.nearness[window][chosen] = near
        if self.part_ids is not None:
            self.part_ids[window][chosen] = mesh.part_index
            self.building_ids[window][chosen] = building_id

    def draw_sprite(self, sprite: Sprite, tree: Tree, number: int, under_water: float = 0) -> None:
        """Blend a tree over the frame; it hides what is farther and clears the ids it covers.

        Args:
            sprite: its picture.
            tree: where it stands, and how.
            number: from 1, by which it goes in :attr:`surfaces`.
            under_water: metres of its foot that a flood hides.
        """
        foot, height, flip, lean = (
            np.array([tree.x, tree.y, 0.0]),
            tree.height,
            tree.flip,
            tree.lean,
        )
        ends, depth = self.project(np.array([foot, foot + np.array([0, 0, height])]))
        if depth.min() < 1.0:
            return
        axis = ends[1] - ends[0]
        # From 45 degrees above, the crown's breadth lifts the top of the picture above the trunk's
        # end.
        length = max(float(np.hypot(*axis)), height * self.camera[0, 0] / depth[0] * 0.7)
        angle = np.arctan2(axis[0], -axis[1]) + lean
        halvings = 0
        while sprite.smaller is not None and length / sprite.texels < 0.62:
            sprite, halvings = sprite.smaller, halvings + 1
        zoom = length / sprite.texels
        c, s = zoom * np.cos(angle), zoom * np.sin(angle)
        mirror = -1.0 if flip else 1.0
        fx, fy = sprite.foot
        matrix = np.array([[c * mirror, -s, 0], [s * mirror, c, 0]])
        matrix[:, 2] = ends[0] - matrix[:, :2] @ (fx, fy)
        if under_water > 0:
            sprite = sprite.above(under_water / height)
        h, w = sprite.color.shape[:2]
        if not h:
            return
        box = np.array([[0, 0], [w, 0], [w, h], [0, h]]) @ matrix[:, :2].T + matrix[:, 2]
        clip = self._clip(box.min(0), box.max(0))
        if clip is None:
            return
        x0, y0, x1, y1 = clip
        to_raster = matrix * [1 / 2**halvings, 1 / 2**halvings, 1]
        matrix[:, 2] -= (x0, y0)
        size = (x1 - x0, y1 - y0)
        window = (slice(y0, y1), slice(x0, x1))
        clear = cv2.warpAffine(
            sprite.clear,
            matrix,
            size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=255,
        )
        near = 1 / max(float(depth.mean()), 1.0)
        hidden = _compare(self.nearness[window], near, cv2.CMP_GT)
        if cv2.countNonZero(hidden):
            clear[hidden > 0] = 255
        if self.color is not None:
            color = cv2.warpAffine(sprite.color, matrix, size, flags=cv2.INTER_LINEAR)
            if cv2.countNonZero(hidden):
                color[hidden > 0] = 0
            target = self.color[window]
            kept = cv2.multiply(target, cv2.merge([clear] * 3), scale=1 / 255)
            target[...] = cv2.addWeighted(kept, 1.0, color, tree.tone, 0.0)
        if self.part_ids is not None:
            covers = cv2.warpAffine(sprite.covers, matrix, size, flags=cv2.INTER_NEAREST) & ~hidden
            self.part_ids[window][covers > 127] = 0
            if self.surfaces is not None:
                self.surfaces.write_tree(window, number, near, covers, clear, to_raster)

    def draw_wire(self, points: np.ndarray, color: np.ndarray | None = None) -> None:
        """Draw a thin dark line (N, 3) over everything: wires hang above all that they cross.

        ``colour`` is another picture (H, W, 3) to draw it on alone.
        """
        pixels, depth = self.project(points)
        if depth.min() < 1.0 or self._clip(pixels.min(0), pixels.max(0)) is None:
            return
        fixed = np.round(pixels * 2**SHIFT).astype(np.int32)
        target = self.color if color is None else color
        if target is not None:
            cv2.polylines(target, [fixed], False, (58, 58, 60), 1, cv2.LINE_AA, SHIFT)
        if self.surfaces is not None and color is None:
            cv2.polylines(self.surfaces.wires, [fixed], False, 255, 1, cv2.LINE_AA, SHIFT)


def _compare(values: np.ndarray, limit: float, how: int) -> np.ndarray:
    """``cv2.compare`` with a number, 255 where true.

    OpenCV takes an array of a single pixel, as at a corner of the frame, for a number itself and
    refuses to compare the two.
    """
    if values.size == 1:
        limit = np.full_like(values, limit)
    return cv2.compare(values, limit, how)
