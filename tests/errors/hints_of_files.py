"""Files that a command reads, with a fault that its hint names, and as the hint says."""

from __future__ import annotations

NOON = "OnCalendar=daily"
RUN = "ExecStart=/bin/true"

UNITS = [
    # file, words of the hint, the timer and the service with the fault, and as the hint says
    ("operations/foreign/calendar_events.py", "use seconds 00, or *:*:0/n", ("OnCalendar=*:*:30", RUN), ("OnCalendar=*:*:00", RUN)),
    ("operations/foreign/calendar_events.py", "leave out the year, or give one whole time", ("OnCalendar=2030..2032-01-01 00:00", RUN), ("OnCalendar=*-01-01 00:00", RUN)),
    ("operations/foreign/calendar_events.py", "see `systemd-analyze calendar`", ("OnCalendar=at noon", RUN), ("OnCalendar=12:00", RUN)),
    ("operations/foreign/calendar_events.py", "`add` reads L, the last day", ("OnCalendar=*-*~3 00:00", RUN), None),
    ("operations/foreign/calendar_events.py", "keep one of the two", ("OnCalendar=Fri *-*-13 00:00", RUN), ("OnCalendar=Fri 00:00", RUN)),
    ("operations/foreign/calendar_events.py", "name an IANA zone, or UTC", ("OnCalendar=03:15 Mars/Phobos", RUN), ("OnCalendar=03:15 UTC", RUN)),
    ("operations/foreign/calendar_events.py", "write Mon, or Mon..Fri", ("OnCalendar=Mon..Fro 03:15", RUN), ("OnCalendar=Mon..Fri 03:15", RUN)),
    ("operations/foreign/calendar_events.py", "use numbers, a..b, a/n and *", ("OnCalendar=3x:15", RUN), ("OnCalendar=3/2:15", RUN)),
    ("operations/foreign/calendar_events.py", "write its two parts", ("OnCalendar=Sat..Mon 10:00", RUN), ("OnCalendar=Sat..Sun,Mon 10:00", RUN)),
    ("operations/foreign/systemd.py", "add a job with its command", ("OnCalendar=daily\nUnit=x.target", RUN), None),
    ("operations/foreign/systemd.py", "write it as 90s, 5min or 1h", ("OnUnitActiveSec=often", RUN), ("OnUnitActiveSec=5min", RUN)),
    ("operations/foreign/systemd.py", "put the timer right", ("Persistent=yes", RUN), ("Persistent=yes\nOnCalendar=daily", RUN)),
    ("operations/foreign/systemd.py", "use whole seconds", ("OnUnitActiveSec=100ms", RUN), ("OnUnitActiveSec=1s", RUN)),
    ("operations/foreign/systemd.py", "use oneshot or exec", (NOON, "Type=forking\nExecStart=/bin/true"), (NOON, "Type=oneshot\nExecStart=/bin/true")),
    ("operations/foreign/systemd.py", "import it as that user", (NOON, "User=nobody-else\nExecStart=/bin/true"), (NOON, RUN)),
    ("operations/foreign/systemd.py", "use --retries with `chronos job add`", (NOON, "Restart=on-failure\nExecStart=/bin/true"), (NOON, RUN)),
    ("operations/foreign/systemd.py", "put what it reads into the command", (NOON, "StandardInput=tty\nExecStart=/bin/true"), (NOON, RUN)),
    ("operations/foreign/systemd.py", "put the service right", (NOON, "Description=x"), (NOON, RUN)),
    ("operations/foreign/systemd.py", "put the service right", (NOON, "ExecStart=-"), (NOON, RUN)),
    ("operations/foreign/systemd.py", "write sh -c '...' there", (NOON, "EnvironmentFile=/etc/x\nExecStart=/bin/echo ${A}"), (NOON, "EnvironmentFile=/etc/x\nExecStart=/bin/sh -c 'echo $$A'")),
    ("operations/foreign/systemd.py", "leave it out", (NOON, "ExecStart=+/bin/true"), (NOON, RUN)),
    ("operations/foreign/systemd.py", "name the folder in full", (NOON, "WorkingDirectory=x\nExecStart=/bin/true"), (NOON, "WorkingDirectory=/tmp\nExecStart=/bin/true")),
    ("operations/foreign/systemd.py", "add a job with `chronos job add`", ("OnUnitInactiveSec=5min", RUN), None),
    ("operations/foreign/systemd.py", "keep it there", ("OnBootSec=5min", RUN), None),
    ("operations/foreign/systemd.py", "put what it does into the command", (NOON, "ExecStartPre=/bin/true\nExecStart=/bin/false"), (NOON, "ExecStart=/bin/sh -c 'true; false'")),
    ("operations/foreign/systemd.py", "name each file", (NOON, "EnvironmentFile=/etc/*.conf\nExecStart=/bin/true"), (NOON, "EnvironmentFile=/etc/a.conf\nExecStart=/bin/true")),
    ("operations/foreign/systemd.py", "write its value", (NOON, "ExecStart=/bin/echo %Z"), (NOON, "ExecStart=/bin/echo zone")),
    ("operations/foreign/units.py", "put it beside the timer", ("OnCalendar=daily\nUnit=other.service", RUN), (NOON, RUN)),
    ("operations/foreign/units.py", "right", ("Persistent=maybe\nOnCalendar=daily", RUN), ("Persistent=yes\nOnCalendar=daily", RUN)),
    ("operations/foreign/units.py", "close it", (NOON, "ExecStart=/bin/echo 'x"), (NOON, "ExecStart=/bin/echo 'x'")),
    ("operations/foreign/units.py", "put that line right", ("OnCalendar=daily\nnonsense", RUN), (NOON, RUN)),
    ("operations/foreign/units.py", "put that line right", (NOON, "ExecStart=/bin/echo \\q12"), (NOON, "ExecStart=/bin/echo q12")),
]  # fmt: skip
"""Timers of systemd. Where what is right is None the hint sends people elsewhere."""

