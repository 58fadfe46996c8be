"""Checks of gradients."""

from groundup.check.layers import LayerCheck as LayerCheck, check_layers as check_layers
from groundup.check.prove import prove as prove
