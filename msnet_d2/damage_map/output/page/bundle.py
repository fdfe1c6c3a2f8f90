"""The page's file: its template with style, strings, data and scripts inside it.

The scripts are ECMAScript modules, so that editors and linters know what each uses. A page that is
opened from a file may import none, hence they become one, in the order of their imports.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

_ENTRY = "app.js"
_STYLES = ("frame.css", "content.css", "media.css")
_IMPORT = re.compile(r'^import\s[^;]*?from "\./([\w.]+)";\n', re.MULTILINE)
# `file:` and the page's own origin are for photos beside it.
_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "img-src 'self' file: data: blob: https://tile.openstreetmap.org; "
    "style-src '{style}'; script-src '{script}'"
)


def bundle(data: Mapping[str, Any], files: Iterable[str]) -> str:
    """The page as text.

    Args:
        data: what the scripts show.
        files: names of files beside the page, to link to.
    """
    style = "\n" + "".join(_read(f"styles/{name}") for name in _STYLES)
    script = f"\n{joined_scripts()}"
    links = " ".join(f'<a href="{name}" download>{name}</a>' for name in files)
    inside = {
        "POLICY": _POLICY.format(style=_digest(style), script=_digest(script)),
        "STYLE": style,
        "FILES": links,
        "STRINGS": _json(json.loads(_read("strings.json"))),
        "DATA": _json(data),
        "SCRIPT": script,
    }
    return re.sub(r"/\*([A-Z]+)\*/", lambda mark: inside[mark[1]], _read("page.html"))


def joined_scripts() -> str:
    """All scripts as one, each after those that it imports; their top-level names are unique."""
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        done[name] = ""  # imports that lead back to it end here
        text = _read(f"scripts/{name}")
        for imported in _IMPORT.findall(text):
            add(imported)
        del done[name]
        done[name] = re.sub(r"^export ", "", _IMPORT.sub("", text), flags=re.MULTILINE)

    add(_ENTRY)
    return "".join(done.values())


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _json(content: Any) -> str:
    """JSON without the only markup that could end the script element early."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028")


def _digest(text: str) -> str:
    """The name by which a security policy allows an element of this text."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