TABS = [
    # file, words, options, the crontab with the fault, and as the hint says
    ("operations/foreign/crontab.py", "leave it out", (), "0 9 * * * -q true\n", "0 9 * * * true\n"),
    ("operations/foreign/crontab.py", "name the folder in full", (), "HOME=x\n0 9 * * * true\n", "HOME=/tmp\n0 9 * * * true\n"),
    ("operations/foreign/crontab.py", "seconds are one number, or */n", ("--seconds", "first"), "*/7 0 9 * * * true\n", "30 0 9 * * * true\n"),
    ("operations/foreign/crontab.py", "give `chronos job add` the time itself", ("--seconds", "first"), "0 0 9 * * * 2030 true\n", "0 0 9 * * * * true\n"),
    ("operations/foreign/crontab.py", "leave out --system for a user's crontab", ("--system",), "0 9 * * * /bin/true\n", None),
    ("operations/foreign/crontab.py", "--system reads the user of each line", (), "0 9 * * * root /bin/true\n", None),
    ("operations/foreign/crontab.py", "import it as the user whose lines it has", ("--system",), "0 9 * * * nobody-else /bin/true\n", None),
    ("operations/foreign/crontab_lines.py", "put the setting on a line of its own", (), "CRON_TZ=UTC 0 9 * * * true\n", "CRON_TZ=UTC\n0 9 * * * true\n"),
    ("operations/foreign/crontab_lines.py", "put that line right", (), "0 9 * * * tr\0ue\n", "0 9 * * * true\n"),
    ("operations/foreign/crontab_lines.py", "put that line right", (), "0 9 * * *\n", "0 9 * * * true\n"),
]  # fmt: skip

