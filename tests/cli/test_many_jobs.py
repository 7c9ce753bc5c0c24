"""Many jobs at once: by names, by selectors of their labels, or all of them; one write, and one batch to NAS."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import connect, tree


@pytest.fixture
def jobs(chronos, home):
    """A home with three jobs of ops and one of dev; returns what reads its records."""
    for name, labels in (
        ("a", ("team=ops",)),
        ("b", ("team=ops", "tier=gold")),
        ("c", ("team=ops",)),
        ("d", ("team=dev",)),
    ):
        words = [word for label in labels for word in ("--label", label)]
        assert chronos("job", "add", "@yearly", "--id", name, *words, "--shell", "true", home=home).code == 0

    def read():
        return {job["id"]: job for job in json.loads((home / "cron" / "jobs.json").read_text())["jobs"]}

    return read


def states(jobs):
    return {name: job.get("state") for name, job in jobs().items()}


def test_jobs_are_paused_and_resumed_together(chronos, home, jobs):
    """By names, by a selector, all; each job has a line, and what is so already says so."""
    done = chronos("job", "pause", "a", "d", home=home)
    assert done.out == "paused a\npaused d\nPlan: 2 to change, 0 to keep.\n"
    done = chronos("job", "pause", "-l", "team=ops,tier!=gold", "--json", home=home)
    assert [(one["job"]["id"], one["changed"]) for one in done.json["jobs"]] == [("a", False), ("c", True)]
    assert states(jobs) == {"a": "paused", "b": "scheduled", "c": "paused", "d": "paused"}
    assert chronos("job", "resume", "--all", home=home).code == 0
    assert set(states(jobs).values()) == {"scheduled"}
    chronos("job", "pause", "-l", "team in (dev)", home=home)
    assert [name for name, state in states(jobs).items() if state == "paused"] == ["d"]


def test_all_leaves_out_what_cannot_be_switched(chronos, home, jobs):
    """A completed job and a broken record are named, and stop nothing; named by hand they are errors."""
    document = json.loads((home / "cron" / "jobs.json").read_text())
    document["jobs"][0] |= {"state": "completed", "enabled": False}
    document["jobs"].append({"id": "broken"})
    (home / "cron" / "jobs.json").write_text(json.dumps(document))
    done = chronos("job", "pause", "--all", home=home)
    assert done.code == 0
    assert "a is left out: it is completed" in done.err
    assert "broken is left out: " in done.err
    assert states(jobs)["b"] == "paused"
    before = tree(home)
    assert chronos("job", "resume", "b", "a", home=home).code == 6
    assert tree(home) == before


def test_jobs_are_edited_together_or_not_at_all(chronos, home, jobs):
    """Each field is in one plan; an error for one of them changes none."""
    planned = chronos("job", "edit", "-l", "team=ops", "--timeout", "5m", "--dry-run", "--detailed-exitcode", home=home)
    assert (planned.code, planned.out.count("~ timeout: 1h -> 5m")) == (3, 3)
    assert "Plan: 3 to change, 0 to keep. Nothing was changed.\n" in planned.out
    done = chronos("job", "edit", "a", "b", "--timeout", "5m", "--label", "tier=tin", home=home)
    assert (done.code, "~ labels.tier: gold -> tin" in done.out) == (0, True)
    assert [name for name, job in jobs().items() if job["chronos"].get("policy")] == ["a", "b"]
    assert jobs()["b"]["chronos"]["labels"] == {"team": "ops", "tier": "tin"}
    assert chronos("job", "edit", "--all", "--label", "team-", home=home).code == 0
    assert [job["chronos"].get("labels") for job in jobs().values()] == [{"tier": "tin"}, {"tier": "tin"}, None, None]
    before = tree(home)
    assert "several jobs cannot have one name" in chronos("job", "edit", "a", "b", "--name", "x", home=home).err
    assert "nothing is to be changed" in chronos("job", "edit", "a", "b", home=home).err
    done = chronos("job", "edit", "a", "b", "--schedule", "*/5 * * * *", "--jitter", "10m", home=home)
    assert "job a: the jitter is not shorter" in done.err
    assert tree(home) == before


def test_no_word_after_the_jobs_becomes_a_command(chronos, home, jobs):
    """A word that is no job is refused; a command stands after --command or --."""
    before = tree(home)
    done = chronos("job", "edit", "a", "date", home=home)
    assert (done.code, "there is no job 'date'" in done.err) == (5, True)
    assert "a command goes after --" in done.err
    assert tree(home) == before
    assert chronos("job", "edit", "a", "b", "--", "date", "-u", home=home).code == 0
    assert [jobs()[name]["chronos"]["action"] for name in "ab"] == [{"command": ["date", "-u"]}] * 2
    assert chronos("job", "edit", "a", "--timeout", "5m", "--command", "echo", "b", home=home).code == 0
    assert [jobs()[name]["chronos"]["action"]["command"] for name in "ab"] == [["echo", "b"], ["date", "-u"]]


def test_a_removal_names_what_goes(chronos, home, jobs):
    """Without a yes nothing goes, and the question has every name."""
    done = chronos("job", "remove", "-l", "team=ops", home=home)
    assert (done.code, "remove 3 jobs (a, b, c)? needs a yes: add --yes" in done.err) == (2, True)
    assert set(jobs()) == set("abcd")
    done = chronos("job", "remove", "a", "b", "--yes", home=home)
    assert done.out == "removed a\nremoved b\n"
    done = chronos("job", "remove", "--all", "--yes", "--json", home=home)
    assert [one["job_id"] for one in done.json["jobs"]] == ["c", "d"]
    assert jobs() == {}
    assert "there are no jobs" in chronos("job", "remove", "--all", "--yes", home=home).err


def test_a_choice_is_one_choice_and_finds_something(chronos, home, jobs):
    """Names, --all and a selector contradict each other; a selector that finds nothing says which labels there are."""
    for words in (("a", "--all"), ("a", "-l", "team=ops"), ("--all", "-l", "team=ops")):
        assert "jobs, --all and -l contradict each other" in chronos("job", "pause", *words, home=home).err
    done = chronos("job", "pause", home=home)
    assert (done.code, "no job is named: name jobs, or give -l" in done.err) == (2, True)
    done = chronos("job", "remove", "-l", "team=opz", "--yes", home=home)
    assert done.code == 5
    assert "no job has the labels 'team=opz': labels in use: team, tier" in done.err
    assert chronos("job", "remove", "-l", "team=", "--yes", home=home).code == 5
    assert set(jobs()) == set("abcd")


def test_the_list_shows_those_of_a_selector(chronos, home, jobs):
    """`list -l` and `job list -l`, with the labels in their documents and in `job show`."""
    found = chronos("list", "-l", "team=ops,!tier", "--json", home=home).json["jobs"]
    assert {job["id"]: job["labels"] for job in found} == {"a": {"team": "ops"}, "c": {"team": "ops"}}
    assert chronos("job", "list", "-l", "tier", "-o", "name", home=home).out == "b\n"
    assert "team=ops, tier=gold" in chronos("job", "show", "b", home=home).out
    assert chronos("list", "-l", "team=none", home=home).code == 5
    assert jobs()


def test_nas_is_told_of_all_at_once_and_keeps_no_timer_of_what_is_gone(chronos, home, nas, agent, tmp_path):
    """Pausing and removing every job leaves NAS with none, though that empties the store; a file brings them back."""
    connect(home, nas, agent, "http://127.0.0.1:9")
    (tmp_path / "f.yaml").write_text("set: s\njobs:\n" + "".join(
        f"- {{id: j{at}, schedule: '@yearly', shell: x}}\n" for at in range(4)))  # fmt: skip

    def held():
        return {
            job["id"] for job in chronos("list", "--json", home=home).json["jobs"] if job["arm"]["state"] == "armed"
        }

    assert chronos("apply", "-f", tmp_path / "f.yaml", home=home).code == 0
    assert held() == {"j0", "j1", "j2", "j3"}
    assert chronos("job", "pause", "j0", "j1", home=home).code == 0
    assert held() == {"j2", "j3"}
    assert chronos("job", "remove", "--all", "--yes", home=home).code == 0
    assert not nas.armed(agent)
    assert chronos("apply", "-f", tmp_path / "f.yaml", home=home).code == 0
    (tmp_path / "f.yaml").write_text("set: s\n")
    assert chronos("apply", "-f", tmp_path / "f.yaml", "--prune", "--allow-empty", home=home).code == 0
    assert not nas.armed(agent)
    (tmp_path / "f.yaml").write_text("set: s\njobs:\n- {id: j, schedule: '@yearly', shell: x}\n")
    down = chronos("apply", "-f", tmp_path / "f.yaml", home=home, env={"CHRONOS_PORTAL_URL": "http://127.0.0.1:1"})
    assert (down.code, "saved, not armed: " in down.err) == (75, True)
    assert chronos("reconcile", home=home).code == 0
    assert held() == {"j"}


def test_jobs_are_run_together_and_a_failure_of_one_stops_no_other(chronos, home, jobs):
    """Each has its row and its output; exit 10 names those that failed, and what cannot begin is said."""
    chronos("job", "edit", "a", "c", "--shell", "echo ran", home=home)
    chronos("job", "edit", "b", "--shell", "exit 3", home=home)
    done = chronos("run", "-l", "team=ops", home=home)
    assert (done.code, done.out) == (10, "a | ran\nc | ran\n")
    assert "1 of 3 failed: b: see `chronos history b`" in done.err
    chronos("hold", "--on", home=home)
    held = chronos("run", "a", "c", "--json", home=home)
    assert (held.code, held.json["jobs"], set(held.json["left_out"])) == (75, [], {"a", "c"})
    assert jobs()
