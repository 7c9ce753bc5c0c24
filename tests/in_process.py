"""Commands of `chronos` and `chronos-nas` in this process, for what a test sets up or looks at.

The same words, the same exit code and the same bytes as of a program, without the third of a second until one has
started. What a test is about (a fire, a run, a kill, an environment) it starts as a program; with
CHRONOS_TEST_REQUIRE_ALL=1, as in CI, everything is.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_ONE = threading.Lock()
"""Both streams are this process's: one command at a time has them."""


def may_run_here() -> bool:
    """Return whether a command may be run in this process."""
    return os.environ.get("CHRONOS_TEST_REQUIRE_ALL") != "1"


def run_here(main: Callable[[list[str]], int], arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; what came of it, as `subprocess.run` says it."""
    with _ONE, _kept(contextlib.redirect_stdout) as out, _kept(contextlib.redirect_stderr) as err:
        code = int(main(list(arguments)))
    return subprocess.CompletedProcess(list(arguments), code, out(), err())


@contextlib.contextmanager
def _kept(
    redirect: Callable[[io.TextIOWrapper], contextlib.AbstractContextManager[object]],
) -> Iterator[Callable[[], str]]:
    """Keep what is written to a stream; calling what is yielded gives the text, as a pipe would have it."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    with redirect(stream):
        yield lambda: stream.buffer.getvalue().decode()  # the stream, once nobody has it, closes what is below it
