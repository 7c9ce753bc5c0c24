"""Faults of a home and of its NAS with what cures them, as `test_hints` tries them: each is brought about and taken away."""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from datetime import UTC, datetime, timedelta

GOOD = "timezone: UTC\n"

CONFIGS = [
    # file, words of the hint, a config.yaml that has the fault, and one as the hint says
    ("config/file.py", "put that line right", b"a: [\n", GOOD),
    ("config/file.py", "save it as UTF-8", b"\xff\xfe", GOOD),
    ("config/load.py", "did you mean", b"policy:\n  graze: 1h\n", "policy:\n  grace: 1h\n"),
    ("errors.py", "put that setting right", b"timezone: Mars\n", "timezone: Europe/Berlin\n"),
    ("errors.py", "put that setting right", b"cron: 5\n", GOOD),
    ("config/file.py", "a configuration is one", b"a: 1\n---\nb: 2\n", GOOD),
    ("config/file.py", "a configuration is a few lines", b"#" * ((8 << 20) + 1), GOOD),
    ("config/file.py", "put the file right", b"a: " + b"[" * 300 + b"]" * 300, GOOD),
    ("config/file.py", "take its aliases apart", b"a: &x [*x]\n", GOOD),
    ("config/load.py", "it may be one of", b"policy:\n  zzzz: 1h\n", "policy:\n  grace: 1h\n"),
]  # fmt: skip


def _script(home):
    (home / "scripts").mkdir(exist_ok=True)
    (home / "scripts" / "x.sh").write_text("true\n")


def _prompt_runner(home):
    (home / "config.yaml").write_text(f"{GOOD}runners:\n  prompt: [cat]\n")


def _folder_in_the_way(home):
    (home / "scripts" / "x.sh").unlink()
    _script(home)


def _replaced(path, old, new):
    path.write_text(path.read_text().replace(old, new))


RUNS = [
    # file, words, the job's action, what brings the fault about, and what takes it away
    ("running/actions.py", "put it into the scripts folder", ("--script", "x.sh"), lambda home: None, _script),
    ("running/actions.py", "put a file there", ("--script", "x.sh"),
     lambda home: ((home / "scripts").mkdir(exist_ok=True), (home / "scripts" / "x.sh").symlink_to("x.sh")),
     _folder_in_the_way),
    ("running/actions.py", "move it into the scripts folder", ("--script", "x.sh"),
     lambda home: ((home / "scripts").mkdir(exist_ok=True), (home / "out").write_text(""),
                   (home / "scripts" / "x.sh").symlink_to(home / "out")), _folder_in_the_way),
    ("running/actions.py", "in config.yaml to its argument list, the prompt comes on its stdin", ("--prompt", "hi"),
     lambda home: None, _prompt_runner),
    ("running/references.py", "put it there, or change the job with `chronos job edit`",
     ("--shell", "true", "--env", "T=file:/nowhere/t"), lambda home: None,
     lambda home: _replaced(home / "cron" / "jobs.json", "/nowhere/t", str(home / "config.yaml"))),
    ("cli/commands/run.py", "see `chronos logs", ("--shell", "test -e made"), lambda home: None, None),
]  # fmt: skip


@contextlib.contextmanager
def locked(home, seconds):
    """Keep the store's lock for a while, from another descriptor, as another program would."""
    held = threading.Event()

    def keep():
        with (home / "cron" / ".jobs.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            held.set()
            time.sleep(seconds)

    keeper = threading.Thread(target=keep)
    keeper.start()
    assert held.wait(5)
    yield
    keeper.join()


def in_days(days):
    """An instant so many days ahead, in whole seconds."""
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)


TRIED_BELOW = [
    ("errors.py", "try again, or raise CHRONOS_LOCK_TIMEOUT (seconds"),
    ("errors.py", "nothing was changed; put the file right"),
    ("store/job_entries.py", "nothing was changed; save it as UTF-8"),
    ("operations/doctor/jobs.py", "chronos reconcile"),
    ("operations/doctor/jobs.py", "chronos cancel --orphans"),
    ("errors.py", "set CHRONOS_NAS_TOKEN or cron.chronos.token_file to a valid token"),
    ("nas_client/tokens.py", "it must be the token alone, one word in ASCII"),
    ("nas_client/tokens.py", "cron.chronos.token_file or cron.chronos.token_command"),
    ("errors.py", "try again later; `chronos reconcile` arms what is missing"),
    ("cli/notify.py", "once NAS can be reached"),
    ("cli/notify.py", "`chronos reconcile` arms them once NAS can be reached"),
    ("cli/plans.py", "run `chronos reconcile` again"),
    ("operations/context.py", "see `chronos init`"),
    ("operations/doctor/home.py", "chmod 600"),
]
"""Hints whose cases are functions of their own in `test_hints`."""
