"""Tests of the native engine share steps, models and op cases with the tests of Programs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "program"))
