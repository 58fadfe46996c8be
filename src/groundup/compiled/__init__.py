"""Compiled steps: recorded once, compared with what they do eagerly, then run by an engine."""

from groundup.compiled.api import compile as compile
