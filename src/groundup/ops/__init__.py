"""The primitive ops, one file a family; each has its NumPy `forward` and its `bwd` side by side."""

from groundup.ops.base import Op as Op
from groundup.ops.checks import (
    check_finite as check_finite,
    check_labels as check_labels,
    check_range as check_range,
)
from groundup.ops.constants import (
    arange as arange,
    array_ as array_,
    full as full,
    size as size,
    value as value,
)
from groundup.ops.elementwise import (
    abs_ as abs_,
    add as add,
    cast as cast,
    clamp as clamp,
    cos as cos,
    detach as detach,
    div as div,
    equal as equal,
    erf as erf,
    exp as exp,
    expm1 as expm1,
    floor as floor,
    greater as greater,
    greater_equal as greater_equal,
    less as less,
    less_equal as less_equal,
    log as log,
    log1p as log1p,
    logical_and as logical_and,
    logical_not as logical_not,
    logical_or as logical_or,
    maximum as maximum,
    minimum as minimum,
    mul as mul,
    neg as neg,
    not_equal as not_equal,
    pow_ as pow_,
    power as power,
    relu as relu,
    round_ as round_,
    sigmoid as sigmoid,
    sign as sign,
    sin as sin,
    sqrt as sqrt,
    sub as sub,
    tanh as tanh,
    where as where,
)
from groundup.ops.indexing import (
    scatter_add as scatter_add,
    slice_ as slice_,
    take as take,
    unslice as unslice,
)
from groundup.ops.linalg import (
    einsum as einsum,
    matmul as matmul,
)
from groundup.ops.random import (
    normal as normal,
    uniform as uniform,
)
from groundup.ops.reduce import (
    amax as amax,
    amin as amin,
    argmax as argmax,
    argmin as argmin,
    cumsum as cumsum,
    log_softmax as log_softmax,
    mean as mean,
    softmax as softmax,
    sum_ as sum_,
)
from groundup.ops.shape import (
    concatenate as concatenate,
    expand as expand,
    pad as pad,
    reshape as reshape,
    transpose as transpose,
)
