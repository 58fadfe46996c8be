"""Modules, layers and losses."""

from groundup.nn import init as init
from groundup.nn.layers import (
    Dropout as Dropout,
)
from groundup.nn.layers import Flatten as Flatten
from groundup.nn.layers import Gelu as Gelu
from groundup.nn.layers import LeakyRelu as LeakyRelu
from groundup.nn.layers import Lin as Lin
from groundup.nn.layers import Linear as Linear
from groundup.nn.layers import Mask as Mask
from groundup.nn.layers import Relu as Relu
from groundup.nn.layers import Sequential as Sequential
from groundup.nn.layers import Sigmoid as Sigmoid
from groundup.nn.layers import Tanh as Tanh
from groundup.nn.losses import BinaryCrossEntropyWithLogits as BinaryCrossEntropyWithLogits
from groundup.nn.losses import CrossEntropy as CrossEntropy
from groundup.nn.losses import Loss as Loss
from groundup.nn.losses import Mae as Mae
from groundup.nn.losses import Mse as Mse
from groundup.nn.module import Module as Module
from groundup.tensor import Buffer as Buffer
from groundup.tensor import Parameter as Parameter
