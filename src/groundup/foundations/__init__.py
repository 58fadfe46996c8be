"""The smallest version of everything, in plain NumPy: what the lessons teach.

It is also the naive twin that tests hold the rest of the library against. Read in this order:
`matmul` (a matrix product, from three Python loops to BLAS), `passes` (forward and backward by
hand, as functions), `layers` (the same as classes), `close` (comparing the results).
"""

from groundup.foundations.close import assert_close
from groundup.foundations.layers import Array, Lin, Model, Mse, Relu, array
from groundup.foundations.matmul import (
    LADDER,
    loops_ijk,
    loops_ikj,
    matmul_3loops,
    matmul_blas,
    matmul_broadcast,
    matmul_compiled,
    matmul_dot,
    matmul_einsum,
    matmul_elementwise,
    matmul_lists,
    matmul_reordered,
)
from groundup.foundations.passes import (
    Gradients,
    LinGradients,
    forward,
    forward_and_backward,
    lin,
    lin_grad,
    mse,
    mse_grad,
    relu,
    relu_grad,
)

__all__ = [
    "LADDER",
    "Array",
    "Gradients",
    "Lin",
    "LinGradients",
    "Model",
    "Mse",
    "Relu",
    "array",
    "assert_close",
    "forward",
    "forward_and_backward",
    "lin",
    "lin_grad",
    "loops_ijk",
    "loops_ikj",
    "matmul_3loops",
    "matmul_blas",
    "matmul_broadcast",
    "matmul_compiled",
    "matmul_dot",
    "matmul_einsum",
    "matmul_elementwise",
    "matmul_lists",
    "matmul_reordered",
    "mse",
    "mse_grad",
    "relu",
    "relu_grad",
]
