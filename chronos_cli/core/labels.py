"""Labels of a job, `key: value`, and selectors of them, in the grammar that kubectl made known.

A selector is a list of terms with commas between, all of which must hold: `team=ops`, `tier!=gold`, `env in (dev,qa)`,
`env notin (prod)`, `owner` (it has the label), `!owner`. A job without the label is also one whose label differs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from chronos_cli.core.job import ours_of
from chronos_cli.errors import UsageError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

KEY: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?"
VALUE: Final = r"[A-Za-z0-9._/@:+-]{0,128}"
_TERM: Final = re.compile(
    rf"\s*(?:(?P<key>{KEY})\s*(?P<sign>==?|!=)\s*(?P<value>{VALUE})"
    rf"|(?P<of>{KEY})\s+(?P<word>in|notin)\s*\((?P<values>[^()]*)\)"
    rf"|(?P<not>!?)\s*(?P<has>{KEY}))\s*"
)
_CURE: Final = "write team=ops, tier!=gold, 'env in (dev,qa)', owner or '!owner', with commas between"


@frozen
class Term:
    """One condition: the label is one of `values` (None: it is there at all), or, with `unless`, it is not."""

    key: str
    values: tuple[str, ...] | None
    unless: bool

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Say whether these labels satisfy it."""
        found = self.key in labels if self.values is None else labels.get(self.key) in self.values
        return found != self.unless


Selector = tuple[Term, ...]


def check_label(key: str, value: str) -> None:
    """Raise UsageError for a key or a value that no label may have."""
    if not re.fullmatch(KEY, key):
        raise UsageError(
            f"'{key[:60]}' cannot be the key of a label",
            hint="use letters, digits, '.', '_', '/' and '-', at most 128 of them, a letter or digit at both ends",
        )
    if not re.fullmatch(VALUE, value):
        raise UsageError(
            f"'{value[:60]}' cannot be the value of the label {key}",
            hint="use letters, digits and '._/@:+-', at most 128 of them",
        )


def parse_labels(given: Iterable[str]) -> dict[str, str | None]:
    """Read `key=value`, and `key-`, which takes a label away (None), as people give them. Raises UsageError."""
    found: dict[str, str | None] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals and not key.endswith("-"):
            raise UsageError(
                f"--label '{text[:60]}' is no KEY=VALUE",
                hint="write --label team=ops, or --label team- to take it away",
            )
        name, kept = (key.strip(), value.strip()) if equals else (key[:-1].strip(), None)
        check_label(name, kept or "")
        if found.get(name, kept) != kept:
            raise UsageError(f"the label {name} is given twice", hint="give it once")
        found[name] = kept
    return found


def labels_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a record, without values that are none."""
    stored = ours_of(record).get("labels")
    if not isinstance(stored, dict):
        return {}
    return {key: value for key, value in stored.items() if isinstance(value, str)}


def relabelled(labels: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return labels after changes; None takes one away."""
    return {key: value for key, value in {**labels, **changes}.items() if value is not None}


def parse_selector(text: str) -> Selector:
    """Read a selector. Raises UsageError for one that has no one reading."""
    terms: list[Term] = []
    at = 0
    while match := _TERM.match(text, at):
        terms.append(_term(match))
        at = match.end()
        if at == len(text):
            return tuple(terms)
        if text[at] != ",":
            break
        at += 1
    raise UsageError(f"cannot read the selector '{text[:60]}'", hint=_CURE)


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Say whether labels satisfy every term of a selector."""
    return all(term.holds(labels) for term in selector)


def _term(match: re.Match[str]) -> Term:
    if match["key"] is not None:
        return Term(key=match["key"], values=(match["value"],), unless=match["sign"] == "!=")
    if match["of"] is not None:
        values = tuple(value.strip() for value in match["values"].split(","))
        if not all(re.fullmatch(VALUE, value) for value in values):
            raise UsageError(f"cannot read the selector '{match[0].strip()[:60]}'", hint=_CURE)
        return Term(key=match["of"], values=values, unless=match["word"] == "notin")
    return Term(key=match["has"], values=None, unless=bool(match["not"]))
