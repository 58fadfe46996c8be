"""Arrays in dicts, lists and tuples, by name: `params.w` is `params["w"]`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """What is in nested containers, in order, with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{name}.{i}")
    else:
        yield name, value


def rebuilt(value: Any, name: str, new: Mapping[str, Any]) -> Any:
    """The same containers, made anew, with what `new` has for a path in place of what is there."""
    if isinstance(value, dict):
        made = value.copy()
        for key, inner in value.items():
            made[key] = rebuilt(inner, f"{name}.{key}", new)
        return made
    if isinstance(value, list | tuple):
        parts = [rebuilt(inner, f"{name}.{i}", new) for i, inner in enumerate(value)]
        if isinstance(value, list):
            return parts
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return new.get(name, value)
