"""explain, which imports what it needs when it is called: `import groundup` is light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from groundup.nn import Module
from groundup.optim import Optimizer

if TYPE_CHECKING:
    from groundup.explain.explanation import Explanation


def explain(
    model: Module,
    x: Any,
    y: Any = None,
    loss: Module | None = None,
    optimizer: Optimizer | None = None,
) -> Explanation:
    """Everything that there is to see in a step of a model.

    The step is run and recorded on a copy: model, optimizer and random stream stay as they are.

    Args:
        model: any Module.
        x: a batch of inputs; a tuple of several for a model that takes several.
        y: its targets; without them only the forward pass is explained.
        loss: a module of (output, target); cross-entropy for integer targets and the mean squared
            error for others unless given.
        optimizer: one made of the model's parameters, to explain the update too.

    Returns:
        In a notebook it shows itself; elsewhere `print()` and `save(path)` show it.

    """
    from groundup.explain.explanation import Explanation
    from groundup.explain.recorded import recorded

    return Explanation(type(model).__name__, recorded(model, x, y, loss, optimizer))
