import ast
import os
import subprocess
import sys
from pathlib import Path

import groundup.data

HEAVY = ("pooch", "requests", "PIL", "pandas", "pyarrow", "sklearn", "urllib", "http", "csv")

SCRIPT = f"""
import sys, types
import numpy
# The package's own __init__ imports other rooms; this test is about this one.
package = types.ModuleType("groundup")
package.__path__ = [sys.argv[1]]
sys.modules["groundup"] = package
before = set(sys.modules)
import groundup.data
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(new & set({HEAVY!r})))
"""


def test_importing_the_room_imports_nothing_heavy() -> None:
    package = Path(groundup.data.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(package)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(package.parent)},
    )
    assert result.stdout.strip() == ""


def test_the_room_imports_only_errors_and_itself() -> None:
    for path in Path(groundup.data.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("groundup"):
                assert node.module == "groundup.errors" or node.module.startswith("groundup.data.")


def test_everything_public_is_there_and_documented() -> None:
    for name in groundup.data.__all__:
        value = getattr(groundup.data, name)
        assert isinstance(value, tuple) or value.__doc__
