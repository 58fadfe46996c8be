"""Optional libraries, imported when a call needs them."""

import importlib
from typing import Any

from groundup.errors import MissingDependencyError


def optional(module: str, extra: str, purpose: str) -> Any:
    """The imported `module`, or an error that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs {module.partition('.')[0]}, which cannot be imported ({error}). "
            f"Fix: pip install groundup[{extra}]"
        ) from error
