"""One run of the command line: what was asked for globally, and what every command needs from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.errors import ChronosError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.cli.output import Output
    from chronos_cli.config import Config
    from chronos_cli.operations.context import Context
    from chronos_cli.providers.resolve import ActiveProvider
    from chronos_cli.running.signals import Interrupts

_TRUE = frozenset({"1", "true", "yes", "on"})


class Invocation:
    """The global options, the environment without secrets, the secrets, and where output goes."""

    def __init__(self, environ: Mapping[str, str], secrets: Mapping[str, str], output: Output) -> None:
        self.environ = environ
        self.secrets = secrets
        self.output = output
        self.command = "chronos"
        self.home: str | None = None
        self.lock_timeout: str | None = None
        self.debug = environ.get("CHRONOS_DEBUG", "").lower() in _TRUE
        self._config: Config | None = None
        self._warned = False
        self._outboxes: list[Context] = []
        output.json = environ.get("CHRONOS_JSON", "").lower() in _TRUE
        output.quiet = environ.get("CHRONOS_QUIET", "").lower() in _TRUE
        level = environ.get("CHRONOS_VERBOSE", "").strip()
        output.verbosity = int(level) if level.isdecimal() else int(level.lower() in _TRUE)

    @property
    def json(self) -> bool:
        """Return whether one JSON object is wanted on stdout."""
        return self.output.json

    @property
    def user(self) -> str:
        """Return the user's name, for the record of what was done."""
        import os
        import pwd

        try:
            return self.environ.get("USER") or pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # it has no name here
            return str(os.getuid())

    def note_option(self, name: str, value: Any) -> None:
        """Take over a global option as given, before or after the command."""
        match name:
            case "json":
                self.output.json = True
            case "quiet":
                self.output.quiet = True
            case "verbose":
                self.output.verbosity = max(self.output.verbosity, int(value))
            case "debug":
                self.debug = True
            case "home":
                self.home = str(value)
            case "lock_timeout":
                self.lock_timeout = str(value)
            case _:
                raise ValueError(name)

    def config(self) -> Config:
        """Return the home's configuration, read once. Raises ConfigError."""
        if self._config is None:
            from chronos_cli.config import load_config

            self._config = load_config(environ=self.environ, home=self.home, flags={"lock_timeout": self.lock_timeout})
            self.output.detail(f"home {self._config.home} ({self._config.origin('home')})")
            for text in self._config.warnings:
                self.output.warn(text)
        return self._config

    def context(self, *, armed: bool = True, interrupts: Interrupts | None = None) -> Context:
        """Return the home, opened; `armed` False leaves NAS out of it. Raises ConfigError where no such home exists."""
        from chronos_cli.operations.assembly import ProcessEnvironment, open_home

        outside = ProcessEnvironment(
            environ=self.environ,
            secrets=self.secrets,
            interrupts=interrupts,
            by_person=self.command.startswith(("job.", "apply")),
        )
        context = open_home(self.config(), outside, armed=armed)
        self._outboxes.append(context)
        return context

    def send_alerts(self) -> None:
        """Tell the on-failure command what this command has found over and has not told yet."""
        for context in self._outboxes:
            context.send_alerts()

    def begin_again(self) -> None:
        """Let go of what one round of a view that is drawn again and again has opened and said."""
        self.send_alerts()
        self._outboxes.clear()
        self._warned = False

    def must_be_active(self, doing: str) -> None:
        """Refuse, before anything is read or asked, what a machine on standby leaves to others. Raises StandbyError."""
        if self.config().standby:
            self.context(armed=False).must_be_active(doing)

    def provider(self, ctx: Context) -> ActiveProvider:
        """Return the active trigger provider; why it is not the configured one is said once, on stderr."""
        from chronos_cli.providers.resolve import resolve_provider

        resolved = resolve_provider(self.config(), ctx)
        if resolved.warning and not self._warned:
            self.output.warn(resolved.warning)
            self._warned = True
        self.output.detail(f"provider {resolved.provider.name}")
        return resolved

    def done(
        self,
        document: Mapping[str, Any],
        render: Callable[[Output], None] | None = None,
        *,
        error: ChronosError | None = None,
        exit_code: int | None = None,
    ) -> int:
        """Give the result: the JSON object, or what `render` writes for people; returns the exit code.

        With `error` the result is a failure that has more to say than its error.
        """
        if self.json:
            self.output.document(self.command, document, error)
        elif render is not None:
            render(self.output)
        if error is not None:
            self.output.error(error)
        if exit_code is not None:
            return exit_code
        return 0 if error is None else int(error.exit_code)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Have a person agree to what cannot be undone. Raises UsageError without a terminal to ask at."""
        import sys

        if yes:
            return
        if self.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"{question} needs a yes", hint="add --yes")
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UsageError("nothing was done", hint="answer y, or add --yes")
