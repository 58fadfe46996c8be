"""What `groundup check` finds in a Python file, which it imports: that runs the file's code."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from groundup.errors import GroundupError
from groundup.nn import Module

# What a backward is called, and then its forward: f_backward belongs to f_forward, or to f.
PAIRS = [
    (r"backward", ["forward"]),
    (r"bwd", ["fwd"]),
    (r"(.+)_backward", ["{}_forward", "{}", "{}_fwd"]),
    (r"(.+)_bwd", ["{}_fwd", "{}", "{}_forward"]),
    (r"(.+)_grad", ["{}", "{}_forward"]),
    (r"d_(.+)", ["{}"]),
]
FRAMES = 3


class Unusable(GroundupError):
    """A file or name with nothing to check."""


@dataclass(frozen=True)
class Item:
    """Something to be checked.

    Attributes:
        name: what its file calls it.
        kind: "module", "torch Function", "torch Module", "jax", "pair" or "function".
        subject: a class, an instance or a function; of a pair the forward.
        backward: of a pair.
        source: the module that it was found in.

    """

    name: str
    kind: str
    subject: Any
    source: ModuleType
    backward: Callable[..., Any] | None = None

    @property
    def is_class(self) -> bool:
        """Whether an instance has to be made first."""
        return isinstance(self.subject, type) and self.kind != "torch Function"


# Importing


@contextmanager
def imports() -> Iterator[None]:
    """Put what importing a file adds to sys.path back at the end."""
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before


def load(target: str) -> tuple[ModuleType, str]:
    """Import what a target says: FILE.py, FILE.py:name, module or module:name.

    Returns:
        The module, and the name or "".

    Raises:
        Unusable: there is no such file or module, or it raised.

    """
    as_file = re.fullmatch(r"(.+\.py)(?::([\w.]+))?", target)
    if as_file is None:
        module, _, name = target.partition(":")
        return _module(module), name
    path = Path(as_file[1])
    if not path.is_file():
        raise Unusable(
            f"there is no file {as_file[1]} in {os.getcwd()}; "
            "give a Python file, FILE.py:name, or module:name"
        )
    return _file(path.resolve()), as_file[2] or ""


def _file(path: Path) -> ModuleType:
    """A file of a package under its full name, for relative imports; another as python runs it."""
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    sys.path.insert(0, str(root))
    if len(parts) > 1:
        return _run(path.name, str(path), lambda: importlib.import_module(".".join(parts)))
    # Not in the place of a library that is imported already and has the same name.
    name = path.stem if path.stem not in sys.modules else f"checked_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    loader, module = spec.loader, importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # what looks a class's module up finds it there

    def ran() -> ModuleType:
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    return _run(path.name, str(path), ran)


def _module(name: str) -> ModuleType:
    if Path(name).is_dir():
        raise Unusable(f"{name} is a folder: name its files, such as {Path(name) / '*.py'}")
    if not re.fullmatch(r"\w+(\.\w+)*", name):
        raise Unusable(
            f"{name!r} is neither a Python file nor the name of a module; "
            "give FILE.py, FILE.py:name, or module:name"
        )
    try:
        found = importlib.util.find_spec(name)
    except ImportError:
        found = None
    if found is None:
        raise Unusable(
            f"there is no module {name!r} in {os.getcwd()}, nor an installed one; "
            "layers:Relu means Relu in ./layers.py"
        )
    return _run(name, found.origin or "", lambda: importlib.import_module(name))


def _run(name: str, path: str, importing: Callable[[], ModuleType]) -> ModuleType:
    try:
        return importing()
    except (Exception, SystemExit) as error:
        raise Unusable(f"importing {name} failed:\n{told(error, path)}") from error


def told(error: BaseException, path: str) -> str:
    """The end of an error's traceback: the last lines from a file on, or just the error."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, f in enumerate(frames) if f.filename == path), len(frames))
    lines = traceback.format_list(frames[first:][-FRAMES:])
    return "".join([*lines, *traceback.format_exception_only(error)]).rstrip()


# Finding


