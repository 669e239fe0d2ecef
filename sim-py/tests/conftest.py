"""The command beside the package: `TIDEPLAN` names it, or it lies where `cargo build --profile ci` leaves it."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import tideplan

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def command():
    path = Path(os.environ.get("TIDEPLAN", ROOT / "target" / "ci" / "tideplan"))
    if not path.is_file():
        pytest.skip(f"no command at {path}: cargo build --profile ci, or set TIDEPLAN")

    def run(*words):
        """What it prints, or the first line of why it refuses."""
        done = subprocess.run([path, *map(str, words)], capture_output=True, text=True, check=False)
        if done.returncode == 2:
            return done.stderr.splitlines()[0]
        assert done.returncode in (0, 1), done.stderr
        return json.loads(done.stdout)

    return run


def timeless(value):
    """Without what a clock says."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k != "search_time_s"}
    if isinstance(value, list):
        return [timeless(v) for v in value]
    return value


def answer(function, *args, **kwargs):
    """What a function of ours answers, or the first line of why it refuses."""
    try:
        return function(*args, **kwargs).to_dict()
    except tideplan.InputError as error:
        return f"error: {error.problems[0].message}"
