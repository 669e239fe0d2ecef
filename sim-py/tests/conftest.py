"""The command beside the package: `TIDEPLAN` names it, or it lies where `cargo build --profile ci` leaves it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def command():
    path = Path(os.environ.get("TIDEPLAN", ROOT / "target" / "ci" / "tideplan"))
    if not path.is_file():
        pytest.skip(f"no command at {path}: cargo build --profile ci, or set TIDEPLAN")

    def run(*words, status=(0, 1)):
        done = subprocess.run([path, *map(str, words)], capture_output=True, text=True, check=False)
        assert done.returncode in status, done.stderr
        return json.loads(done.stdout)

    return run


def timeless(value):
    """Without what a clock says."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k != "search_time_s"}
    if isinstance(value, list):
        return [timeless(v) for v in value]
    return value
