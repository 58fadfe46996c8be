"""How long `import groundup` takes next to `import numpy`, each in fresh processes by turns.

python benchmarks/import_time.py
"""

import os
import subprocess
import sys
import tempfile

from common import duration, interleave, machine, median, ratio
from rich.console import Console

ROUNDS = 21


def main() -> None:
    console = Console()
    console.print(machine(), highlight=False)
    commands = {"python": "pass", "numpy": "import numpy", "groundup": "import groundup"}
    with tempfile.TemporaryDirectory() as cache:
        # Compiled modules are kept, as pip keeps them; the round that is not timed makes them.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        seconds = interleave(
            {
                name: lambda code=code: subprocess.run(
                    [sys.executable, "-c", code], check=True, env=environment
                )
                for name, code in commands.items()
            },
            ROUNDS,
        )
    for name, times in seconds.items():
        console.print(f"{commands[name]:16} {duration(median(times))}")
    console.print(f"groundup / numpy: {ratio(seconds['groundup'], seconds['numpy']):.2f} x")


if __name__ == "__main__":
    main()
