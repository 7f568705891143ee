"""Progress of long work, on standard error or to a function of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]


def _silent(what: str, done: int, total: int) -> None:
    pass


@contextmanager
def progress_reporter(progress: bool | Progress) -> Iterator[Progress]:
    """Yield a function of (what, done, total).

    Parameters
    ----------
    progress
        True for a bar on standard error, False for none, or the function to call.
    """
    if callable(progress):
        yield progress
        return
    if not progress:
        yield _silent
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, int] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = int(bar.add_task(what, total=total))
            bar.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        yield report
