"""Plan and simulate distributed training on mixed GPUs over a network that changes.

>>> import tideplan
>>> found = tideplan.plan("quickstart", max_simulations=50)
>>> found.iteration_time_s > 10
True
"""

from . import _core
from ._run import Progress
from .commands import (
    calibrate,
    collective,
    command,
    compare,
    explain,
    merge,
    plan,
    planners,
    replay,
    scenarios,
    simulate,
    validate,
)
from .errors import InputError, InputTypeError, InternalError, Problem, TideplanError
from .results import Calibration, Collective, Comparison, Iteration, Plan, Replay, Result, Validation
from .scenario import Layer, Scenario

__version__: str = _core.VERSION

__all__ = [
    "Calibration",
    "Collective",
    "Comparison",
    "InputError",
    "InputTypeError",
    "InternalError",
    "Iteration",
    "Layer",
    "Plan",
    "Problem",
    "Progress",
    "Replay",
    "Result",
    "Scenario",
    "TideplanError",
    "Validation",
    "calibrate",
    "collective",
    "command",
    "compare",
    "explain",
    "merge",
    "plan",
    "planners",
    "replay",
    "scenarios",
    "simulate",
    "validate",
]
