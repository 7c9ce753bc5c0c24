"""No error without a test that shows its line: the source is asked for every place that makes one."""

from __future__ import annotations

from tests.errors.raised import family, sites, texts_of_tests

LEAST = 10
"""Fewer letters than that, in a test, show nothing."""

MADE_ELSEWHERE = {
    "nas_server/cli/__init__.py": "No such command",
    "cli/app.py": "missing argument",
    "cli/commands/cancel.py": "could not be reached: ",
    "cli/commands/demo.py": "was due and never ran",
    "cli/commands/job_edit.py": "there is no job 'date'",
    "cli/commands/init.py": "nothing was written",
    "cli/commands/run.py": "the job's command is not a list of texts",
    "cli/handlers/fire.py": "exited with status 3: broken",
    "cli/notify.py": "saved, not armed: ",
    "cli/foreign_sources.py": "has no command after its times",
    "cli/plans.py": "NAS did not take",
    "config/load.py": "policy.grace must be whole seconds",
    "core/schedule.py": "cannot read the time 'soon'",
    "core/schedule_text.py": "cannot read the time 'soon'",
    "hermes/inside.py": "refuses this agent for good",
    "nas_client/token_command.py": "another command's token_command",
    "nas_client/transport.py": "could not be reached: ",
    "operations/foreign/kubernetes.py": "not YAML",
    "operations/foreign/systemd.py": "OnBootSec is a start, once, of the machine or the timer",
    "operations/foreign/upsert.py": "is here already, from elsewhere",
    "running/references.py": "could not be had",
    "operations/foreign/crontab_lines.py": "is a word of other programs",
    "operations/manifest/nodes.py": "it is not YAML",
    "store/bucket.py": "the service answered",
    "store/local.py": "Is a directory",
    "store/proof.py": "took a write with an old version",
    "store/documents.py": "it holds nothing but zero bytes",
}
"""Files that hand on a text made elsewhere, and a line of theirs that a test shows."""

OUT_OF_REACH = {}
"""What no test can bring about, and why it stands there."""


def _shown(words, all_texts, texts):
    """Whether these words stand in a test, or at least half of them."""
    return words in all_texts or any(text in words and 2 * len(text) >= len(words) for text in texts)


def test_every_error_has_a_test_that_shows_its_line():
    """The fixed words of each message stand in a test; a class that brings its own message is named in one."""
    found = [text.strip() for text in texts_of_tests()]
    everything = "\0".join(found)
    long = {text for text in found if len(text) >= LEAST}
    missing = []
    for site in sites():
        if site.words and (site.path, site.words) in OUT_OF_REACH:
            continue
        wanted = site.words or MADE_ELSEWHERE.get(site.path, "")
        if not wanted:
            wanted = _message_of(site.kind)
        if not _shown(wanted, everything, long):
            missing.append(str(site))
    assert missing == []


def test_nothing_is_excused_that_is_not_there():
    """The two lists above name only what the source still has."""
    paths = {site.path for site in sites() if not site.words}
    assert set(MADE_ELSEWHERE) - paths == set()
    assert set(OUT_OF_REACH) - {(site.path, site.words) for site in sites()} == set()


def test_every_error_says_what_to_do():
    """Only who was interrupted on purpose needs no advice; the hints of the classes are held elsewhere."""
    silent = [site for site in sites() if site.hint is False]
    assert [str(site) for site in silent if site.kind != "InterruptedByUserError"] == []
    assert silent


def test_no_error_leaves_what_to_do_to_a_class_that_does_not_know():
    """These classes have the hint of their family alone, which is to report a fault of ours."""
    bare = {"UsageError", "JobFailedError", "ForeignHomeError", "TokenError"}
    assert [str(site) for site in sites() if site.kind in bare and site.hint is None] == []
    silent = [site for site in sites() if site.kind == "ChronosError" and site.hint is None]
    assert [site.path for site in silent] == ["cli/error_boundary.py"]


def _message_of(kind):
    """The message that a class brings along, or the code that stands for it in the tests."""
    assert kind in family()
    from chronos_cli.trust import token_errors as refusals

    return getattr(refusals, kind).code