FOLDERS = [
    ("operations/foreign/crontab_source.py", "say with --from what is in it", None, {"x": "0 9 * * * true\n"}, None),
    ("operations/foreign/units.py", "save it as UTF-8", "systemd", {"x.timer": b"# \xff\n"}, {"x.timer": "[Timer]\nOnCalendar=daily\n", "x.service": "[Service]\nExecStart=/bin/true\n"}),
    ("operations/foreign/units.py", "unmask it, or leave it so", "systemd", {"x.timer": ""}, {"x.timer": "[Timer]\nOnCalendar=daily\n", "x.service": "[Service]\nExecStart=/bin/true\n"}),
    ("operations/foreign/systemd.py", "INSTANCE.timer", "systemd", {"x@.timer": "[Timer]\nOnCalendar=daily\n"}, {"x@a.timer": "[Timer]\nOnCalendar=daily\n", "x@.service": "[Service]\nExecStart=/bin/true\n"}),
    # file, words, the kind, and the files of a folder with the fault, and as the hint says
    ("cli/foreign_sources.py", "name a folder of crontabs, or one file", "crontab", {}, {"x": "0 9 * * * true\n"}),
    ("cli/foreign_sources.py", "import the crontab with the line that starts it", "crontab", {"x": "#!/bin/sh\ntrue\n"}, {"x": "0 9 * * * run-parts .\n"}),
    ("cli/foreign_sources.py", "name a folder of manifests, or a file", "kubernetes", {"x.yaml": "kind: Pod\n"}, None),
]  # fmt: skip
"""Folders of files."""

CRONJOBS = [
    # file, words, what is put in the place of what in a good CronJob, and what the hint says there
    ("operations/foreign/kubernetes.py", "a CronJob has five", ("0 3 * * *", "0 0 3 * * *"), ("--local",)),
    ("operations/foreign/kubernetes.py", "give it a shorter name", ("name: nightly", f"name: {'n' * 200}"), ("--local",)),
    ("operations/foreign/kubernetes.py", "give what `kubectl get cronjobs -o yaml` prints", ("kind: CronJob", "kind: Pod"), ("--local",)),
    ("operations/foreign/kubernetes.py", "it may be Allow, Forbid or Replace", ("schedule:", "concurrencyPolicy: Never\n  schedule:"), ("--local",)),
    ("operations/foreign/kubernetes.py", "put that CronJob right", ("schedule:", "suspend: maybe\n  schedule:"), ("--local",)),
    ("operations/foreign/kubernetes.py", "put that CronJob right", ("schedule: 0 3 * * *", "nothing: 1"), ("--local",)),
    ("operations/foreign/kubernetes.py", "put it in quotes", ("name: nightly", "name: 0123"), ("--local",)),
    ("operations/foreign/kubernetes.py", "leave out --local", (', command: ["true"]', ""), ()),
]  # fmt: skip
"""CronJobs. Where the options differ, the hint is about them; else the good CronJob is what it says."""

SETS = [
    # file, words, the file with the fault, and as the hint says
    ("operations/manifest/files.py", "take one of them out", "jobs:\n- {id: x, schedule: '@daily', shell: a}\n- {id: x, schedule: '@daily', shell: b}\n", "jobs:\n- {id: x, schedule: '@daily', shell: a}\n"),
    ("operations/manifest/files.py", "put it under 'defaults', or into each job", "overlap: queue\njobs: []\n", "defaults: {overlap: queue}\njobs: []\n"),
    ("operations/manifest/files.py", "take it apart", b"#" * ((8 << 20) + 1), "jobs: []\n"),
    ("operations/manifest/nodes.py", "put that line right", "jobs: [\n", "jobs: []\n"),
    ("operations/manifest/nodes.py", "take it out", "jobs: []\n# \x07\n", "jobs: []\n"),
    ("operations/manifest/nodes.py", "save it as UTF-8", b"jobs: []\n# \xff\n", "jobs: []\n"),
    ("operations/manifest/spec.py", "use letters, digits, '.', '_' and '-', at most 128 of them", "jobs:\n- {id: a b, schedule: '@daily', shell: a}\n", "jobs:\n- {id: a_b, schedule: '@daily', shell: a}\n"),
    ("operations/manifest/spec.py", "write NAME: value", "jobs:\n- {id: x, schedule: '@daily', http: {url: 'https://x.example', headers: {\"A\\nB\": c}}}\n", "jobs:\n- {id: x, schedule: '@daily', http: {url: 'https://x.example', headers: {A: c}}}\n"),
    ("operations/manifest/bring.py", "write the time itself, or use `chronos job add`", "jobs:\n- {id: x, schedule: in 5m, shell: a}\n", "jobs:\n- {id: x, schedule: '2099-01-01T00:00', shell: a}\n"),
]  # fmt: skip
"""Files of jobs, as `chronos apply -f` reads them."""
