"""The primitive ops, one file a family; each has its NumPy `forward` and its `bwd` side by side."""

from groundup.ops.base import Op as Op
from groundup.ops.elementwise import (
    abs_ as abs_,
)
from groundup.ops.elementwise import (
    add as add,
)
from groundup.ops.elementwise import (
    cast as cast,
)
from groundup.ops.elementwise import (
    clamp as clamp,
)
from groundup.ops.elementwise import (
    cos as cos,
)
from groundup.ops.elementwise import (
    detach as detach,
)
from groundup.ops.elementwise import (
    div as div,
)
from groundup.ops.elementwise import (
    equal as equal,
)
from groundup.ops.elementwise import (
    erf as erf,
)
from groundup.ops.elementwise import (
    exp as exp,
)
from groundup.ops.elementwise import (
    expm1 as expm1,
)
from groundup.ops.elementwise import (
    floor as floor,
)
from groundup.ops.elementwise import (
    greater as greater,
)
from groundup.ops.elementwise import (
    greater_equal as greater_equal,
)
from groundup.ops.elementwise import (
    less as less,
)
from groundup.ops.elementwise import (
    less_equal as less_equal,
)
from groundup.ops.elementwise import (
    log as log,
)
from groundup.ops.elementwise import (
    log1p as log1p,
)
from groundup.ops.elementwise import (
    logical_and as logical_and,
)
from groundup.ops.elementwise import (
    logical_not as logical_not,
)
from groundup.ops.elementwise import (
    logical_or as logical_or,
)
from groundup.ops.elementwise import (
    maximum as maximum,
)
from groundup.ops.elementwise import (
    minimum as minimum,
)
from groundup.ops.elementwise import (
    mul as mul,
)
from groundup.ops.elementwise import (
    neg as neg,
)
from groundup.ops.elementwise import (
    not_equal as not_equal,
)
from groundup.ops.elementwise import (
    pow_ as pow_,
)
from groundup.ops.elementwise import (
    power as power,
)
from groundup.ops.elementwise import (
    relu as relu,
)
from groundup.ops.elementwise import (
    round_ as round_,
)
from groundup.ops.elementwise import (
    sigmoid as sigmoid,
)
from groundup.ops.elementwise import (
    sign as sign,
)
from groundup.ops.elementwise import (
    sin as sin,
)
from groundup.ops.elementwise import (
    sqrt as sqrt,
)
from groundup.ops.elementwise import (
    sub as sub,
)
from groundup.ops.elementwise import (
    tanh as tanh,
)
from groundup.ops.elementwise import (
    where as where,
)
from groundup.ops.indexing import (
    scatter_add as scatter_add,
)
from groundup.ops.indexing import (
    slice_ as slice_,
)
from groundup.ops.indexing import (
    take as take,
)
from groundup.ops.indexing import (
    unslice as unslice,
)
from groundup.ops.linalg import (
    einsum as einsum,
)
from groundup.ops.linalg import (
    matmul as matmul,
)
from groundup.ops.random import (
    uniform as uniform,
)
from groundup.ops.reduce import (
    amax as amax,
)
from groundup.ops.reduce import (
    amin as amin,
)
from groundup.ops.reduce import (
    argmax as argmax,
)
from groundup.ops.reduce import (
    argmin as argmin,
)
from groundup.ops.reduce import (
    cumsum as cumsum,
)
from groundup.ops.reduce import (
    mean as mean,
)
from groundup.ops.reduce import (
    sum_ as sum_,
)
from groundup.ops.shape import (
    concatenate as concatenate,
)
from groundup.ops.shape import (
    expand as expand,
)
from groundup.ops.shape import (
    pad as pad,
)
from groundup.ops.shape import (
    reshape as reshape,
)
from groundup.ops.shape import (
    transpose as transpose,
)
