"""Folders of crontabs, CronJobs and timers, and what an import refuses or cannot have of them, by name."""

import os

import pytest

from tests.cli.test_import_cronjobs import cron_job
from tests.cli.test_import_crontab import ME, only, own, own_import, records, table

__all__ = ["own", "table"]


@pytest.fixture
def folder(tmp_path):
    """A folder like /etc/cron.d; called, it writes a file of it."""
    place = tmp_path / "cron.d"
    place.mkdir()

    def write(name, text, mode=0o644):
        path = place / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    write.place = place
    return write


@pytest.fixture
def bring(chronos, home):
    """Imports as told; the document and the exit code."""

    def run(path, *options, kind="crontab"):
        done = chronos("job", "import", path, "--from", kind, "--json", *options, home=home)
        return done.json, done.code

    return run


def said(document):
    return document["error"]["message"] + ": " + document["error"]["hint"]


def fates(document):
    return [(job["action"], job["name"]) for job in document["jobs"]]


# -- a folder of system crontabs --------------------------------------------------------------------------------------


def test_a_folder_is_read_as_cron_reads_its_own(chronos, bring, folder, home, tmp_path):
    """In the order of names, with each file's own settings; what cron passes over is named with the reason."""
    folder("web", f"A=1\n0 3 * * * {ME} web\n")
    folder("Backup_2-x", f"0 4 * * * {ME} backup\n1 4 * * * {ME} backup\n")
    for name in ("x.bak", ".placeholder", "a~", "read me", "caf\u00e9", "x.dpkg-old", "disabled.off"):
        folder(name, "not read")
    folder("group", f"* * * * * {ME} x\n", 0o664)
    folder("all", f"* * * * * {ME} x\n", 0o646)
    (folder.place / "folder").mkdir()
    (folder.place / "broken").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder.place / "pipe")
    linked = tmp_path / "linked.txt"
    linked.write_text(f"0 5 * * * {ME} linked\n")
    (folder.place / "good-link").symlink_to(linked)
    (tmp_path / "second").write_text(f"0 6 * * * {ME} hard\n")
    (folder.place / "hard").hardlink_to(tmp_path / "second")
    done, code = bring(folder.place, "--system", "--dry-run")
    assert (code, records_or_none(home)) == (0, None)
    assert [(job["file"], job["line"], job["name"]) for job in done["jobs"]] == [
        ("Backup_2-x", 1, "backup"), ("Backup_2-x", 2, "backup"), ("good-link", 1, "linked"), ("web", 2, "web")]  # fmt: skip
    reasons = dict(text.split(": ", 1) for text in done["ignored"])
    letters = "cron reads names of letters, digits, _ and - alone"
    assert {name for name, reason in reasons.items() if reason == letters} == {
        "x.bak", ".placeholder", "a~", "read me", "caf\u00e9", "x.dpkg-old", "disabled.off"}  # fmt: skip
    assert reasons["folder"] == "cron reads no folder in it"
    assert reasons["broken"] == "cron cannot open it: No such file or directory"
    assert reasons["pipe"] == "it is no regular file"
    assert reasons["hard"] == "it has several names (hard links), for which cron ignores it"
    assert {reasons["group"], reasons["all"]} == {
        "others than its owner may write it, for which cron ignores it (chmod go-w)"
    }
    assert bring(folder.place, "--system")[1] == 0
    shown = chronos("job", "import", folder.place, "--from", "crontab", "--system", "--dry-run", home=home)
    assert "web, line 2, " in shown.out
    assert "warning: ignored: x.bak: " in shown.err
    env = {record["name"]: record["chronos"]["env"].get("A") for record in records(home).values()}
    assert env == {"backup": None, "linked": None, "web": "1"}


