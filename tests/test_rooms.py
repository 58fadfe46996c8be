"""A file imports only from the rooms above it, and `import groundup` imports nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import groundup

SOURCE = Path(groundup.__file__).parent
# From the top of the house down; the rooms of a row may know those in the row before each other.
ROWS = [
    ["errors"],
    ["ops"],
    ["tensor", "backward"],
    ["functions", "creation", "methods", "generator"],
    ["nn"],
    ["optim"],
    ["program"],
    ["native"],
    ["data"],
    ["compiled"],
    ["check"],
    ["explain"],
    ["train"],
    ["interop"],
    ["cli"],
]
FLOOR = {room: i for i, row in enumerate(ROWS) for room in row}
# These two stand apart: they work without the rest.
APART = {"data": {"errors"}, "foundations": {"errors"}}
# A Tensor's backward() is the sweep's, which is made of Tensors: the one knot, tied in a function.
KNOT = ("tensor", "backward")
HEAVY = ["rich", "typer", "pooch", "matplotlib", "sympy", "safetensors", "llvmlite", "pandas"]
HEAVY += ["PIL", "torch", "numba", "IPython"]

FILES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    """`nn` for nn/layers.py, `tensor` for tensor.py, "" for the package's own files."""
    first = path.relative_to(SOURCE).parts[0]
    return "" if first.startswith("__") else first.removesuffix(".py")


def imported(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Line and room of every import of the package's own, but those for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from imported(other, path)
            continue
        if isinstance(node, ast.Import):
            for name in node.names:
                parts = name.name.split(".")
                if parts[0] == "groundup":
                    yield node.lineno, parts[1] if len(parts) > 1 else "groundup"
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = path.relative_to(SOURCE.parent).parts[: -node.level]
                base = ".".join([*above, *([base] if base else [])])
            parts = base.split(".")
            if parts == ["groundup"]:
                for name in node.names:
                    is_room = name.name in FLOOR or name.name in APART
                    yield node.lineno, name.name if is_room else "groundup"
            elif parts[0] == "groundup":
                yield node.lineno, parts[1]
        yield from imported(node, path)


def allowed(room: str, other: str) -> bool:
    if other == room or not room or (room, other) == KNOT:
        return True
    if room in APART:
        return other in APART[room]
    if room == "cli":
        return True
    return other in FLOOR and (FLOOR[other] < FLOOR[room] or (room, other) == KNOT[::-1])


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(SOURCE)) for p in FILES])
def test_imports_come_from_above(path: Path) -> None:
    room = room_of(path)
    assert not room or room in FLOOR or room in APART, f"{room}: which room is this? Name it here"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = [
        f"line {n}: {room} imports {o}" for n, o in imported(tree, path) if not allowed(room, o)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_stars() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.names[0].name != "*", f"{path.name}:{node.lineno}"


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("ops", "from groundup.tensor import Tensor", ["tensor"]),
        ("ops", "def f():\n    from groundup import nn", ["nn"]),
        ("ops", "import groundup.optim as o", ["optim"]),
        ("nn", "import groundup", ["groundup"]),
        ("nn", "from groundup import Tensor", ["groundup"]),
        ("nn", "from ..optim import SGD", ["optim"]),
        ("nn", "from .. import check", ["check"]),
        ("data", "from groundup.tensor import Tensor", ["tensor"]),
        ("foundations", "try:\n    import groundup.ops\nexcept ImportError: pass", ["ops"]),
        ("functions", "from groundup.generator import Generator", ["generator"]),
        ("ops", "if TYPE_CHECKING:\n    from groundup.tensor import Tensor", []),
        ("ops", "from groundup import errors\nfrom groundup.ops.base import Op", []),
        ("tensor", "def f():\n    from groundup.backward import backward", []),
        ("nn", "from .layers import Linear\nfrom ..tensor import Tensor", []),
    ],
)
def test_the_walk_itself(room: str, source: str, found: list[str]) -> None:
    path = SOURCE / room / "file.py"
    got = [o for _, o in imported(ast.parse(source), path) if not allowed(room, o)]
    assert got == found


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, groundup; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
