"""Programs: a training step recorded, read, simplified and run.

The Program itself is in `groundup.program.program`.
"""

from groundup.program.api import compile as compile, record as record
