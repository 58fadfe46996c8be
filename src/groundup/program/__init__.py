"""Programs: a training step recorded, read, simplified and run."""

from groundup.program.compiled import (
    Compiled as Compiled,
    RecompileWarning as RecompileWarning,
    compile as compile,
)
from groundup.program.passes import simplify as simplify
from groundup.program.program import (
    Equation as Equation,
    Input as Input,
    Program as Program,
    Var as Var,
)
from groundup.program.record import record as record
