"""Rendered drone flights over damaged neighbourhoods: a data set that can be made anywhere.

A scene is true 3-D: a painted ground plane, buildings of textured planes, meshes and tree sprites,
seen by a moving camera through a depth buffer and an id buffer, with numpy and OpenCV alone. See
:func:`write_dataset` for a data set on disk and :func:`render_flight` for frames in memory.
"""

from __future__ import annotations

from .camera import Intrinsics, Pose, project, rotation_matrix
from .config import GENERATOR_VERSION, SceneConfig
from .gallery import contact_sheet, draw_labels
from .labels import annotate
from .scene import Flight, Frame, render_flight
from .writer import DatasetPlan, write_dataset

__all__ = [
    "GENERATOR_VERSION",
    "DatasetPlan",
    "Flight",
    "Frame",
    "Intrinsics",
    "Pose",
    "SceneConfig",
    "annotate",
    "contact_sheet",
    "draw_labels",
    "project",
    "render_flight",
    "rotation_matrix",
    "write_dataset",
]
