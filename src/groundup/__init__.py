"""groundup: neural networks' forward and backward passes from the ground up.

Import it as `gu`: `import groundup as gu`.
"""

from groundup import (
    check as check,
    data as data,
    errors as errors,
    foundations as foundations,
    nn as nn,
    optim as optim,
)
from groundup.backward import autograd_only as autograd_only, grad as grad, no_grad as no_grad
from groundup.functions import (
    concatenate as concatenate,
    einsum as einsum,
    log_softmax as log_softmax,
    logsumexp as logsumexp,
    one_hot as one_hot,
    pad as pad,
    softmax as softmax,
    split as split,
    stack as stack,
    take_along_axis as take_along_axis,
)
from groundup.generator import (
    Generator as Generator,
    manual_seed as manual_seed,
    rand as rand,
    randn as randn,
)
from groundup.ops import (
    Op as Op,
    cos as cos,
    erf as erf,
    exp as exp,
    expm1 as expm1,
    log as log,
    log1p as log1p,
    matmul as matmul,
    maximum as maximum,
    minimum as minimum,
    relu as relu,
    sigmoid as sigmoid,
    sign as sign,
    sin as sin,
    sqrt as sqrt,
    tanh as tanh,
    where as where,
)
from groundup.tensor import Tensor as Tensor

__version__ = "0.1.0"
