"""The mistakes that a diagnosis can name."""

from __future__ import annotations

# By name: the mistake in a phrase, and what to do about it.
KINDS: dict[str, tuple[str, str]] = {
    "factor": (
        "a wrong constant factor",
        "multiply by the factor that the evidence shows",
    ),
    "sign": ("a wrong sign", "negate it"),
    "mean": (
        "a mean that is missing, or one too many",
        "divide by the number of averaged entries exactly once: where forward takes the mean",
    ),
    "transpose": ("a transpose that is missing, or one too many", "transpose it"),
    "sum": (
        "a missing sum over an axis that forward broadcasts along",
        "sum the gradient over that axis",
    ),
    "bias": (
        "a bias gradient that is not summed over the batch",
        "sum over the batch: db = dout.sum(0)",
    ),
    "mask": (
        "a mask that is missing, or taken from the wrong tensor",
        "let the gradient pass exactly where forward let the value pass",
    ),
    "output": (
        "the output used where the input is meant, or the reverse",
        "evaluate the derivative at the value that its formula is for",
    ),
    "overwritten": (
        "one of several uses overwrites the others' gradient: `=` where `+=` is meant",
        "add up what all uses of the value contribute",
    ),
    "scatter": (
        "assignment by index where entries repeat: the last one wins",
        "add at the index (np.add.at, index_add_): repeated indices add up",
    ),
    "stale": (
        "a value kept from an earlier call",
        "use what this call of forward computed; keep it anew at every call",
    ),
    "activation": (
        "the derivative of forward's activation is forgotten",
        "multiply by the activation's derivative at its input",
    ),
    "softmax": (
        "the softmax Jacobian taken as diagonal",
        "every logit moves every probability: dx = p * (dp - (dp * p).sum(axis, keepdims=True))",
    ),
    "eps": (
        "eps in another place than in forward",
        "put eps where forward has it, such as inside the root: 1 / sqrt(var + eps)",
    ),
    "axis": (
        "a reduction or rearrangement along the wrong axis",
        "use the axis that forward uses",
    ),
    "detached": (
        "a path of the gradient is missing: what it goes through is taken as a constant",
        "add the gradient that comes through that path",
    ),
    "swapped": (
        "the gradients of two arguments are exchanged",
        "return them in the order of the arguments",
    ),
    "cotangent": (
        "the gradient that arrives is ignored, or used in part",
        "multiply by the gradient of the output (out.g, dout), entry by entry",
    ),
    "operand": (
        "a wrong value as a factor",
        "use the value that the derivative is made of",
    ),
    "shift": ("an index or a time step off by one", "line the steps up with forward's"),
    "formula": ("a wrong derivative formula", "derive it again"),
    "noise": ("nothing but float32 rounding", "compare in float64"),
}
