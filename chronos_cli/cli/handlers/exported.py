"""Hand over exported jobs: into a file or a folder, or on standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chronos_cli.files import write_output

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output


def hand_over(
    invocation: Invocation,
    files: Mapping[str, str],
    *,
    count: int,
    left_out: Mapping[str, str],
    output: str | None,
    content: Mapping[str, Any] | None = None,
) -> int:
    """Write texts by the names of their files ("" for the only one) to `output`, and name the jobs that are left out.

    `content`: what the JSON document has in place of the texts.
    """
    for job_id, reason in left_out.items():
        invocation.output.warn(f"{job_id} is left out: {reason}")
    if output is not None:
        for name, text in files.items():
            if name:
                Path(output).mkdir(mode=0o700, parents=True, exist_ok=True)
            write_output(str(Path(output, name)) if name else output, text.encode("utf-8", "surrogateescape"))

    def render(out: Output) -> None:
        if output is not None:
            out.line(f"wrote {count} {'job' if count == 1 else 'jobs'} to {output}")
        else:
            for name, text in files.items():
                out.text(f"# {name}\n{text}\n" if name else text)

    said = {"files": dict(files)} if content is None else content
    return invocation.done({**said, "left_out": dict(left_out), "output": output}, render)
