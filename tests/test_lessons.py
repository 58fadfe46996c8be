"""Every lesson runs, and its notebook is what its script builds."""

import importlib.util
import sys
from pathlib import Path

import pytest

for needed in ("nbclient", "ipykernel", "jupytext"):
    pytest.importorskip(needed, reason=f'{needed} is missing: pip install "groundup[lessons]"')
nbformat = pytest.importorskip("nbformat")  # a part of nbclient

LESSONS = Path(__file__).parents[1] / "lessons"
NOTEBOOKS = sorted(LESSONS.glob("*.ipynb"))
KIB = 1024

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("lessons_build", LESSONS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_script_has_its_notebook_and_the_reverse(build):
    assert NOTEBOOKS
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in build.scripts()]


def test_the_index_names_every_lesson():
    index = (LESSONS / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if f"({path.name})" not in index] == []


@each_notebook
def test_the_notebook_is_that_of_its_script(build, path):
    notebook = nbformat.read(path, as_version=4)
    built = build.read(path.with_suffix(".py"))
    fix = f"{path.name} is out of date: python lessons/build.py {path.stem[:2]}"
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in built.cells
    ], fix


@each_notebook
def test_the_published_outputs(build, path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert build.blemishes(notebook) == []
    assert path.stat().st_size < 300 * KIB


@each_notebook
def test_the_lesson_runs(build, path):
    notebook = nbformat.read(path, as_version=4)
    build.execute(notebook)  # raises, with the traceback, where a cell does
    assert build.blemishes(notebook) == []


def test_blemishes_are_found(build):
    """What the two tests above rely on."""
    v4 = nbformat.v4
    outputs = [
        v4.new_output("stream", name="stdout", text="1/2/3 is fine, so is <b>this</b>/that"),
        v4.new_output("stream", name="stderr", text="RuntimeWarning: overflow"),
        v4.new_output("stream", name="stdout", text=f"saved to {sys.prefix}/file"),
        v4.new_output("display_data", data={"text/plain": "File /home/me/x.py"}),
    ]
    notebook = v4.new_notebook(
        cells=[v4.new_code_cell("", outputs=[o], id=f"c{i}") for i, o in enumerate(outputs)]
    )
    assert [text.split()[0] for text in build.blemishes(notebook)] == ["c1", "c2", "c3"]
