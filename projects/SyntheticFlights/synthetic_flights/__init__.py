"""Rendered drone flights over damaged neighbourhoods: a data set that can be made anywhere.

A scene is true 3-D: a painted ground plane, buildings of textured planes, meshes and tree sprites,
seen by a moving camera through a depth buffer and an id buffer, with numpy and OpenCV alone. See
:func:`.writer.write_dataset` for a data set on disk, :func:`.scene.render_flight` for frames.
"""
