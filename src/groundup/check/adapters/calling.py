"""How a pair's backward is called: found from its signature and from what forward returns."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundup.check.adapters.trees import leaves
from groundup.errors import GradientError

CACHE = {"cache", "caches", "saved", "ctx", "context", "memory", "tape", "state", "residuals"}
OUTPUT = {"out", "output", "outputs", "y", "result", "fx"}
_GRADIENT = re.compile(
    r"(d|g$|g_|grad|delta|upstream|cot|ct|.*_(bar|grad)$|.*grad$)", re.IGNORECASE
)


def is_gradient(name: str) -> bool:
    """Whether a parameter is named like a gradient that arrives: dout, grad_output, g."""
    return _GRADIENT.match(name) is not None


def floating(value: Any) -> bool:
    """Whether a value is an array or number of floats, or complex for the complex step."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return kind in ("f", "c") or isinstance(value, float | complex)


def all_floating(value: Any) -> bool:
    """Whether a value is a floating-point array, or a container of nothing else."""
    if isinstance(value, tuple | dict | list):
        return False
    return floating(value)


@dataclass(frozen=True)
class Calling:
    """One way to call backward.

    Attributes:
        outputs: how many of forward's results are outputs; None: the result is the output.
        roles: for each parameter of backward its keyword ("" by position), what it gets and
            which: an "input", a "saved" result, the "cotangent", "all" inputs, the "output".
        scaled: there is no cotangent: backward gives the gradient of the number that is returned.

    """

    outputs: int | None
    roles: tuple[tuple[str, str, Any], ...]
    scaled: bool = False

    def split(self, result: Any) -> tuple[Any, Sequence[Any]]:
        """The outputs, one or a tuple, and what forward saved."""
        if self.outputs is None:
            return result, ()
        kept = result[: self.outputs]
        return (kept[0] if self.outputs == 1 else tuple(kept)), result[self.outputs :]

    def arguments(
        self, inputs: Sequence[Any], out: Any, saved: Sequence[Any], cotangent: Any
    ) -> tuple[list[Any], dict[str, Any]]:
        """What backward is called with."""
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for keyword, role, which in self.roles:
            if role == "all":
                positional.extend(inputs[i] for i in which)
                continue
            if role == "input":
                value = inputs[which]
            elif role == "output":
                value = out
            elif role == "cotangent":
                value = cotangent if which is None else cotangent[which]
            elif which is None:
                value = saved[0] if len(saved) == 1 else tuple(saved)
            else:
                value = saved[which]
            if keyword:
                keywords[keyword] = value
            else:
                positional.append(value)
        return positional, keywords


def callings(names: Sequence[str], backward: Any, result: Any) -> Iterator[Calling]:
    """Ways to call a backward, the likeliest first.

    Args:
        names: forward's inputs.
        backward: the function.
        result: what forward returned.

    """
    parameters = parameters_of(backward, names)
    known: dict[str, tuple[str, Any]] = {}
    unknown: list[str] = []
    caches: list[str] = []
    for p in parameters:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if p.name in names:
            known[p.name] = "input", names.index(p.name)
        elif p.name in OUTPUT:
            known[p.name] = "output", None
        elif p.name in CACHE:
            caches.append(p.name)
        elif p.default is p.empty:
            unknown.append(p.name)
    alone = next((n for n in unknown if is_gradient(n)), unknown[0] if unknown else None)
    several = isinstance(result, tuple | list) and len(result) > 1
    parts = list(result) if several else [result]
    for outputs, given in _splits(parts, several, unknown, caches, alone):
        roles = []
        used = {which for role, which in known.values() if role == "input"}
        for p in parameters:
            keyword = p.name if p.kind is p.KEYWORD_ONLY else ""
            if p.kind is p.VAR_POSITIONAL:
                rest = tuple(i for i in range(len(names)) if i not in used)
                roles.append(("", "all", rest))
            elif p.name in known:
                roles.append((keyword, *known[p.name]))
            elif p.name in given:
                roles.append((keyword, *given[p.name]))
            elif p.default is not p.empty and not keyword:
                break
        yield Calling(outputs, tuple(roles), scaled=alone is None)


def parameters_of(backward: Any, names: Sequence[str]) -> list[inspect.Parameter]:
    """Backward's parameters; of a function that does not tell, a cotangent and the inputs."""
    try:
        return list(inspect.signature(backward).parameters.values())
    except (TypeError, ValueError):
        kind = inspect.Parameter.POSITIONAL_ONLY
        return [inspect.Parameter(n, kind) for n in ("dout", *names)]


