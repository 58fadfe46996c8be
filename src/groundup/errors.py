"""The package's exceptions. Each message says what happened, with the values, and the likely fix.

Every class also derives from the builtin that a NumPy or PyTorch user would catch.
"""


class GroundupError(Exception):
    """The base of every error that groundup raises on purpose."""


class ShapeError(GroundupError, ValueError):
    """Shapes that do not fit together."""


class DtypeError(GroundupError, TypeError):
    """A dtype that an operation cannot take, or a mixture that would silently widen."""


class LabelError(GroundupError, ValueError):
    """Class labels outside 0..classes-1, or labels that are no integers."""


class GradientError(GroundupError, RuntimeError):
    """A backward pass that cannot run, or a `bwd` that broke its contract."""


class RecordError(GroundupError, RuntimeError):
    """A step that cannot become a Program, because the Program would keep what may change."""


class ProgramError(GroundupError, ValueError):
    """A Program that is not well formed, or does not do what the step does."""


class RecompileWarning(RuntimeWarning):
    """A compiled step is recorded again and again: something around it changes with each call."""


class NonFiniteError(GroundupError, FloatingPointError):
    """A NaN or an infinity where only finite numbers make sense."""


class StateError(GroundupError, KeyError):
    """A state dict, checkpoint or weights file that does not fit its model."""

    def __str__(self) -> str:  # KeyError would print the repr, newlines escaped
        return str(self.args[0]) if self.args else ""


class DataError(GroundupError, ValueError):
    """Data that cannot be used: damaged, empty, of the wrong form."""


class DataNotFoundError(GroundupError, FileNotFoundError):
    """A data set's file that is neither here nor could be downloaded."""


class MissingDependencyError(GroundupError, ImportError):
    """An optional library that this call needs and that is not installed."""
