"""What a case of the corpus is: a backward pass as somebody would write it, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Made(NamedTuple):
    """What is checked: `gu.check(subject, *inputs, **options)`."""

    subject: Any
    inputs: tuple[Any, ...]
    options: dict[str, Any] = {}  # noqa: RUF012 (never written to)


@dataclass(frozen=True)
class Case:
    """A backward pass.

    Attributes:
        name: unique, says what it is: "layernorm_eps_outside".
        make: from a random generator, the subject and its inputs.
        kind: the planted mistake, by the name that the report uses; "" where all is right.
        wrong: the names of the gradients that are wrong, inputs by the argument's name and
            parameters by their path.
        also: other kinds that name the same mistake as well, because both give the same function.
    """

    name: str
    make: Callable[[np.random.Generator], Made]
    kind: str = ""
    wrong: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass
class Corpus:
    """Cases, collected by a decorator over the functions that make them."""

    cases: list[Case] = field(default_factory=list)

    def case(
        self, kind: str = "", wrong: str = "", also: str = ""
    ) -> Callable[[Callable[[np.random.Generator], Made]], Callable[[np.random.Generator], Made]]:
        """Add a case: the function's name is the case's, `wrong` and `also` lists of words."""

        def added(
            make: Callable[[np.random.Generator], Made],
        ) -> Callable[[np.random.Generator], Made]:
            name = make.__name__
            assert all(c.name != name for c in self.cases), name
            words = tuple(wrong.split()), tuple(also.split())
            self.cases.append(Case(name, make, kind, *words))
            return make

        return added