def _splits(
    parts: list[Any], several: bool, unknown: list[str], caches: list[str], alone: str | None
) -> Iterator[tuple[int | None, dict[str, tuple[str, Any]]]]:
    """How many results are outputs, and what the parameters get that are not known by name."""
    n = len(parts)
    one = {} if alone is None else {alone: ("cotangent", None)}
    saved = [*caches, *(u for u in unknown if u != alone)]
    each = {u: ("cotangent", i) for i, u in enumerate(unknown)}
    if not several:
        if not saved:
            yield None, one
        return
    # The first result that is no array begins what is saved.
    first = next((i for i, p in enumerate(parts) if i and not all_floating(p)), n)
    if first == n and len(unknown) == n and not caches and all(map(is_gradient, unknown)):
        yield None, each
    if not saved:
        if first < n:
            yield first, one
        else:
            yield None, one
            yield 1, one
        return
    cached: dict[str, tuple[str, Any]] = dict.fromkeys(caches, ("saved", None))
    ends = dict.fromkeys([first] if first < n else [1, n - 1])
    for end in ends:
        if len(unknown) == end > 1 and len(caches) == 1:
            yield end, each | cached
    for end in ends:
        if len(saved) == 1:
            yield end, one | {saved[0]: ("saved", None)}
    for end in ends:
        if len(saved) == n - end:
            yield end, one | {s: ("saved", i) for i, s in enumerate(saved)}
    if len(saved) == n - 1:
        yield 1, one | {s: ("saved", i) for i, s in enumerate(saved)}


# What backward returns


def by_name(returned: Any, inputs: Mapping[str, Any], checked: Sequence[str]) -> dict[str, Any]:
    """The gradients that backward returned, by the path of what they are of.

    Args:
        returned: a tuple or list in the order of the inputs (all or those that are checked), a
            dict by name, or one array.
        inputs: forward's inputs by name.
        checked: the names of the inputs that may have a gradient.

    Raises:
        GradientError: it is none of these.

    """
    found: dict[str, Any] = {}
    if isinstance(returned, dict):
        keys = {str(k): v for k, v in returned.items()}
        for name in checked:
            for path, _ in leaves(inputs[name], name):
                key = _key(keys, path, name)
                if key is not None:
                    found[path] = keys.pop(key)
            key = _key(keys, name, name)
            if key is not None:
                found.update(_inside(keys.pop(key), inputs[name], name))
        if not found:
            raise GradientError(f"a dict with the keys {list(returned)}")
        return found
    if isinstance(returned, tuple | list):
        for names in (list(inputs), list(checked)):
            if len(returned) == len(names):
                for name, value in zip(names, returned, strict=True):
                    found.update(_inside(value, inputs[name], name))
                return found
        raise GradientError(
            f"a {type(returned).__name__} of {len(returned)}, for {len(inputs)} inputs of which "
            f"{len(checked)} are floating-point"
        )
    if returned is None or (
        not hasattr(returned, "__array__") and not isinstance(returned, float | int)
    ):
        raise GradientError(f"{type(returned).__name__}")
    return {checked[0]: returned}


def _key(keys: Mapping[str, Any], path: str, name: str) -> str | None:
    """Under which key a gradient is: x, dx, grad_x, x_grad, of `params.w` also w."""
    stems = [path, *([path[len(name) + 1 :]] if path != name else [])]
    for stem in stems:
        for key in (f"d{stem}", f"grad_{stem}", f"{stem}_grad", f"d_{stem}", f"g{stem}", stem):
            if key in keys:
                return key
    return None


def _inside(value: Any, given: Any, name: str) -> dict[str, Any]:
    """The gradients of an input: of one in containers, those in the same containers."""
    if not isinstance(given, dict | list | tuple) or value is None:
        return {name: value}
    if isinstance(value, dict) and isinstance(given, dict):
        found = {}
        keys = {str(k): v for k, v in value.items()}
        for key, inner in given.items():
            match = _key(keys, str(key), str(key))
            if match is not None:
                found.update(_inside(keys[match], inner, f"{name}.{key}"))
        return found
    if isinstance(value, list | tuple) and len(value) == len(given):
        return {
            path: v
            for i, (v, g) in enumerate(zip(value, given, strict=True))
            for path, v in _inside(v, g, f"{name}.{i}").items()
        }
    raise GradientError(f"for {name} a {type(value).__name__}, which is not built like {name}")
