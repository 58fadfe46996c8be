"""Build the lessons: run each NN_name.py and write NN_name.ipynb, outputs included.

python lessons/build.py          # all lessons
python lessons/build.py 01 02    # those whose names begin so
"""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
# The start of an absolute path: what a reader's machine does not have.
MACHINE_PATH = re.compile(r"(?<![\w.<])(?:/[\w.-]+/[\w.-]+|[A-Z]:\\\w+)")


def scripts() -> list[Path]:
    """The lessons' sources, in the order of their numbers."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def read(script: Path) -> NotebookNode:
    """The script as a notebook without outputs. The same script gives the same cells and ids."""
    notebook = jupytext.read(script, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(notebook: NotebookNode) -> None:
    """Run all cells in a fresh kernel of this Python, in an empty folder; fill in the outputs.

    An error in a cell is a nbclient CellExecutionError with the cell and the traceback.
    """
    # The kernel starts in another folder, where a relative PYTHONPATH=src would lead nowhere.
    search = [
        str(Path(p).resolve()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(search)}
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=60,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
        ).execute(env=environment)


def blemishes(notebook: NotebookNode) -> list[str]:
    """What a published notebook must not show: warnings, paths of the machine that ran it."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                found.append(f"{cell.id} wrote to stderr: {output.text}")
            data = output.get("data", {})
            texts = [output.get("text", ""), *(v for k, v in data.items() if k[:5] == "text/")]
            for text in texts:
                if path := MACHINE_PATH.search(text):
                    found.append(f"{cell.id} shows a path of this machine: {path[0]}")
    return found


def main(prefixes: list[str]) -> None:
    for script in scripts():
        if prefixes and not script.name.startswith(tuple(prefixes)):
            continue
        start = time.perf_counter()
        notebook = read(script)
        execute(notebook)
        if found := blemishes(notebook):
            raise SystemExit(f"{script.name}: " + "; ".join(found))
        target = script.with_suffix(".ipynb")
        nbformat.write(notebook, target)
        size = target.stat().st_size / 1024
        print(f"{target.name}: {time.perf_counter() - start:.0f} s, {size:.0f} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
