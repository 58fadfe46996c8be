"""prove. It imports what it needs only when called: `import groundup` is light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from groundup.nn.module import Module

if TYPE_CHECKING:
    from groundup.check.proof import Proof


def prove(module: Module, *args: Any, constant: Sequence[str] = ()) -> Proof:
    """Prove that a module's `bwd` computes the derivative of its `forward`, or refute it.

        gu.prove(nn.Gelu(), (2, 3)).assert_ok()
        gu.prove(nn.CrossEntropy(), (2, 3), np.array([0, 2]))

    A copy of the module is run in float64 and recorded; then forward and bwd are computed on
    SymPy's symbols in place of numbers. Each entry of each gradient minus SymPy's derivative of
    sum(dout * out) must be zero, for all values of all symbols at once. That is shown by exact
    arithmetic of fractions of polynomials; where there are cases (relu, max, abs), in every region
    between them. On their borders, such as relu at 0, nothing is claimed.

    A module without a `bwd` has the backward pass proven that it gets from its parts: the `bwd`s
    of its submodules, and the rules of its ops.

    Numbers in the module are taken for what they stand for: 0.7071067811865476 for sqrt(1/2).

    Args:
        module: any module; it stays as it is. Its parameters and its buffers of floating-point
            numbers become symbols, too.
        args: what it is called with. A shape, such as (2, 3), stands for symbols of that shape.
            Of an array or Tensor of floating-point numbers only the shape counts; integers and
            booleans (labels, masks) are taken as they are. Keep shapes small: a wrong rule is
            wrong at (2, 3), too.
        constant: names of arguments that get no gradient: symbols, but nothing to differentiate by.

    Returns:
        What was shown of each gradient. True if all are proven.

    Raises:
        GroundupError: there is nothing to prove: a wrong argument, too many symbols, random
            numbers, an op that has no symbolic form, or nothing to differentiate.

    """
    from groundup.check.proof import proved

    return proved(module, args, constant)
