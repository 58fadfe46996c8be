"""Checks of gradients, and what is wrong with them."""

from groundup.check.api import check as check
from groundup.check.layers import LayerCheck as LayerCheck, check_layers as check_layers
from groundup.check.prove import prove as prove