def records_or_none(home):
    return records(home) if (home / "cron" / "jobs.json").exists() else None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_files_and_links_of_others_are_ignored(bring, folder, home, tmp_path):
    """Cron takes what is root's alone; of a copy the caller's files count too."""
    folder("mine", f"0 3 * * * {ME} mine\n")
    os.chown(folder("theirs", f"0 3 * * * {ME} x\n"), 65534, -1)
    target = tmp_path / "target"
    target.write_text(f"0 3 * * * {ME} x\n")
    (folder.place / "link").symlink_to(target)
    os.chown(folder.place / "link", 65534, -1, follow_symlinks=False)
    done, code = bring(folder.place, "--system")
    assert (code, fates(done)) == (0, [("add", "mine")])
    assert done["ignored"] == ["link: it is a symlink of another owner than root", "theirs: its owner is not root"]


def test_each_file_of_a_folder_is_a_source_of_its_own(chronos, bring, folder, home):
    """Alone or with its folder it is the same one again; a file that is gone or renamed is named, and pruned."""
    web = folder("web", f"0 3 * * * {ME} x\n")
    folder("db", f"0 4 * * * {ME} x\n0 5 * * * {ME} y\n")
    assert fates(bring(web, "--system")[0]) == [("add", "x")]
    assert fates(bring(folder.place, "--system")[0]) == [("add", "x"), ("add", "y"), ("keep", "x")]
    folder("db", f"0 5 * * * {ME} y\n0 7 * * * {ME} x\n")
    assert fates(bring(folder.place, "--system")[0]) == [("keep", "y"), ("change", "x"), ("keep", "x")]
    chronos("job", "add", "@daily", "--id", "other", "--shell", "true", home=home)
    web.rename(folder.place / "web.off")
    done, code = bring(folder.place, "--system")
    assert (code, fates(done)[-1]) == (0, ("gone", "x"))
    assert len(records(home)) == 4
    assert fates(bring(folder.place, "--system", "--prune")[0])[-1] == ("remove", "x")
    (folder.place / "db").unlink()
    (folder.place / "web.off").unlink()
    done, code = bring(folder.place, "--system", "--prune")
    assert (code, sorted(fates(done))) == (0, [("remove", "x"), ("remove", "y")])
    assert only(home)["id"] == "other"
    done, code = bring(folder.place, "--system")
    assert (code, "cron.d has no crontab: name a folder of crontabs, or one file" in said(done)) == (2, True)


def test_a_file_known_by_where_its_link_leads_is_the_same_one(bring, folder, home, tmp_path):
    """An earlier version named the source so; nothing is doubled."""
    target = tmp_path / "target"
    target.write_text(f"0 3 * * * {ME} x\n")
    bring(target, "--system")
    (folder.place / "link").symlink_to(target)
    assert fates(bring(folder.place, "--system")[0]) == [("change", "x")]
    assert fates(bring(folder.place, "--system")[0]) == [("keep", "x")]
    assert len(records(home)) == 1


def test_a_file_of_a_folder_that_is_refused_leaves_the_others_and_its_jobs(chronos, bring, folder, home):
    """As cron takes no line of a bad file and goes on with the next; what came in of it before is not gone."""
    folder("bad", f"0 3 * * * {ME} was\n")
    folder("web", f"0 4 * * * {ME} web\n")
    assert bring(folder.place, "--system")[1] == 0
    folder("bad", f"0 3 * * * {ME} was\n0 22-2 * * * {ME} new\n")
    folder("daily", "#!/bin/sh\ntest -x x && y\nelif [ $? -eq 1 ]; then\n", 0o755)
    done, code = bring(folder.place, "--system", "--prune")
    assert (code, fates(done), len(records(home))) == (11, [("keep", "web")], 2)
    shown = chronos("job", "import", folder.place, "--from", "crontab", "--system", home=home).err
    assert shown.count("daily: ") == 1
    first, second = done["refused"]
    assert first.startswith("bad: line 2 of the crontab: '0 22-2 * * *' is not a cron expression: bad hour")
    assert second == "daily: it is a program, no crontab: import the crontab with the line that starts it"
    done, code = bring(folder.place, "--system", "--skip-refused", "--prune")
    assert (code, fates(done)) == (11, [("keep", "was"), ("keep", "web")])
    (folder.place / "web").unlink()
    (folder.place / "bad").write_text("nonsense\n")
    done, code = bring(folder.place, "--system")
    assert (code, said(done)) == (2, "bad: line 1 of the crontab: 'nonsense' has no command after its times: put that line right")  # fmt: skip


