"""groundup: neural networks' forward and backward passes from the ground up.

Import it as `gu`: `import groundup as gu`.
"""

from groundup import (
    data as data,
    errors as errors,
    foundations as foundations,
    nn as nn,
    optim as optim,
    train as train,
)
from groundup.backward import autograd_only as autograd_only, grad as grad, no_grad as no_grad
from groundup.check import check as check, prove as prove
from groundup.compiled import compile as compile
from groundup.creation import (
    arange as arange,
    eye as eye,
    full as full,
    ones as ones,
    ones_like as ones_like,
    zeros as zeros,
    zeros_like as zeros_like,
)
from groundup.explain import explain as explain
from groundup.functions import (
    concatenate as concatenate,
    einsum as einsum,
    one_hot as one_hot,
    pad as pad,
    split as split,
    stack as stack,
    take_along_axis as take_along_axis,
    where as where,
)
from groundup.generator import (
    Generator as Generator,
    manual_seed as manual_seed,
    rand as rand,
    randn as randn,
)
from groundup.methods import (
    abs as abs,
    argmax as argmax,
    argmin as argmin,
    clamp as clamp,
    expand as expand,
    flatten as flatten,
    log_softmax as log_softmax,
    logsumexp as logsumexp,
    max as max,
    mean as mean,
    min as min,
    permute as permute,
    reshape as reshape,
    softmax as softmax,
    squeeze as squeeze,
    std as std,
    sum as sum,
    transpose as transpose,
    unsqueeze as unsqueeze,
    var as var,
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
)
from groundup.program import record as record
from groundup.tensor import Tensor as Tensor
from groundup.train import Learner as Learner

__version__ = "0.1.0"
