"""File names of a JSON, kept inside the image folder."""

from __future__ import annotations

import os
import re

__all__ = ["MAX_NAME", "PathChecker"]

MAX_NAME = 4096  # characters; Linux opens no longer path


class PathChecker:
    """Turns file names of a JSON into paths inside the image folder, or refuses them."""

    def __init__(self, image_root: str):
        self.image_root = image_root
        self.real_root = os.path.realpath(image_root)
        self._real_folders: dict[str, str] = {}

    def resolve(self, name: object) -> str:
        """Path of an image, which need not exist.

        Raises:
            ValueError: if it is no name of a file inside the folder, with the reason, to be read
                after the name.
        """
        if not isinstance(name, str) or not name.strip():
            raise ValueError("is not a file name")
        if len(name) > MAX_NAME:
            raise ValueError(f"has more than {MAX_NAME} characters")
        if "://" in name:
            raise ValueError("is a URL; images must be files below the image folder")
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
            raise ValueError("is an absolute path; it must be relative to the image folder")
        if ".." in re.split(r"[\\/]", name):
            raise ValueError("leaves the image folder by '..'")
        try:
            os.fsencode(name)
        except UnicodeEncodeError as error:
            raise ValueError("contains characters that no file name can have") from error
        if "\0" in name:
            raise ValueError("contains characters that no file name can have")
        if "\\" in name and not os.path.lexists(os.path.join(self.image_root, name)):
            name = name.replace("\\", "/")  # written on Windows
        path = os.path.normpath(os.path.join(self.image_root, name))
        folder, base = os.path.split(path)
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._real_folders[folder], base)
        if os.path.islink(path):
            real = os.path.realpath(path)
        if os.path.commonpath([real, self.real_root]) != self.real_root:
            raise ValueError(
                "is a symbolic link that leaves the image folder; link the whole folder instead, "
                "or copy the file"
            )
        return path
