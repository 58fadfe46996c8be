"""Programs: a training step recorded, read, simplified and run with NumPy.

The Program itself is in `groundup.program.program`.
"""

from groundup.program.api import record as record