def test_lines_of_others_in_a_folder_are_left_out(bring, folder, home):
    """A file of theirs alone is no reason to refuse the others; where all are theirs nothing came in, which is said."""
    other = "nobody" if ME != "nobody" else "root"
    folder("theirs", f"0 3 * * * {other} x\n")
    done, code = bring(folder.place, "--system")
    assert (code, f"no line of the crontab runs as {ME}" in said(done)) == (2, True)
    folder("ours", f"0 3 * * * {ME} x\n")
    done, code = bring(folder.place, "--system")
    assert (code, fates(done)) == (0, [("add", "x")])
    assert done["left_out"] == [f"theirs: line 1: it runs as {other}, and this is {ME}: x"]


# -- folders of other files -------------------------------------------------------------------------------------------


def test_a_folder_of_crontabs_without_users_is_one_source(bring, folder, home, monkeypatch, tmp_path):
    """As users' crontabs are wherever they lie; a crontab of another user, backups and folders are named."""
    first = folder("jobs", "*/5 * * * * * * a\n")
    folder("more.cron", "0 30 3 * * 1-5 b\n")
    folder("jobs~", "nonsense")
    (folder.place / "sub").mkdir()
    other = "visitor"
    monkeypatch.setattr("chronos_cli.cli.foreign_sources._is_user", lambda name: name == other)
    theirs = folder.place / other
    if os.geteuid() == 0:
        folder(other, "0 3 * * * x\n")
        os.chown(theirs, 65534, -1)
    else:
        theirs.symlink_to("/etc/passwd")
    done, code = bring(folder.place, "--seconds", "first")
    assert (code, [(job["file"], job["schedule"]) for job in done["jobs"]]) == (
        0, [("jobs", "every 5s"), ("more.cron", "30 3 * * 1-5")])  # fmt: skip
    assert sorted(done["ignored"]) == sorted([
        f"{other}: it is the crontab of {other}, and this is {ME}", "jobs~: by its name it is hidden, or a backup",
        "sub: folders in it are not read"])  # fmt: skip
    assert fates(bring(first, "--seconds", "first")[0]) == [("keep", "a"), ("gone", "b")]
    done, code = bring(folder.place)
    assert (code, said(done).startswith("jobs: line 1 of the crontab: it has 7 fields")) == (2, True)
    (tmp_path / "empty").mkdir()
    assert sorted(fates(bring(tmp_path / "empty", "--prune")[0])) == [("remove", "a"), ("remove", "b")]


def test_a_system_folder_without_system_is_refused_with_what_to_say(bring, folder, home):
    """Nothing of it comes in with a user for a program."""
    folder("web", "0 3 * * * root /bin/true x\n")
    done, code = bring(folder.place)
    assert (code, "this is a system crontab: --system reads the user of each line" in said(done)) == (2, True)
    assert records_or_none(home) is None


