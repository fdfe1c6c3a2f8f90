"""Metres east and north about one place: the plane in which a map is computed."""

from __future__ import annotations

import numpy as np

from msnet_d2.utils.geodesy import import_pyproj

# Metres of web maps from the prime meridian to the antimeridian.
HALF_WORLD_M = np.pi * 6378137.0


class EnuFrame:
    """Metres east and north of an origin, by the azimuthal equidistant projection about it."""

    def __init__(self, lat: float, lon: float) -> None:
        pyproj = import_pyproj()
        self.origin = (float(lat), float(lon))
        crs = pyproj.CRS.from_proj4(
            f"+proj=aeqd +lat_0={lat:.9f} +lon_0={lon:.9f} +datum=WGS84 +units=m"
        )
        self._to = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        self._mercator = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)

    def to_xy(self, lat_lon: np.ndarray) -> np.ndarray:
        """Metres (N, 2) of latitudes and longitudes (N, 2)."""
        lat_lon = np.asarray(lat_lon, dtype=float).reshape(-1, 2)
        return np.stack(self._to.transform(lat_lon[:, 1], lat_lon[:, 0]), axis=1)

    def to_lat_lon(self, xy: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`to_xy`."""
        xy = np.asarray(xy, dtype=float).reshape(-1, 2)
        lon, lat = self._to.transform(xy[:, 0], xy[:, 1], direction="INVERSE")
        return np.stack([lat, lon], axis=1)

    def to_mercator(self, xy: np.ndarray) -> np.ndarray:
        """The same places (N, 2) in metres of web maps (EPSG:3857).

        The antimeridian makes no jump: what lies beyond it, as seen from the origin, is beyond
        :data:`HALF_WORLD_M`.
        """
        lat_lon = self.to_lat_lon(xy)
        east, north = self._mercator.transform(lat_lon[:, 1], lat_lon[:, 0])
        origin = np.radians(self.origin[1]) / np.pi * HALF_WORLD_M
        east = origin + (east - origin + HALF_WORLD_M) % (2 * HALF_WORLD_M) - HALF_WORLD_M
        return np.stack([east, north], axis=1)
