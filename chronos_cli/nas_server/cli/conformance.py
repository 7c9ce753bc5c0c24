"""`chronos-nas conformance`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from chronos_cli.errors import ConfigError, ExitCode, UsageError
from chronos_cli.nas_server.cli.common import JsonOption, say, show


def conformance(
    portal_url: Annotated[str, typer.Option(envvar="CHRONOS_PORTAL_URL", help="The NAS to examine.")],
    token: Annotated[
        str | None, typer.Option(envvar="CHRONOS_NAS_TOKEN", help="An agent's token there; best from the variable.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file that holds it.")] = None,
    callback_listen: Annotated[
        str | None, typer.Option(help="HOST:PORT to listen on for callbacks; without it hop 3 is not tested.")
    ] = None,
    callback_url: Annotated[str | None, typer.Option(help="The URL at which the NAS reaches that.")] = None,
    audience: Annotated[str | None, typer.Option(help="The audience the tokens must name.")] = None,
    json_output: JsonOption = False,
) -> int:
    """Examine any NAS, clause by clause. Exit 0 when none is broken, else 1.

    Examples:
      chronos-nas conformance --portal-url https://portal.example.com --token-file token
    """
    from chronos_cli.nas_server.conformance.interface import ClauseVerdict
    from chronos_cli.nas_server.conformance.probe import ContractProbe, Listener
    from chronos_cli.nas_server.conformance.suite import examine

    if (callback_listen is None) != (callback_url is None):
        raise UsageError("--callback-listen and --callback-url go together", hint="give both, or neither")
    listener = None
    if callback_listen is not None:
        host, _, port = callback_listen.rpartition(":")
        if not host or not port.isdigit():
            raise UsageError(f"--callback-listen {callback_listen} is not HOST:PORT", hint="like 127.0.0.1:9000")
        listener = Listener(host.strip("[]"), int(port))
        listener.start()
        if callback_url is not None:
            callback_url = callback_url.rstrip("/").removesuffix(":0") + (f":{listener.port}" if port == "0" else "")
    probe = ContractProbe(
        portal_url, _token(token, token_file), listener=listener, callback_url=callback_url, audience=audience
    )
    findings = []
    for finding in examine(probe):
        findings.append(finding)
        if not json_output:
            clause, detail = finding.clause, f"  ({finding.detail})" if finding.detail else ""
            say(f"{finding.verdict:<10}  hop {clause.hop}  {clause.name:<14}  {clause.text}{detail}")
    counts = {verdict.value: sum(one.verdict is verdict for one in findings) for verdict in ClauseVerdict}
    if json_output:
        clauses = [
            {
                "name": one.clause.name,
                "hop": one.clause.hop,
                "text": one.clause.text,
                "verdict": one.verdict.value,
                "detail": one.detail,
            }
            for one in findings
        ]
        show("conformance", {"portal_url": probe.portal_url, "clauses": clauses, "counts": counts})
    else:
        say(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return ExitCode.FAULT if counts[ClauseVerdict.BROKEN] else ExitCode.OK


def _token(token: str | None, path: Path | None) -> str:
    if token:
        return token.strip()
    if path is None:
        raise UsageError("no token", hint="set CHRONOS_NAS_TOKEN, or give --token-file")
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read the token file {path}: {error}", hint="name the file that holds it with --token-file"
        ) from error
