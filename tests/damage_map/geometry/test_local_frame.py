"""The plane of a map where longitudes jump."""

from __future__ import annotations

import numpy as np
import pytest

from msnet_d2.damage_map.geometry.local_frame import HALF_WORLD_M, EnuFrame

pytest.importorskip("pyproj")


@pytest.mark.parametrize("longitude", [179.9999, -179.9999])
def test_web_meters_do_not_jump_at_the_antimeridian(longitude):
    # Fiji: 0.0001 degrees are 10 m there, so that 100 m east or west is on the other side.
    enu = EnuFrame(-16.8, longitude)
    found = enu.to_mercator(np.array([[-100.0, 0.0], [0.0, 0.0], [100.0, 0.0]]))
    # Web metres are 1 / cos(16.8 degrees) = 1.0446 as long, and WGS 84 is no sphere: within 1%.
    assert np.diff(found[:, 0]) == pytest.approx([104.46, 104.46], rel=0.01)
    assert abs(found[1, 0]) == pytest.approx(HALF_WORLD_M, rel=1e-5)