def find(source: ModuleType, name: str) -> list[Item]:
    """All that can be checked of what a module defines; or what has this name, of whatever kind.

    Raises:
        Unusable: nothing has this name, or what has it cannot be checked.

    """
    items = list(_defined(source))
    if not name:
        return items
    file = os.path.basename(source.__file__ or source.__name__)
    for item in items:
        functions = [item.subject, item.backward] if item.backward is not None else []
        if item.name == name or any(f.__name__ == name for f in functions):
            return [item]
    found: Any = source
    for part in name.split("."):
        if not hasattr(found, part):
            known = ", ".join(i.name for i in items) or "nothing to check"
            raise Unusable(f"{file} has no {name!r}; it has {known}")
        found = getattr(found, part)
    kind = kind_of(found) or ("function" if callable(found) else "")
    if not kind:
        raise Unusable(
            f"{name} in {file} is {found!r:.40}, of type {type(found).__name__}: give a Module, a "
            "torch.autograd.Function, a torch.nn.Module, a jax.custom_vjp, or a function"
        )
    return [Item(name, kind, found, source)]


def kind_of(value: Any) -> str:
    """What `Item.kind` says of a value; "" for a plain function and for all else."""
    torch = sys.modules.get("torch")
    if isinstance(value, Module) or (isinstance(value, type) and issubclass(value, Module)):
        return "module"
    if torch is not None:
        if isinstance(value, type) and issubclass(value, torch.autograd.Function):
            return "torch Function"
        if isinstance(value, torch.nn.Module) or (
            isinstance(value, type) and issubclass(value, torch.nn.Module)
        ):
            return "torch Module"
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(value, jax.custom_vjp):
        return "jax"
    return ""


def _defined(source: ModuleType) -> Iterator[Item]:
    """What is defined in a module and is checked without being named, in order."""
    imported = _imported(source)
    own = {name: value for name, value in vars(source).items() if name not in imported}
    seen: set[int] = set()
    made = {type(v) for v in own.values() if isinstance(v, Module)}
    used = {
        id(rule)
        for v in own.values()
        if kind_of(v) == "jax"
        for rule in (getattr(v, "fwd", None), getattr(v, "bwd", None))
    }
    pairs = dict(_pairs(own, source, used))
    for name, value in own.items():
        if id(value) in seen:
            continue
        seen.add(id(value))
        if name in pairs:
            yield pairs[name]
        kind = kind_of(value)
        if isinstance(value, type):
            wanted = value.__module__ == source.__name__ and (
                kind == "torch Function"
                or (kind == "module" and value not in made and _is_whole(value))
            )
        else:
            wanted = kind in ("module", "jax")
        if wanted:
            yield Item(name, kind, value, source)


def _is_whole(kind: type[Module]) -> bool:
    """Whether a class of modules has both forward and bwd: a common base may have neither."""
    has_rule = getattr(kind, "bwd", None) is not None
    return has_rule and kind.forward is not Module.forward and not inspect.isabstract(kind)


def _imported(source: ModuleType) -> set[str]:
    """The names that a module's source imports, outside of functions and classes."""
    try:
        waiting: list[ast.AST] = [ast.parse(inspect.getsource(source))]
    except (OSError, TypeError, SyntaxError):
        return set()
    names = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
    return names


def _pairs(
    own: Mapping[str, Any], source: ModuleType, used: set[int]
) -> Iterator[tuple[str, Item]]:
    """Forwards and their backwards by name, each under forward's name."""
    functions = {
        name: value
        for name, value in own.items()
        if isinstance(value, FunctionType)
        and value.__module__ == source.__name__
        and id(value) not in used
        and not name.startswith("test_")
    }
    taken: set[str] = set()
    for name, backward in functions.items():
        for pattern, forwards in PAIRS:
            match = re.fullmatch(pattern, name)
            if match is None:
                continue
            stem = match[1] if match.groups() else ""
            candidates = (f.format(stem) for f in forwards)
            forward = next((f for f in candidates if f in functions and f not in taken), None)
            if forward is not None:
                taken.add(forward)
                shown = stem or forward
                yield forward, Item(shown, "pair", functions[forward], source, backward)
                break
