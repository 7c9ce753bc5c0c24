"""`chronos fire`: verify a call of NAS, and run what is due for the job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli.handlers.fire import fire_command

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(
    ctx: typer.Context,
    job_id: Annotated[str, typer.Option("--job-id", metavar="ID", help="the job that NAS names")],
    token: Annotated[
        str | None, typer.Option("--token", metavar="T", help="the fire token; - reads it from stdin", envvar=None)
    ] = None,
    token_file: Annotated[str | None, typer.Option("--token-file", metavar="FILE", help="a file that holds it")] = None,
    fire_at: Annotated[str | None, typer.Option("--fire-at", metavar="TIME", help="the instant that NAS names")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="answer once the run has started; it goes on")] = False,
    answer: Annotated[
        bool, typer.Option("--answer", help="print the whole body of the answer, for a shim that hands it to NAS")
    ] = False,
) -> int:
    """Verify a fire token, then settle everything due for the job: claim, start, arm the next wake, run.

    The token comes from --token, --token-file or $CHRONOS_FIRE_TOKEN; on the command line other users can see it.
    Nothing of the store is read before the token has held. Exit 0: done, or nothing to do; 4: the token is refused;
    10: the job ran and failed; 75: have it delivered again later. With --answer a shim answers NAS with what is
    printed, which may carry the job's next wake: status 200 for exit 0 and 10, 401 for 4, 400 for 2, 503 for all else.

    Examples:
      printf %s "$TOKEN" | chronos fire --job-id digest --token - --fire-at 2026-11-20T15:34:15Z
      chronos fire --job-id digest --token-file /run/secrets/fire --detach --json
    """
    invocation: Invocation = ctx.obj
    return fire_command(
        invocation,
        job_id=job_id,
        token=token,
        token_file=token_file,
        fire_at=fire_at,
        detach=detach,
        whole_answer=answer,
    )
