"""Every setting there is, its default, and what it may be.

`Config` is the one table of settings: the reference in the docs and `chronos config show` are made from it. A value is
taken from the flag, else the `CHRONOS_*` variable, else config.yaml, else the default; an empty variable and an empty
text or null in the file count as not given. Nothing here is a secret: tokens are read by `nas.tokens` when needed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.config import values
from chronos_cli.frozen import declared, field, opaque

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONFIG_FILE: Final = "config.yaml"
PROFILES: Final = "profiles"
"""The folder of a home that has further homes in it, as Hermes has them."""

_DAY = 86_400
_CENTURY = 36_600 * _DAY


@opaque
class Setting:
    """One setting: its attribute, key in config.yaml, variable, kind of value, default, and a sentence of help.

    `private`: its value is shown shortened, as people put secrets where they do not belong.
    """

    name: str
    key: str
    env: str
    kind: values.ValueKind
    default: object
    help: str
    private: bool = False


def _setting(key: str, env: str, kind: values.ValueKind, default: object, text: str, *, private: bool = False) -> Any:
    metadata = {"key": key, "env": f"CHRONOS_{env}", "kind": kind, "help": text, "private": private}
    return field(default=default, metadata=metadata)


@opaque
class Config:
    """Every setting of a home, checked. Durations are in seconds, sizes in bytes, texts that are not set are empty.

    `home`: the absolute path of the home. `origins`: where each attribute's value came from. `warnings`: a sentence for
    each key of the section shared with Hermes that is no setting.
    """

    home: str
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    timezone: str = _setting(
        "timezone", "TIMEZONE", values.ZONE, "", "the zone that schedules without one are meant in; else the machine's"
    )
    store: str = _setting("store", "STORE", values.STORE, "", "where the jobs are: a folder or bucket; else the home")
    store_endpoint: str = _setting(
        "store_endpoint", "STORE_ENDPOINT", values.URL, "", "the URL of a bucket service other than the scheme's own"
    )
    lock_timeout: float = _setting(
        "lock_timeout", "LOCK_TIMEOUT", values.seconds(0, 3600), 10.0, "how long to wait for a store in use by others"
    )
    provider: str = _setting(
        "cron.provider", "PROVIDER", values.TEXT, "", "what triggers jobs: chronos, a plug-in, or builtin (also empty)"
    )
    standby: bool = _setting(
        "cron.standby",
        "STANDBY",
        values.BOOL,
        False,
        "whether another machine has the jobs: nothing is armed or fired here",
    )
    max_parallel: int = _setting(
        "cron.max_parallel_jobs", "MAX_PARALLEL", values.whole(0, 1000), 0, "how many jobs a tick runs at once; 0: all"
    )
    portal_url: str = _setting(
        "cron.chronos.portal_url", "PORTAL_URL", values.URL, "", "NAS's base URL, and the issuer of fire tokens"
    )
    callback_url: str = _setting(
        "cron.chronos.callback_url",
        "CALLBACK_URL",
        values.CALLBACK_URL,
        "",
        "this agent's public base URL, called by NAS",
    )
    expected_audience: str = _setting(
        "cron.chronos.expected_audience", "EXPECTED_AUDIENCE", values.TEXT, "", "the `aud` fire tokens must have"
    )
    nas_jwks_url: str = _setting(
        "cron.chronos.nas_jwks_url", "NAS_JWKS_URL", values.KEYS, "", "where the keys that verify fire tokens are"
    )
    token_file: str = _setting(
        "cron.chronos.token_file", "NAS_TOKEN_FILE", values.PATH, "", "a file with the NAS token; relative to the home"
    )
    token_command: tuple[str, ...] = _setting(
        "cron.chronos.token_command",
        "NAS_TOKEN_COMMAND",
        values.ARGV,
        (),
        "a program that prints the NAS token; run once more when NAS answers 401",
        private=True,
    )
    token_command_timeout: float = _setting(
        "cron.chronos.token_command_timeout",
        "NAS_TOKEN_COMMAND_TIMEOUT",
        values.seconds(1, 600),
        30.0,
        "how long that program may take",
    )
    nas_timeout: float = _setting(
        "cron.chronos.timeout", "NAS_TIMEOUT", values.seconds(0.1, 300), 15.0, "how long one call to NAS may take"
    )
    nas_concurrency: int = _setting(
        "cron.chronos.concurrency", "NAS_CONCURRENCY", values.whole(1, 64), 8, "how many calls to NAS go on at once"
    )
    fallback_after: int = _setting(
        "cron.chronos.fallback_after",
        "FALLBACK_AFTER",
        values.whole_seconds(0, _CENTURY),
        0,
        "how long a tick leaves what NAS has confirmed to hold to NAS, before it runs it in its place; 0: not at all",
    )
    prompt_runner: tuple[str, ...] = _setting(
        "runners.prompt",
        "PROMPT_RUNNER",
        values.ARGV,
        (),
        "the program that prompt jobs are handed to, the prompt on its standard input",
        private=True,
    )
    verifier: str = _setting(
        "trust.verifier", "VERIFIER", values.TEXT, "nas-jwt", "what judges fire tokens: nas-jwt, or a module:function"
    )
    require_bound_token: bool = _setting(
        "trust.require_bound_token",
        "REQUIRE_BOUND_TOKEN",
        values.BOOL,
        False,
        "refuse fire tokens that do not name their job and instant",
    )
    max_token_life: int = _setting(
        "trust.max_token_life",
        "MAX_TOKEN_LIFE",
        values.whole_seconds(1, _CENTURY),
        3600,
        "the longest that a fire token may be good for, from its `iat` (else from now) to its `exp`",
    )
    keys_max_age: float = _setting(
        "trust.keys_max_age",
        "KEYS_MAX_AGE",
        values.seconds(0, 30 * _DAY),
        300.0,
        "how long fetched keys are fresh; a key that NAS takes back is refused after that",
    )
    keys_max_stale: float = _setting(
        "trust.keys_max_stale",
        "KEYS_MAX_STALE",
        values.seconds(0, 365 * _DAY),
        3600.0,
        "how much longer they serve while NAS cannot be reached",
    )
    keys_cooldown: float = _setting(
        "trust.keys_cooldown",
        "KEYS_COOLDOWN",
        values.seconds(1, _DAY),
        30.0,
        "the least time between two fetches for an unknown key",
    )
    callback_mode: str = _setting(
        "callback.mode",
        "CALLBACK_MODE",
        values.one_of("auto", "sync", "detached"),
        "auto",
        "answer when the run has ended (sync) or started (detached); auto picks by platform",
    )
    callback_budget: float = _setting(
        "callback.budget",
        "CALLBACK_BUDGET",
        values.seconds(1, _DAY),
        25.0,
        "how long a synchronous answer may take, within the platform's deadline",
    )
    warm_runner: str = _setting(
        "callback.warm_runner",
        "CALLBACK_WARM_RUNNER",
        values.one_of("auto", "off"),
        "auto",
        "while fires come closely together, fork runners from a process kept beside the server (auto), or never (off)",
    )
    history_keep: int = _setting(
        "history.keep", "HISTORY_KEEP", values.whole(1, 100_000), 50, "how many newest runs per job stay on record"
    )
    history_days: int = _setting(
        "history.days", "HISTORY_DAYS", values.whole(1, 36_500), 30, "for how many days runs stay on record"
    )
    output_limit: int = _setting(
        "history.output_limit",
        "OUTPUT_LIMIT",
        values.size(0, 2**30),
        2**20,
        "how much of a run's output is kept",
    )
    profiles: tuple[tuple[str, str], ...] = _setting(
        "profiles",
        "PROFILES",
        values.HOMES,
        (),
        "other homes that this callback serves, by name; else those in the folder profiles",
    )
    overlap: str = _setting(
        "policy.overlap",
        "OVERLAP",
        values.one_of("skip", "queue", "allow", "replace"),
        "skip",
        "an occurrence whose predecessor still runs: skip, queue or allow it, or end that and replace it",
    )
    grace: int = _setting(
        "policy.grace", "GRACE", values.whole_seconds(0, _CENTURY), _DAY, "how late an occurrence may still start"
    )
    timeout: int = _setting(
        "policy.timeout", "TIMEOUT", values.whole_seconds(1, _CENTURY), 3600, "how long a run may take"
    )
    retries: int = _setting("policy.retries", "RETRIES", values.whole(0, 100), 0, "further attempts after a failure")
    on_crash: str = _setting(
        "policy.on_crash", "ON_CRASH", values.one_of("skip", "rerun"), "skip", "a run that died with its machine"
    )
    tolerance: int = _setting(
        "policy.tolerance",
        "TOLERANCE",
        values.whole_seconds(0, _DAY),
        0,
        "how much later NAS may call, to spread its load",
    )
    jitter: int = _setting(
        "policy.jitter", "JITTER", values.whole_seconds(0, _DAY), 0, "a fixed delay per job, up to this long"
    )
    pause_after_failures: int = _setting(
        "policy.pause_after_failures",
        "PAUSE_AFTER_FAILURES",
        values.whole(0, 10_000, zero="never"),
        0,
        "pause a job after so many failures in a row; 0: never",
    )
    on_failure: tuple[str, ...] = _setting(
        "policy.on_failure",
        "ON_FAILURE",
        values.ARGV,
        (),
        "a program that is told of each run that failed or was missed, one JSON event on its standard input",
        private=True,
    )
    on_failure_again: int = _setting(
        "policy.on_failure_again",
        "ON_FAILURE_AGAIN",
        values.whole_seconds(0, _CENTURY),
        3600,
        "while a job goes on failing, how long until that program is told again",
    )
    inherit_env: tuple[str, ...] | None = _setting(
        "policy.inherit_env",
        "INHERIT_ENV",
        values.NAMES,
        None,
        "variables of whoever starts a run that jobs get: names, none or all; not set: all, until the next release",
    )

    @property
    def path(self) -> str:
        """Return where config.yaml is, or would be."""
        return os.path.join(self.home, CONFIG_FILE)  # noqa: PTH118 - plain text in, plain text out

    @property
    def policy(self) -> dict[str, Any]:
        """Return the home's default policy, by the names that a job's own policy uses."""
        return {item.name: getattr(self, item.name) for item in settings() if item.key.startswith("policy.")}

    def origin(self, name: str) -> str:
        """Return the origin of a value: `flag`, a variable, file and key, `default`, or `machine (...)`."""
        return self.origins.get(name, "default")


def settings() -> tuple[Setting, ...]:
    """Return every setting, in the order of the reference."""
    return tuple(
        Setting(name=name, default=item.default, **item.metadata)
        for name, item in declared(Config).items()
        if item.metadata
    )


def show(config: Config, setting: Setting) -> object:
    """Return a setting's value as `config show` prints it: JSON's own types, argument lists cut to their program."""
    value = getattr(config, setting.name)
    if setting.private and value:
        return [value[0], f"... {len(value) - 1} more"] if len(value) > 1 else [value[0]]
    if setting.kind is values.HOMES:
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def iter_shown(config: Config) -> Iterator[tuple[Setting, object, str]]:
    """Yield each setting with its value and origin, as `config show --origin` prints them."""
    for setting in settings():
        yield setting, show(config, setting), config.origin(setting.name)
