"""Modules, layers and losses."""

from groundup.nn import init as init
from groundup.nn.layers import (
    Dropout as Dropout,
    Flatten as Flatten,
    Gelu as Gelu,
    LeakyRelu as LeakyRelu,
    Lin as Lin,
    Linear as Linear,
    Mask as Mask,
    Relu as Relu,
    Sequential as Sequential,
    Sigmoid as Sigmoid,
    Tanh as Tanh,
)
from groundup.nn.losses import (
    BinaryCrossEntropyWithLogits as BinaryCrossEntropyWithLogits,
    CrossEntropy as CrossEntropy,
    Loss as Loss,
    Mae as Mae,
    Mse as Mse,
)
from groundup.nn.module import Module as Module
from groundup.tensor import Buffer as Buffer, Parameter as Parameter