def test_a_folder_of_manifests_is_read_as_kubectl_reads_it(bring, folder, home):
    """Files of YAML and JSON, one source together; what is no CronJob, or no YAML, is named."""
    import json

    import yaml

    folder("a.yaml", yaml.safe_dump_all([cron_job("a"), {"kind": "Service", "metadata": {"name": "s"}}]))
    folder("b.json", json.dumps(cron_job("b")))
    folder("README.md", "words")
    folder(".hidden.yaml", "words")
    done, code = bring(folder.place, kind="kubernetes")
    assert (code, [(job["file"], job["where"], job["action"]) for job in done["jobs"]]) == (
        0, [("a.yaml", "a.yaml: CronJob a", "add"), ("b.json", "b.json: CronJob b", "add")])  # fmt: skip
    assert done["left_out"] == ["a.yaml: Service s: it is no CronJob"]
    assert done["ignored"] == [
        ".hidden.yaml: by its name it is hidden, or a backup",
        "README.md: its name does not end in .yaml, .yml or .json",
    ]
    folder("b.json", "{")
    done, code = bring(folder.place, "--prune", kind="kubernetes")
    assert (code, fates(done), len(done["refused"])) == (11, [("keep", "a")], 1)
    (folder.place / "b.json").unlink()
    assert fates(bring(folder.place, "--prune", kind="kubernetes")[0]) == [("keep", "a"), ("remove", "b")]
    folder("a.yaml", "kind: Service\n")
    done, code = bring(folder.place, kind="kubernetes")
    assert (code, "cron.d has no CronJob: name a folder of manifests, or a file" in said(done)) == (2, True)


def test_what_is_refused_there_now_is_not_gone(bring, folder, home):
    """A CronJob or a timer that came in before, and has something now that has no counterpart, is still there."""
    import yaml

    good = [cron_job("a"), cron_job("b")]
    bring(folder("jobs.yaml", yaml.safe_dump_all(good)), kind="kubernetes")
    bad = [cron_job("a"), cron_job("b", concurrencyPolicy="Never")]
    done, _ = bring(folder("jobs.yaml", yaml.safe_dump_all(bad)), "--prune", kind="kubernetes")
    assert (fates(done), len(done["left_out"]), len(records(home))) == ([("keep", "a")], 1, 2)
    for name in "cd":
        folder(f"{name}.timer", "[Timer]\nOnCalendar=daily\n")
        folder(f"{name}.service", "[Service]\nExecStart=/bin/true\n")
    bring(folder.place, kind="systemd")
    folder("d.timer", "[Timer]\nOnUnitInactiveSec=5min\n")
    done, _ = bring(folder.place, "--prune", kind="systemd")
    assert (fates(done), len(records(home))) == ([("keep", "c")], 4)
    done, _ = bring(folder.place / "c.timer", "--prune", kind="systemd")
    assert (fates(done), len(records(home))) == ([("keep", "c")], 4)


# -- lines that are refused -------------------------------------------------------------------------------------------

MIXED = "0 3 * * * x\n@every_minute y\nA=1\n0 22-2 * * * z\n0 0 31 2 * n\n@reboot b\n* * * * * a\0b\n"


def test_every_refused_line_is_named_and_the_others_come_in_where_asked(chronos, bring, table, home):
    """Nothing comes in before that; the exit code says that something is missing, and no job is called gone."""
    path = table(MIXED)
    plain = chronos("job", "import", path, "--from", "crontab", home=home)
    assert plain.code == 2
    assert "warning: refused: line 4 of the crontab: '0 22-2 * * *' is not a cron expression" in plain.err
    assert "warning: refused: line 7 of the crontab: it has a NUL character" in plain.err
    last = plain.err.splitlines()[-1]
    assert "line 2 of the crontab: '@every_minute' is a word of other crons: write '* * * * *'" in last
    assert last.endswith("; --skip-refused imports the other lines")
    assert records_or_none(home) is None
    for options in (("--dry-run",), ()):
        done, code = bring(path, "--skip-refused", *options)
        assert (code, fates(done)) == (11, [("add", "x")])
        assert [line.split(" of the crontab")[0] for line in done["refused"]] == ["line 2", "line 4", "line 7"]
    done, code = bring(table("0 22-2 * * * x\n0 3 * * * w\n"), "--skip-refused", "--prune")
    assert (code, fates(done)) == (11, [("add", "w")])
    done, code = bring(table("0 22-2 * * * x\n"), "--skip-refused")
    assert (code, done["error"]["hint"]) == (2, "'22-2' ends before it begins: write 22-23,0-2")


