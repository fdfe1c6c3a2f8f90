"""Distances and directions on the WGS 84 ellipsoid, by pyproj.

Everything is local to a camera: a place is its azimuth and distance from there, which is what the
azimuthal equidistant projection about the camera holds. True north needs no correction in it, and
neither the poles nor the antimeridian are special.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from msnet_d2.errors import DependencyError

# Radius of the earth, enlarged by a sixth because the air bends rays of light downwards about that
# much: over d metres the ground falls d² / (2 R) below the plane through the camera's foot.
EFFECTIVE_RADIUS_M = 6_371_000 * 7 / 6


def import_pyproj():
    """Return the module pyproj.

    Raises:
        DependencyError: if it is not installed.
    """
    try:
        import pyproj
    except ImportError as error:
        raise DependencyError.for_extra("pyproj", "map", "placing detections on a map") from error
    return pyproj


@lru_cache(maxsize=1)
def _geod():
    return import_pyproj().Geod(ellps="WGS84")


def destination(lat, lon, azimuth, distance) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude (each (N,), degrees) reached from (lat, lon).

    ``azimuth`` (degrees clockwise from north) and ``distance`` (metres) are (N,); ``lat`` and
    ``lon`` are scalars or (N,). NaN in, NaN out.
    """
    azimuth, distance, lat, lon = np.broadcast_arrays(
        *(np.asarray(a, dtype=float) for a in (azimuth, distance, lat, lon))
    )
    out_lat, out_lon = np.full(azimuth.shape, np.nan), np.full(azimuth.shape, np.nan)
    ok = np.isfinite(azimuth) & np.isfinite(distance) & np.isfinite(lat) & np.isfinite(lon)
    if ok.any():
        out_lon[ok], out_lat[ok], _ = _geod().fwd(lon[ok], lat[ok], azimuth[ok], distance[ok])
    return out_lat, out_lon


def azimuth_and_distance(lat, lon, to_lat, to_lon) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth (degrees clockwise from north) and distance (metres) from one place to others.

    All are scalars or (N,); NaN in, NaN out.
    """
    lat, lon, to_lat, to_lon = np.broadcast_arrays(
        *(np.asarray(a, dtype=float) for a in (lat, lon, to_lat, to_lon))
    )
    azimuth, distance = np.full(lat.shape, np.nan), np.full(lat.shape, np.nan)
    ok = np.isfinite(lat) & np.isfinite(lon) & np.isfinite(to_lat) & np.isfinite(to_lon)
    if ok.any():
        azimuth[ok], _, distance[ok] = _geod().inv(lon[ok], lat[ok], to_lon[ok], to_lat[ok])
    return azimuth, distance


def unit_vectors(lat, lon) -> np.ndarray:
    """Vectors (N, 3) normal to the ellipsoid at the given places.

    Positions are interpolated between them, since latitude and longitude cannot be at the poles
    and the antimeridian.
    """
    lat, lon = np.radians(np.asarray(lat, float)), np.radians(np.asarray(lon, float))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def from_unit_vectors(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude in degrees of vectors (N, 3) of any length."""
    x, y, z = np.moveaxis(np.asarray(vectors, float), -1, 0)
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def wrap_degrees(angle) -> np.ndarray:
    """The same angle in [-180, 180)."""
    return (np.asarray(angle, dtype=float) + 180.0) % 360.0 - 180.0
