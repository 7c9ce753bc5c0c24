"""Variables of a job: texts, and references to what is looked up when a run starts and is never stored.

A record keeps both under `chronos.env`: {"NAME": TEXT}, or {"NAME": {"from": REFERENCE}} with one of

    env:NAME    a variable of the process that starts the run
    file:PATH   what a file holds, without the newline at its end
    cmd:WORDS   what a command prints, quoted as for a shell, but run without one

People write a reference as the value itself. `text:` before a value takes what follows as it is. Values of HTTP
headers are kept in the same way, and a body's reference under `body_from`. `chronos.env_file` names files with lines
NAME=VALUE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chronos_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

FROM: Final = "from"
BEFORE: Final = "before"
"""The text before a referenced value of a header, as `Bearer `."""

KINDS: Final = ("env", "file", "cmd")
TEXT: Final = "text:"
FACTS: Final = ("CHRONOS_JOB_ID", "CHRONOS_RUN_ID", "CHRONOS_FIRE_AT", "CHRONOS_ATTEMPT")
"""The facts that every run is told of itself."""
SECRETS: Final = ("CHRONOS_NAS_TOKEN", "CHRONOS_FIRE_TOKEN")
"""Variables of ours that hold a token; no process that we start ever has them."""
OPTIONAL: Final = "-"
"""Before the path of an env_file: it need not be there, as with systemd."""
_HEADER_HINT: Final = "write env:NAME, file:PATH, cmd:WORDS, or text: before what is meant as it is"


def read_variables(assignments: Iterable[str]) -> dict[str, Any]:
    """Return variables as a record keeps them, from texts NAME=VALUE. Raises UsageError."""
    found: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError("--env is NAME=VALUE, and one has no =", hint="give NAME=, for an empty value")
        found[checked_name(name)] = read_value(value)
    return found


def checked_name(name: str) -> str:
    """Return a variable's name. Raises UsageError for one that cannot be one, or that chronos sets itself."""
    if not name or "=" in name or not name.isprintable() or any(letter.isspace() for letter in name):
        raise UsageError(f"'{name:.40}' cannot be a variable's name", hint="use letters, digits and _")
    if name in FACTS or name in SECRETS:
        raise UsageError(f"{name} is chronos' own", hint="choose another name for the job's variable")
    return name


def read_value(text: str) -> str | dict[str, str]:
    """Return a value as a record keeps it: a text, or {"from": REFERENCE}. Raises UsageError."""
    if text.startswith(TEXT):
        return _plain(text.removeprefix(TEXT))
    return {FROM: checked_reference(text)} if _names_reference(text) else _plain(text)


def read_header(text: str) -> str | dict[str, str]:
    """Return a header's value as a record keeps it; one word may stand before a reference: `Bearer env:TOKEN`."""
    word, blank, rest = text.partition(" ")
    if blank and word.isalnum() and _names_reference(rest.lstrip()):
        return {BEFORE: f"{word} ", FROM: checked_reference(rest.lstrip())}
    return read_value(text)


def checked_reference(reference: str) -> str:
    """Return a reference. Raises UsageError for one that can never be looked up."""
    kind, _, rest = reference.partition(":")
    if kind not in KINDS or not rest.strip() or "\0" in reference:
        raise UsageError(f"a reference '{kind:.20}:' names nothing", hint=_HEADER_HINT)
    if kind == "env" and rest in SECRETS:
        raise UsageError(f"{rest} is chronos' own, and no job gets it", hint="give the job a token of its own")
    if kind == "env" and ("=" in rest or any(letter.isspace() for letter in rest)):
        raise UsageError("env: takes the name of one variable", hint=_HEADER_HINT)
    if kind == "file":
        checked_path(rest, "file:")
    if kind == "cmd" and not command_of(reference):
        raise UsageError("cmd: names no command that can be read", hint="quote its words as for a shell")
    return reference


def checked_path(path: str, what: str) -> str:
    """Return the path of a file. Raises UsageError for one that would depend on where a run starts."""
    if not path.startswith(("/", "~/")) or "\0" in path:
        raise UsageError(f"{what} needs a whole path, not '{path:.100}'", hint="begin it with / or ~/")
    return path


def checked_files(paths: Iterable[str]) -> list[str]:
    """Return the paths of env_files, `-` before one that need not be there; `none` names none. Raises UsageError."""
    given = [path for path in paths if path.strip().lower() not in ("", "none")]
    for path in given:
        checked_path(path.removeprefix(OPTIONAL), "--env-file")
    return given


def command_of(reference: str) -> list[str]:
    """Return the words of a `cmd:`; none where they cannot be read."""
    import shlex  # few jobs have one

    try:
        return shlex.split(reference.removeprefix("cmd:"))
    except ValueError:
        return []


def reference_of(value: object) -> str | None:
    """Return the reference of a value in a record; None where it is a text, or no value."""
    reference = value.get(FROM) if isinstance(value, dict) else None
    return reference if isinstance(reference, str) else None


def words_of(value: object) -> str:
    """Return a value in the words of `--env` and `--header`, which read it back the same."""
    reference = reference_of(value)
    if reference is not None and isinstance(value, dict):
        return f"{value.get(BEFORE) or ''}{reference}"
    text = str(value)
    first, blank, rest = text.partition(" ")
    escaped = _names_reference(text) or text.startswith(TEXT) or (blank and first.isalnum() and _names_reference(rest))
    return TEXT + text if escaped else text


def shown_value(value: object, hidden: str) -> str:
    """Return what may be shown of a value: where it comes from, of a command its program; a text is `hidden`."""
    reference = reference_of(value)
    if reference is None:
        return hidden
    if reference.startswith("cmd:"):
        words = command_of(reference)
        return f"cmd:{words[0]} ..." if len(words) > 1 else f"cmd:{words[0] if words else ''}"
    return reference


def _names_reference(text: str) -> bool:
    return text.startswith(tuple(f"{kind}:" for kind in KINDS))


def _plain(text: str) -> str:
    if "\0" in text:
        raise UsageError("a value has a NUL in it, which no variable can hold", hint="take it out")
    return text
