"""The layers of the package, measured by its imports, lazy ones included."""

from __future__ import annotations

import ast
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msnet_d2

PACKAGE = Path(msnet_d2.__file__).resolve().parent

# From the bottom to the top. What stands in one line knows nothing of its neighbours; an import
# goes down, never up. Two-part names are folders of a folder that has layers of its own.
LAYERS = (
    ("version", "errors"),
    ("utils", "projects"),
    ("config", "structures"),
    ("score_refinement", "visualization"),
    ("data",),
    ("modeling",),
    ("checkpoint",),
    ("evaluation",),
    ("inference",),
    ("engine",),
    ("video",),
    ("damage_map.telemetry",),
    ("damage_map.geometry",),
    ("damage_map.buildings",),
    ("damage_map.output",),
    ("damage_map",),
    ("cli",),
    ("train_net",),
)
# Files that are too long still; none may be added.
TO_BE_PARTED = {"msnet_d2.video.results"}
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    """The name in :data:`LAYERS` of a module; "" for the package itself."""
    parts = module.split(".")[1:]
    for length in (2, 1):
        if ".".join(parts[:length]) in HEIGHT:
            return ".".join(parts[:length])
    return ".".join(parts[:1])


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not for_types:
            yield node
            yield from executed(node)


def imports_of(module: str) -> set[str]:
    """Modules of this package that a module imports, at its top or within functions."""
    found = set()
    for node in executed(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & set(FILES)) or {node.module}
    return {name for name in found if name in FILES} - {module, "msnet_d2"}


IMPORTS = {module: imports_of(module) for module in FILES}


def test_every_room_is_in_the_table():
    assert {room_of(module) for module in FILES} - {""} == set(HEIGHT) - {"version"}


def test_no_import_goes_up():
    up = [
        f"{module} -> {target}"
        for module, targets in IMPORTS.items()
        for target in targets
        if room_of(module) != room_of(target)
        and HEIGHT.get(room_of(target), 0) >= HEIGHT.get(room_of(module), 0)
        and module != "msnet_d2"
    ]
    assert up == []


def test_no_modules_import_each_other_in_a_circle():
    # Tarjan's strongly connected components; more than one module is a circle.
    index, low, stack, circles = {}, {}, [], []

    def visit(module):
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in IMPORTS[module]:
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            component = []
            while not component or component[-1] != module:
                component.append(stack.pop())
            if len(component) > 1:
                circles.append(sorted(component))

    for module in IMPORTS:
        if module not in index:
            visit(module)
    assert circles == []


def test_all_is_in_rooms():
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert loose <= {"errors", "projects", "train_net"}


def test_no_file_is_long():
    lengths = {m: len(path.read_text().splitlines()) for m, path in FILES.items()}
    assert {module for module, n in lengths.items() if n > 450} <= TO_BE_PARTED
    assert statistics.median(lengths.values()) < 150


def test_relative_imports_are_not_used():
    # The measurement above reads absolute ones.
    relative = defaultdict(list)
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                relative[module].append(node.lineno)
    assert relative == {}
