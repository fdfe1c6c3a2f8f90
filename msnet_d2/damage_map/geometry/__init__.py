"""From a pixel to a place on the ground: camera, terrain, ground control points."""