def test_of_many_refused_lines_the_first_are_named(chronos, home, table):
    """A file that is no crontab at all does not fill the screen."""
    done = chronos("job", "import", table("nonsense\n" * 100), "--from", "crontab", home=home)
    assert (done.code, done.err.count("\n"), "warning: refused: 69 more" in done.err) == (2, 32, True)


def test_a_line_that_cron_never_starts_is_left_out(bring, table, home):
    """No day matches it, so nothing is lost; the plan has cron's times of the others."""
    done, code = bring(table("0 0 31 2 * n\n0 3 * * * x\n0 0 30 feb * m\n"), "--dry-run")
    assert (code, fates(done), len(done["jobs"][0]["cron_next"])) == (0, [("add", "x")], 2)
    assert done["left_out"] == [
        "line 1: no day matches '0 0 31 2 *', so that cron never starts it: n",
        "line 3: no day matches '0 0 30 feb *', so that cron never starts it: m",
    ]
    done, code = bring(table("0 0 31 2 * n\n"))
    assert (code, done["jobs"], len(done["left_out"])) == (0, [], 1)


@pytest.mark.parametrize(("line", "taken"), [
    ("0 0 12 * * MON-FRI poll x", True), ("TZ=Asia/Tokyo 0 9 * * * x", True), ("* * * * * -n x", True),
    ("@every_minute x", False), ("0 22-2 * * * x", True), ("0 22-24 * * * x", False), ("5/10 22-2 * * * x", False), ("* * * * * *x", False), ("0 3 * * *", True), ("* * * * *x-1 -n y", True), ("*/0 3 * * * x", False),
    ("* * * * * a\0b", False), ("0 0 15W * * x", False), ("rate(5 minutes) x", False), ("0 3 * * sunday x", False),
])  # fmt: skip
def test_what_cron_makes_of_a_crontab_with_a_refused_line_is_in_the_plan(bring, table, line, taken):
    """For a line that it cannot read either it starts none of the others."""
    done, _ = bring(table(f"0 3 * * * x\n{line}\n"), "--skip-refused", "--dry-run")
    assert bool(done["jobs"][0]["cron_next"]) is taken
    assert any("takes no line of this crontab, for line 2" in note for note in done["notes"]) is not taken


@pytest.mark.service
@pytest.mark.parametrize(
    "line",
    ["0 0 12 * * MON-FRI poll x", "TZ=Asia/Tokyo 0 9 * * * x", "* * * * * -n x", "0 22-2 * * * x", "* * * * *x-1 -n y"],
)
def test_debians_crontab_takes_what_only_this_refuses(table, line):
    """Its own program says so (`crontab -n`)."""
    import subprocess

    from tests.conftest import require_program

    done = subprocess.run([require_program("crontab"), "-n", table(f"{line}\n")], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_refused_lines_stay_in_the_crontab_where_the_others_are_taken_out(chronos, home, own):
    """What did not come in goes on there."""
    (own / "table").write_text("0 3 * * * x\n0 0 12 * * MON-FRI poll x\n0 0 31 2 * n\n")
    done = own_import(chronos, home, own, "--disable-source", "--skip-refused")
    assert (done.code, (own / "table").read_text()) == (11, "0 0 12 * * MON-FRI poll x\n0 0 31 2 * n\n")


def test_a_folder_without_a_kind_is_refused_with_what_to_say(chronos, folder, home):
    """Which program reads it is not guessed."""
    done = chronos("job", "import", folder.place, home=home)
    assert done.code == 2
    assert done.err.rstrip().endswith("cron.d is a folder: name a file, or say with --from what is in it")


def test_skipping_is_for_crontabs(chronos, bring, table, home):
    """Of other files what is refused is left out anyway."""
    done, code = bring(table("{}"), "--skip-refused", kind="systemd")
    assert (code, said(done)) == (2, "--skip-refused is for crontabs: leave it out: of others the rest comes in anyway")
