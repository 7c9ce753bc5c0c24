"""`chronos doctor`: check every part, and name the command that mends it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.errors import ChronosError, ConfigError, NeedsALookError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.doctor import Check

_STYLE = {"OK": "green", "WARN": "yellow", "FAIL": "red"}
_INDENT = " " * 10
_TITLES = {"compare_and_swap": "safe writes", "probe_slot": "probe: slot", "probe_armed": "probe: armed",
           "probe_received": "probe: received"}  # fmt: skip
"""The checks whose names, which scripts rely on, are no words for people; of the others an underscore is a blank."""


class UnwellError(ChronosError):
    """Something is broken here."""

    code = "unwell"
    default_hint = "each FAIL names what mends it"


def command(
    ctx: typer.Context,
    probe: Annotated[bool, typer.Option("--probe", help="also have NAS call here, and see the call come in")] = False,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=1, max=600, help="how long to wait for that call [20]")
    ] = 20.0,
) -> int:
    """Check every part that jobs depend on: OK, WARN or FAIL, and the command that mends it.

    It changes no job and no timer. With --probe NAS is asked to call in two seconds: the call has to come in through
    the public callback_url and be verified; if it does not, the hop that failed is named. It exits with 0 unless a
    check FAILs: with 11 where only jobs need a look, else with 1.

    Examples:
      chronos doctor
      chronos doctor --probe
      chronos doctor --json | jq -r '.checks[] | select(.level != "OK") | .mend'
    """
    invocation: Invocation = ctx.obj
    checks: list[Check] = []
    live = not (invocation.json or invocation.output.quiet)
    for check in _examined(invocation, probe=probe, wait=wait):
        checks.append(check)
        if live:
            _show(invocation.output, len(checks), check)
    counts = Counter(check.level.value for check in checks)
    failing = [check for check in checks if check.level.value == "FAIL"]
    error: ChronosError | None = None
    if failing:
        from chronos_cli.operations.doctor.jobs import NAMES

        others = f", and {len(failing) - 1} more" if len(failing) > 1 else ""
        kind: type[ChronosError] = NeedsALookError if all(check.name in NAMES for check in failing) else UnwellError
        error = kind(f"{_title(failing[0])}: {failing[0].text}{others}", hint=failing[0].mend)
    document = {
        "checks": [check.as_json(number) for number, check in enumerate(checks, start=1)],
        "counts": {level: counts[level] for level in _STYLE},
        "probed": probe,
    }

    def render(out: Output) -> None:
        if out.quiet:
            for number, check in enumerate(checks, start=1):
                if check.level.value != "OK":
                    _show(out, number, check)
        else:
            out.note(f"{len(checks)} checks: {counts['OK']} OK, {counts['WARN']} WARN, {counts['FAIL']} FAIL")

    return invocation.done(document, render, error=error)


def _examined(invocation: Invocation, *, probe: bool, wait: float) -> Iterator[Check]:
    """Yield the checks, as they are made; a configuration that cannot be read is the first and the last of them."""
    from chronos_cli.callback.modes import choose
    from chronos_cli.callback.warm_start import choose_runner
    from chronos_cli.operations.assembly import count_jobs, locks_of
    from chronos_cli.operations.doctor import Subject, examine, last_accepted
    from chronos_cli.operations.doctor.check import failed_with
    from chronos_cli.operations.doctor.nas import check_claims
    from chronos_cli.operations.doctor.probe_round_trip import probe_circle
    from chronos_cli.providers.resolve import resolve_provider

    try:
        config = invocation.config()
        context = invocation.context()
    except ConfigError as error:
        yield failed_with("config", error)
        return
    resolved = resolve_provider(config, context)
    chosen = choose(config.callback_mode, invocation.environ)
    subject = Subject(
        config=config,
        context=context,
        locks=locks_of(config, context.repository),
        provider=resolved.wanted if context.standby else resolved.provider.name,
        provider_warning=resolved.warning,
        callback_mode=chosen.mode.value,
        callback_because=chosen.because,
        runner_because=choose_runner(config.warm_runner, invocation.environ, freezes=chosen.freezes).because,
        count_jobs=lambda home: count_jobs(home, invocation.environ),
    )
    yield from examine(subject, claims=not probe)
    if probe:
        yield from probe_circle(config, context, wait_s=wait)
        yield from check_claims(config, context, last_accepted(context))  # as the probe has shown it


def _title(check: Check) -> str:
    return _TITLES.get(check.name, check.name.replace("_", " "))


def _show(out: Output, number: int, check: Check) -> None:
    title = _title(check)
    level = out.style(f"{check.level.value:<4}", _STYLE[check.level.value])
    out.paragraph(f"{number:>2}. {level}  {title}: {' '.join(check.text.split())}", hang=len(_INDENT))
    if check.mend and check.level.value != "OK":
        out.paragraph(f"{_INDENT}mend: {check.mend}", hang=len(_INDENT))
    out.flush()
