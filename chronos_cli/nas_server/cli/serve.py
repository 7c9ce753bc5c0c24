"""`chronos-nas serve`."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from chronos_cli.errors import ConfigError, UsageError
from chronos_cli.nas_server.cli.common import DbOption, HomeOption, JsonOption, locate, seconds
from chronos_cli.nas_server.home import DEFAULT_HOST, DEFAULT_PORT

MAX_RELAY_S = 900.0


def serve(
    home: HomeOption = None,
    db: DbOption = None,
    host: Annotated[str, typer.Option(envvar="CHRONOS_NAS_HOST", help="Address to listen on.")] = DEFAULT_HOST,
    port: Annotated[
        int, typer.Option(envvar="CHRONOS_NAS_PORT", min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = DEFAULT_PORT,
    role: Annotated[
        str, typer.Option(envvar="CHRONOS_NAS_ROLE", help="web, worker or both; several processes need PostgreSQL.")
    ] = "both",
    portal_url: Annotated[
        str | None,
        typer.Option(envvar="CHRONOS_NAS_PORTAL_URL", help="Our public URL, the issuer of tokens [http://HOST:PORT]."),
    ] = None,
    allow_private_callbacks: Annotated[
        bool, typer.Option(help="Allow callbacks to private addresses, and plain http to loopback.")
    ] = False,
    allow_callback_network: Annotated[
        list[str] | None, typer.Option(help="Allow https callbacks to this network (CIDR) too; may be repeated.")
    ] = None,
    allow_callback_port: Annotated[
        list[int] | None,
        typer.Option(min=1, max=65535, help="Allow callbacks to this port too, beside 80, 443 and those above 1023."),
    ] = None,
    require_callback_proof: Annotated[
        bool, typer.Option(help="Refuse agents whose callback does not prove that it is theirs.")
    ] = False,
    operator_listen: Annotated[
        str | None,
        typer.Option(envvar="CHRONOS_NAS_OPERATOR_LISTEN", help="HOST:PORT for operators: /metrics is open there."),
    ] = None,
    metrics_token_file: Annotated[
        Path | None,
        typer.Option(help="The token that opens /metrics on the agents' address [$CHRONOS_NAS_METRICS_TOKEN]."),
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Write the URL here once it listens.")] = None,
    log_file: Annotated[Path | None, typer.Option(help="Append the JSON-line log here [stdout].")] = None,
    relays: Annotated[int, typer.Option(min=1, max=10_000, help="How many callbacks may go on at once.")] = 1024,
    per_host: Annotated[int, typer.Option(min=1, help="How many of them to one host.")] = 512,
    per_agent: Annotated[int, typer.Option(min=1, help="How many of them for one agent.")] = 512,
    relay_timeout: Annotated[str, typer.Option(help="How long one callback may take.")] = "30s",
    retry_base: Annotated[float, typer.Option(min=0.01, help="Longest first wait of the backoff, in seconds.")] = 1.0,
    retry_cap: Annotated[str, typer.Option(help="Longest wait of the backoff.")] = "15m",
    retry_doublings: Annotated[int, typer.Option(min=0, max=30, help="How often the wait doubles.")] = 10,
    give_up_after: Annotated[str, typer.Option(help="From the first attempt until the dead list.")] = "24h",
    max_timers: Annotated[int, typer.Option(min=1, help="How many timers an agent may hold.")] = 100_000,
    rate: Annotated[float, typer.Option(min=0.1, help="How many requests a second an agent may make.")] = 2_000.0,
    json_output: JsonOption = False,
) -> None:
    """Keep timers and call agents back when they are due, until SIGTERM.

    Examples:
      chronos-nas serve --allow-private-callbacks --log-file nas.log
      chronos-nas serve --db postgresql://nas@db.example.com/nas --role web --portal-url https://portal.example.com
    """
    del json_output  # the log is JSON already
    import ipaddress

    from chronos_cli.nas_server.addresses import CallbackPolicy
    from chronos_cli.nas_server.http.agent_calls import Limits
    from chronos_cli.nas_server.options import Role, Settings
    from chronos_cli.nas_server.relay.backoff import Backoff
    from chronos_cli.nas_server.relay.limits import Bounds
    from chronos_cli.nas_server.serve import serve as run

    found = locate(home, db)
    if role not in set(Role):
        raise UsageError(f"--role {role} is unknown", hint="choose web, worker or both")
    if role != Role.BOTH and not found.postgres:
        raise UsageError(f"--role {role} needs PostgreSQL", hint="one process serves a SQLite file")
    if portal_url is not None and not portal_url.startswith(("http://", "https://")):
        raise UsageError(f"--portal-url {portal_url} is no URL", hint="begin it with https://")
    timeout = seconds(relay_timeout) or 0.0
    if not 1 <= timeout <= MAX_RELAY_S:
        raise UsageError("--relay-timeout must be from 1s to 15m", hint="an agent answers once the job has started")
    try:
        networks = tuple(ipaddress.ip_network(one) for one in allow_callback_network or ())
    except ValueError as error:
        raise UsageError(f"--allow-callback-network: {error}", hint="write it like 10.0.0.0/8") from error
    settings = Settings(
        home=found,
        host=host,
        port=port,
        role=Role(role),
        portal_url=portal_url,
        policy=CallbackPolicy(
            allow_private=allow_private_callbacks, networks=networks, ports=frozenset(allow_callback_port or ())
        ),
        limits=Limits(max_timers=max_timers, rate=rate),
        bounds=Bounds(total=relays, per_host=per_host, per_agent=per_agent),
        backoff=Backoff(
            base_s=retry_base,
            cap_s=seconds(retry_cap) or 0.0,
            doublings=retry_doublings,
            give_up_after_s=seconds(give_up_after) or 0.0,
        ),
        relay_timeout_s=timeout,
        ready_file=ready_file,
        operator_listen=None if operator_listen is None else _host_and_port(operator_listen),
        metrics_token=_metrics_token(metrics_token_file),
        log_file=log_file,
        require_callback_proof=require_callback_proof,
    )
    run(settings, os.environ)


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--operator-listen {text} is no HOST:PORT", hint="write it like 127.0.0.1:9787")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _metrics_token(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get("CHRONOS_NAS_METRICS_TOKEN") or None
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read the token {path}: {error}", hint="name the file that holds it with --metrics-token-file"
        ) from error
    if not token:
        raise ConfigError(f"the token {path} is empty", hint="name the file that holds it with --metrics-token-file")
    return token
