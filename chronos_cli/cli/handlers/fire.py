"""A fire from the command line, and what is said of it: the work of `chronos fire`, without its options."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from chronos_cli.core.decision import Outcome
from chronos_cli.core.row import RunState
from chronos_cli.errors import ChronosError, ExitCode, JobFailedError, TemporaryError, TokenError, UsageError
from chronos_cli.private_memory import hide_memory

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.firing.admission import AuthorizedFire
    from chronos_cli.operations.firing.fire import FireReport

_MAX_TOKEN_CHARS = 16 * 1024


def fire_command(
    invocation: Invocation,
    *,
    job_id: str,
    token: str | None = None,
    token_file: str | None = None,
    fire_at: str | None = None,
    detach: bool = False,
    whole_answer: bool = False,
) -> int:
    """Judge the token, settle what is due for the job, and say what came of it; returns the exit code.

    `whole_answer`: print the body of the answer, which the caller hands to NAS as it is.
    """
    try:
        return _fire(invocation, job_id, token, token_file, fire_at, detach=detach, whole_answer=whole_answer)
    except ChronosError as error:
        if whole_answer and not invocation.json:
            from chronos_cli.operations.firing.answering import error_body

            _print_body(invocation, error_body(error))
        raise


def _fire(
    invocation: Invocation,
    job_id: str,
    token: str | None,
    token_file: str | None,
    fire_at: str | None,
    *,
    detach: bool,
    whole_answer: bool,
) -> int:
    hide_memory()
    invocation.must_be_active("fire")  # first: judging a token may fetch keys from NAS
    text = _token(invocation, token, token_file)
    admitted = _admitted(invocation, text, job_id, fire_at)
    from chronos_cli.running.signals import Interrupts

    with Interrupts() as interrupts:
        context = invocation.context(interrupts=interrupts)
        from chronos_cli.operations.firing.answering import Door
        from chronos_cli.operations.firing.fire import fire
        from chronos_cli.operations.firing.launchers import DetachedLauncher, InlineLauncher

        launcher: InlineLauncher | DetachedLauncher = InlineLauncher()
        if detach:
            launcher = detached(invocation, looks=True)
        report = fire(
            context,
            admitted.job_id,
            fire_at=admitted.fire_at,
            delivery=admitted.delivery,
            launcher=launcher,
            heard=admitted.heard,
            # A runner looks at NAS after its end; a run of this process may take any time.
            door=Door(within_s=0.0 if detach else None, looks=detach) if whole_answer else None,
            by_answer=admitted.by_answer,
            generation=admitted.generation,
        )
        if isinstance(launcher, DetachedLauncher):
            launcher.answered()
        context.send_alerts()
        stopped = interrupts.signal is not None
    return answer(invocation, report, stopped=stopped, whole=whole_answer)


def _print_body(invocation: Invocation, body: dict[str, Any]) -> None:
    import json

    invocation.output.text(json.dumps(body) + "\n")


def _token(invocation: Invocation, token: str | None, token_file: str | None) -> str:
    """Return the token, from where it was said to be. Raises UsageError."""
    if token is not None and token_file is not None:
        raise UsageError("--token and --token-file are both given", hint="give one of them")
    if token == "-":  # noqa: S105 - the word for standard input
        return sys.stdin.read(_MAX_TOKEN_CHARS).strip()
    if token is not None:
        from chronos_cli.running.secrecy import blank_in_proc

        blank_in_proc([token])
        invocation.output.warn("a token on the command line can be seen by others: use --token - or --token-file")
        return token.strip()
    if token_file is not None:
        try:
            with open(token_file, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - pathlib is not loaded yet
                return file.read(_MAX_TOKEN_CHARS).strip()
        except OSError as error:
            raise UsageError(
                f"{token_file} cannot be read: {error.strerror}", hint="name a file that can be read with --token-file"
            ) from error
    found = invocation.secrets.get("CHRONOS_FIRE_TOKEN", "").strip()
    if not found:
        raise UsageError("no fire token is given", hint="use --token -, --token-file or $CHRONOS_FIRE_TOKEN")
    return found


def _admitted(invocation: Invocation, token: str, job_id: str, fire_at: str | None) -> AuthorizedFire:
    from chronos_cli.operations.firing.admission import admit, trust_settings
    from chronos_cli.trust.tokens import verify_fire_token

    settings = trust_settings(invocation.config())
    try:
        claims = verify_fire_token(token, settings, light=True)
        return admit(claims, settings, job_id=job_id, fire_at=fire_at)
    except TokenError as error:  # the doctor, which its hint names, says which claim it was
        from datetime import UTC, datetime

        from chronos_cli.operations.firing.refused_token import note_refused

        note_refused(settings.cache_dir, error, now=datetime.now(UTC))
        raise


def detached(invocation: Invocation, *, looks: bool = False) -> Any:
    """Return what starts runs in processes that outlive this one; `looks`: they also look at NAS after the answer."""
    from chronos_cli.cli import fast_exit
    from chronos_cli.operations.firing.launchers import DetachedLauncher
    from chronos_cli.running.detach import Runners

    flags = {"lock_timeout": invocation.lock_timeout}
    launching = {"home": invocation.config().home, "flags": flags, "looks": looks}
    return DetachedLauncher(
        Runners(),
        launching=launching,
        environment=invocation.environ,
        secrets=invocation.secrets,
        wait_s=0.0,
        forks=fast_exit.to_come,
    )


def answer(invocation: Invocation, report: FireReport, *, stopped: bool = False, whole: bool = False) -> int:
    """Give the report of a fire, with the exit code of the protocol's table; `whole`: the answer's body first."""
    from chronos_cli.operations.firing.answering import body_of

    document = body_of(report) if whole else report.as_json()
    if whole and not invocation.json:
        _print_body(invocation, document)
    document["arm"] = None if report.arm is None else {"state": report.arm.state.value}
    document["rows"] = [row.to_json() for row in report.runs]
    error = error_of(report)
    if report.arm is not None and report.arm.state.value == "refused":
        refused = dict(report.arm.error or {}).get("message", "this agent is refused")
        invocation.output.warn(f"arm: refused: {refused}")

    def render(out: Output) -> None:
        for row in report.runs:
            took = "" if not (row.started_at and row.finished_at) else (
                f" in {(row.finished_at - row.started_at).total_seconds():.1f} s"
            )  # fmt: skip
            out.note(f"{report.job_id} {row.run_id}: {row.state.value}{took}")
        if not report.runs:
            said = f": {report.reason}" if report.reason and error is None else ""
            out.note(f"{report.job_id}: {report.outcome.value}{said}")

    code = ExitCode.INTERRUPTED if stopped else report.exit_code
    return invocation.done(document, render, error=error, exit_code=int(code))


def error_of(report: FireReport) -> ChronosError | None:
    """Return the failure that a report tells of, if it does. A failed run's message is the reason on its row."""
    if report.exit_code is ExitCode.JOB_FAILED:
        row = [row for row in report.runs if row.state not in (RunState.OK, RunState.RUNNING)][-1]
        last = row.attempts[-1] if row.attempts else {}
        return JobFailedError(
            row.reason or str(last.get("reason") or row.state.value),
            hint=f"see `chronos logs {row.job_id}/{row.run_id}`",
        )
    if report.exit_code is ExitCode.TEMPORARY:
        hint = "have it delivered again" + (f" in {report.retry_after} s" if report.retry_after else " later")
        text = report.reason or _WAITING.get(report.outcome, report.outcome.value)
        return TemporaryError(text, hint=hint, retry_after_s=report.retry_after)
    return None


_WAITING = {
    Outcome.EARLY: "it is too early for this occurrence",
    Outcome.HELD: "all jobs are held",
}
