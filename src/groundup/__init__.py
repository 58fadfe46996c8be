"""groundup: neural networks' forward and backward passes from the ground up.

Import it as `gu`: `import groundup as gu`.
"""

from groundup import errors as errors
from groundup import nn as nn
from groundup import optim as optim
from groundup.backward import autograd_only as autograd_only
from groundup.backward import grad as grad
from groundup.backward import no_grad as no_grad
from groundup.functions import concatenate as concatenate
from groundup.functions import einsum as einsum
from groundup.functions import log_softmax as log_softmax
from groundup.functions import logsumexp as logsumexp
from groundup.functions import one_hot as one_hot
from groundup.functions import pad as pad
from groundup.functions import softmax as softmax
from groundup.functions import split as split
from groundup.functions import stack as stack
from groundup.functions import take_along_axis as take_along_axis
from groundup.generator import Generator as Generator
from groundup.generator import manual_seed as manual_seed
from groundup.generator import rand as rand
from groundup.generator import randn as randn
from groundup.ops import Op as Op
from groundup.ops import cos as cos
from groundup.ops import erf as erf
from groundup.ops import exp as exp
from groundup.ops import expm1 as expm1
from groundup.ops import log as log
from groundup.ops import log1p as log1p
from groundup.ops import matmul as matmul
from groundup.ops import maximum as maximum
from groundup.ops import minimum as minimum
from groundup.ops import relu as relu
from groundup.ops import sigmoid as sigmoid
from groundup.ops import sign as sign
from groundup.ops import sin as sin
from groundup.ops import sqrt as sqrt
from groundup.ops import tanh as tanh
from groundup.ops import where as where
from groundup.tensor import Tensor as Tensor

__version__ = "0.1.0"
