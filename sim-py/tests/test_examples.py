"""The examples run: notebooks cell by cell, the planner on a part of the suite."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks(path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    book = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells), "committed without outputs"
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute(cwd=str(path.parent))
    shown = [output.get("data", {}) for cell in book.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in data for data in shown) >= 2, "charts"
    assert any("<svg" in data.get("text/html", "") for data in shown), "the package's own pictures"


def test_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["changing_network", "first_plan"]


def test_a_planner_of_ones_own():
    words = [sys.executable, str(EXAMPLES / "my_planner.py"), "suite-a100x8", "suite-v100x12-t4x4"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "over 2 scenarios" in done.stdout, done.stdout
