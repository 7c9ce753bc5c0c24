"""Hints about files that are refused: written as the hint says, the file is taken."""

from __future__ import annotations

import pytest

from tests.errors.hints_of_files import CRONJOBS, FOLDERS, SETS, TABS, UNITS


def _put(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _held(words, refused, taken):
    """Hold that the hint stands in the line of what was refused, and that what it says was taken."""
    assert refused.code not in (0, 1), refused
    assert words in refused.err.splitlines()[-1], refused.err
    assert taken is None or taken.code == 0, taken.err


@pytest.mark.parametrize(("words", "bad", "good"), [case[1:] for case in UNITS])
def test_a_timer_put_right_as_its_hint_says_is_taken(world, words, bad, good):
    """The timer is left out with the hint; written as it says, it comes in."""

    def bring(units):
        timer, service = units
        _put(world.folder / "job.timer", f"[Timer]\n{timer}\n")
        _put(world.folder / "job.service", f"[Service]\n{service}\n")
        return world("job", "import", world.folder / "job.timer", "--from", "systemd", "--dry-run")

    _held(words, bring(bad), bring(good) if good else None)


@pytest.mark.parametrize(("words", "options", "bad", "good"), [case[1:] for case in TABS])
def test_a_crontab_put_right_as_its_hint_says_is_taken(world, words, options, bad, good):
    """The crontab is refused with the hint; written as it says, its job comes in."""

    def bring(text):
        tab = _put(world.folder / "crontab", text)
        return world("job", "import", tab, "--from", "crontab", "--dry-run", *options)

    _held(words, bring(bad), bring(good) if good else None)


@pytest.mark.parametrize(("words", "fault", "options"), [case[1:] for case in CRONJOBS])
def test_a_cron_job_put_right_as_its_hint_says_is_taken(world, words, fault, options):
    """The CronJob is left out with the hint; written, or asked for, as it says, it comes in."""
    path = world.folder / "cronjob"
    right = path.read_text()
    _put(path, right.replace(*fault))
    refused = world("job", "import", path, "--from", "kubernetes", "--dry-run", "--local")
    if options:
        _put(path, right)
    _held(words, refused, world("job", "import", path, "--from", "kubernetes", "--dry-run", *options))


@pytest.mark.parametrize(("words", "kind", "bad", "good"), [case[1:] for case in FOLDERS])
def test_a_folder_put_right_as_its_hint_says_is_taken(world, words, kind, bad, good):
    """The folder is refused with the hint; with files as it says, their jobs come in."""

    def bring(name, files):
        place = world.folder / name
        place.mkdir()
        for file, content in files.items():
            _put(place / file, content)
        return world("job", "import", place, *(["--from", kind] if kind else []), "--dry-run")

    _held(words, bring("bad", bad), None if good is None else bring("good", good))


@pytest.mark.parametrize(("words", "bad", "good"), [case[1:] for case in SETS])
def test_a_file_of_jobs_put_right_as_its_hint_says_is_taken(world, words, bad, good):
    """The file is refused with the hint; written as it says, it is applied."""

    def bring(text):
        return world("apply", "-f", _put(world.folder / "jobs.yaml", text), "--dry-run")

    _held(words, bring(bad), bring(good))
