"""The extension module: the command, run in this process."""

from collections.abc import Callable

VERSION: str
PANIC: int

class Answer:
    """Where a planner's answer goes; the first counts."""

    def give(self, plan: str) -> None: ...
    def fail(self, why: str) -> None: ...

def run(
    words: list[str],
    scenarios: dict[str, str],
    planners: list[str],
    ask: Callable[[str, str, Answer], None] | None,
    progress: Callable[[int, int, float | None, float], None] | None,
    best_so_far: bool,
) -> tuple[int, str, str, str]: ...
