"""Random numbers as ops of a key and a counter.

Both are data, so that a step run again with the next count draws fresh numbers, and one run again
with the same count draws the same. Every count has its own 2**64 blocks of the stream of
Philox4x64-10.

J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup.ops import helpers
from groundup.ops.base import Array, Op, Shape
from groundup.ops.constants import lengths
from groundup.ops.text import Text, call, method


class Draw(Op):
    differentiable = False
    chooses_dtype = True
    helper = staticmethod(helpers.philox)

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        return lengths(self.name, attrs["shape"])

    def dtype(self, *given: Any, **attrs: Any) -> np.dtype[Any]:
        return np.dtype(attrs["dtype"])  # type: ignore[no-any-return]

    def _written(self, ins: tuple[Text, ...], name: str, out: str, dtype: Any) -> Text:
        stream = call("philox", *(x.code for x in ins))
        return method(stream, name, out, dtype=None if dtype == np.float64 else np.dtype(dtype))


class Uniform(Draw):
    """Uniform numbers in [0, 1)."""

    def forward(self, key: Array, counter: Array, *, shape: tuple[int, ...], dtype: Any) -> Array:
        return helpers.philox(key, counter).random(shape, dtype=dtype)

    def text(self, *ins: Text, out: str, dtype: Any, **attrs: Any) -> Text:  # type: ignore[override]
        return self._written(ins, "random", out, dtype)


class Normal(Draw):
    """Normal numbers of mean 0 and standard deviation 1."""

    def forward(self, key: Array, counter: Array, *, shape: tuple[int, ...], dtype: Any) -> Array:
        return helpers.philox(key, counter).standard_normal(shape, dtype=dtype)

    def text(self, *ins: Text, out: str, dtype: Any, **attrs: Any) -> Text:  # type: ignore[override]
        return self._written(ins, "standard_normal", out, dtype)


uniform, normal = Uniform(), Normal()
