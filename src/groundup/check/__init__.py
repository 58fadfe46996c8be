"""Checks of gradients."""

from groundup.check.layers import LayerCheck as LayerCheck
from groundup.check.layers import check_layers as check_layers
