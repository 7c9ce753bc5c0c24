"""The picture of jobs over time: true to the ledger, in a terminal, as SVG, and in a real browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import struct
import subprocess
import xml.etree.ElementTree as ET
import zlib
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from chronos_cli.cli.charts import ticks
from chronos_cli.operations.views.timeline import Timeline, _shifts
from tests.conftest import require_program

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def lively(chronos, home):
    """A home with a job that ran well, one that failed, one that was skipped while paused, and one that is to come."""
    for job_id, line in (("good", "true"), ("bad", "exit 1"), ("later", "true")):
        words = ("--id", job_id, "--name", f"{job_id} <job>", "--shell", line)
        assert chronos("job", "add", "every 10m", *words, home=home).code == 0
    chronos("run", "good", home=home)
    chronos("run", "bad", home=home)
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    ago = (datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=35)).isoformat()
    document["jobs"][2] |= {"next_run_at": ago, "state": "paused", "enabled": False}
    document["jobs"][2]["chronos"]["anchor"] = ago
    path.write_text(json.dumps(document))
    assert chronos("job", "resume", "later", home=home).code == 0
    return home


def test_the_facts_are_those_of_the_ledger_and_the_schedule(chronos, lively):
    """Each past row is there with its result, and each coming instant up to the end of the window."""
    document = chronos("timeline", "--last", "1h", "--next", "1h", "--json", home=lively).json
    lanes = {lane["job_id"]: lane for lane in document["jobs"]}
    assert [bar["state"] for bar in lanes["good"]["past"]] == ["ok"]
    assert [bar["state"] for bar in lanes["bad"]["past"]] == ["failed"]
    skipped = lanes["later"]["past"]
    assert [bar["state"] for bar in skipped] == ["skipped"]
    assert skipped[0]["note"].startswith("4 times")
    for lane in lanes.values():
        times = [datetime.fromisoformat(at) for at in lane["coming"]]
        assert len(times) == 6 if lane["job_id"] == "good" else 5 <= len(times) <= 6
        assert {b - a for a, b in pairwise(times)} == {timedelta(minutes=10)}
    assert [lane["job_id"] for lane in chronos("timeline", "good", "--json", home=lively).json["jobs"]] == ["good"]


@pytest.mark.parametrize("width", [40, 72, 200])
def test_every_line_keeps_to_the_width(chronos, lively, width):
    """Narrow or wide, a line of the chart is never longer than the terminal."""
    done = chronos("timeline", "--last", "1h", "--next", "1h", home=lively, env={"COLUMNS": str(width)})
    assert done.code == 0
    chart = done.out.splitlines()
    assert max(map(len, chart)) <= width
    assert any("✗" in line for line in chart)
    assert any("█" in line for line in chart)
    assert done.out.splitlines()[-1].endswith("now")


def test_the_svg_holds_every_run_and_needs_nothing_else(chronos, lively, tmp_path):
    """The file is XML, has one shape a run and a circle a coming instant, names are escaped, nothing is fetched."""
    target = tmp_path / "t.svg"
    document = chronos("timeline", "--last", "1h", "--next", "1h", "--svg", target, "--json", home=lively).json
    root = ET.fromstring(target.read_text())
    shapes = [item.get("class") for item in root.iter() if item.get("class")]
    coming = sum(len(lane["coming"]) for lane in document["jobs"])
    assert shapes.count("coming") == coming
    assert {"ok", "failed", "skipped"} <= set(shapes)
    assert "good <job>" in {item.text for item in root.iter(f"{SVG}text")}
    text = target.read_text()
    assert "href" not in text
    assert "<script" not in text


@pytest.mark.service
def test_a_real_browser_shows_the_svg(chronos, lively, tmp_path):
    """Chromium draws the file: the picture has the green of a good run and the red of a failed one."""
    chromium = require_program("chromium", "google-chrome")
    target, shot = tmp_path / "t.svg", tmp_path / "t.png"
    chronos("timeline", "--last", "1h", "--next", "1h", "--svg", target, home=lively)
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--force-device-scale-factor=1",
             f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1110,260")  # fmt: skip
    subprocess.run(
        [chromium, *flags, f"--screenshot={shot}", target.as_uri()], capture_output=True, timeout=90, check=True
    )
    colours = pixels(shot)
    assert (0x2E, 0x8B, 0x57) in colours
    assert (0xC6, 0x28, 0x28) in colours


def pixels(path: Path) -> set[tuple[int, int, int]]:
    """The colours of a PNG as browsers write it: eight bits, no interlace."""
    data, at, packed, kind = path.read_bytes(), 8, b"", 2
    width = height = 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        if name == b"IHDR":
            width, height, _, kind = struct.unpack(">IIBB", data[at + 8 : at + 18])
        elif name == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += size + 12
    step = {2: 3, 6: 4}[kind]
    raw, before, found = zlib.decompress(packed), bytes(width * step), set()
    for row in range(height):
        start = row * (width * step + 1)
        line = bytearray(raw[start + 1 : start + 1 + width * step])
        for index in range(len(line)):
            left = line[index - step] if index >= step else 0
            up, corner = before[index], before[index - step] if index >= step else 0
            nearest = min((left, up, corner), key=lambda one, of=left + up - corner: abs(of - one))
            line[index] = (line[index] + (0, left, up, (left + up) // 2, nearest)[raw[start]]) & 255
        before = bytes(line)
        found |= {tuple(line[index : index + 3]) for index in range(0, len(line), step)}
    return found


def test_changes_of_the_clocks_are_found_to_the_second():
    """In New York the clocks go back at 06:00 UTC on 2026-11-01, and forward at 07:00 UTC on 2027-03-14."""
    found = list(
        _shifts(ZoneInfo("America/New_York"), datetime(2026, 10, 30, tzinfo=UTC), datetime(2027, 4, 1, tzinfo=UTC))
    )
    assert [(shift.at, shift.after - shift.before) for shift in found] == [
        (datetime(2026, 11, 1, 6, tzinfo=UTC), timedelta(hours=-1)),
        (datetime(2027, 3, 14, 7, tzinfo=UTC), timedelta(hours=1)),
    ]


@pytest.mark.parametrize(("hours", "most"), [(1, 6), (24, 12), (24 * 40, 12)])
def test_the_axis_has_round_times_and_not_too_many(hours, most):
    """Labels stand on round wall-clock times of the zone."""
    start = datetime(2026, 11, 20, 10, 3, tzinfo=UTC)
    facts = Timeline(start=start, now=start, end=start + timedelta(hours=hours), zone=timezone(timedelta(hours=1)),
                     zone_name="x", lanes=(), shifts=())  # fmt: skip
    found = list(ticks(facts, most=most))
    assert 1 <= len(found) <= most + 1
    assert all(at.second == 0 and at.minute % 5 == 0 for at, _ in found)


def window_of(chronos, home, *words):
    document = chronos("timeline", *words, "--json", home=home).json
    start, now, end = (datetime.fromisoformat(document[key]) for key in ("start", "now", "end"))
    return now - start, end - now


@pytest.mark.parametrize(
    ("schedules", "least", "most"),
    [
        (("every 2s",), timedelta(minutes=1), timedelta(minutes=1)),
        (("every 10m",), timedelta(minutes=10), timedelta(minutes=30)),
        (("@yearly",), timedelta(days=1), timedelta(days=366)),
        (("every 10m", "every 1h"), timedelta(minutes=30), timedelta(hours=2)),
        (("every 2s", "@yearly"), timedelta(minutes=2), timedelta(minutes=10)),
        ((), timedelta(hours=1), timedelta(hours=1)),
    ],
)
def test_it_is_as_long_as_there_is_something_to_see(chronos, home, schedules, least, most):
    """Unless it is said how long: to each job's next time, as far as the busiest can be told apart."""
    for number, schedule in enumerate(schedules):
        assert chronos("job", "add", schedule, "--id", f"j{number}", "--shell", "true", home=home).code == 0
    back, ahead = window_of(chronos, home)
    assert least <= ahead <= most
    assert ahead / 4 <= back <= ahead
    assert window_of(chronos, home, "--last", "3h") == (timedelta(hours=3), max(ahead, timedelta(minutes=0)))
    assert window_of(chronos, home, "--last", "3h", "--next", "1d") == (timedelta(hours=3), timedelta(days=1))


@pytest.fixture
def troubled(chronos, lively):
    """The same home after an outage of half an hour, with a job that is overdue and one that is broken."""
    path = lively / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    now = datetime.now(UTC).replace(microsecond=0)
    document["jobs"][0]["next_run_at"] = (now - timedelta(minutes=3)).isoformat()
    document["jobs"].append({"id": "half", "name": "half <b>"})
    path.write_text(json.dumps(document))
    due, begun = now - timedelta(minutes=50), now - timedelta(minutes=20)
    name = f"{due:%Y%m%dT%H%M%SZ}"
    row = {"job_id": "bad", "run_id": name, "state": "ok", "kind": "late", "claim": "c", "claimed_at": begun.isoformat(),
           "scheduled_at": due.isoformat(), "started_at": begun.isoformat(), "finished_at": begun.isoformat(),
           "lateness_s": 1800.0}  # fmt: skip
    (lively / "cron" / "runs" / "bad" / f"{name}.json").write_text(json.dumps(row))
    return lively


def test_outages_and_what_is_overdue_are_drawn(chronos, troubled):
    """Both outages with their times and zone, the one that lasts till now too; the lane of what is due, and the broken."""
    document = chronos("timeline", "--last", "2h", "--json", home=troubled).json
    lengths = [datetime.fromisoformat(one["end"]) - datetime.fromisoformat(one["start"]) for one in document["outages"]]
    assert len(lengths) == 2
    assert lengths[0] == timedelta(minutes=30)
    assert timedelta(minutes=3) <= lengths[1] <= timedelta(minutes=4)
    lanes = {lane["job_id"]: lane for lane in document["jobs"]}
    assert lanes["good"]["overdue_since"]
    assert lanes["half"]["problem"]
    done = chronos("timeline", "--last", "2h", home=troubled)
    assert done.out.count("outage 2") == 2
    assert " CET: jobs" in done.out or " CEST: jobs" in done.out
    assert "good <job>: due since 2" in done.out
    assert "half <b>  " in done.out
    assert "invalid: " in done.out
    for glyph in "▓▄╌":
        assert glyph in done.out
    held = chronos("hold", "--reason", "db migration", home=troubled)
    assert held.code == 0
    document = chronos("timeline", "--json", home=troubled).json
    assert "db migration" in document["outages"][-1]["reason"]
    assert document["jobs"][0]["overdue_since"] is None


def test_a_run_that_waits_for_another_is_no_outage(chronos, troubled):
    """Where another job was started by itself meanwhile, what triggers jobs was there."""
    path = next(iter((troubled / "cron" / "runs" / "bad").glob("2*.json")))
    row = json.loads(path.read_text())
    between = (datetime.fromisoformat(row["scheduled_at"]) + timedelta(seconds=30)).isoformat()
    name = f"{datetime.fromisoformat(between):%Y%m%dT%H%M%SZ}"
    other = row | {"job_id": "good", "run_id": name, "kind": "on_time", "scheduled_at": between, "started_at": between}
    (troubled / "cron" / "runs" / "good" / f"{name}.json").write_text(json.dumps(other))
    assert len(chronos("timeline", "--last", "2h", "--json", home=troubled).json["outages"]) == 1


@pytest.fixture
def page(chronos, troubled, tmp_path):
    """The page of a home whose names and reasons are markup."""
    path = troubled / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][1]["name"] = '"><script>document.title="owned"</script><img src=http://127.0.0.1:9/x>'
    path.write_text(json.dumps(document))
    target = tmp_path / "t.html"
    done = chronos("timeline", "--last", "2h", "--html", target, "--json", home=troubled)
    assert done.json["html"] == str(target)
    return target


def test_the_page_needs_nothing_and_lets_nothing_in(page):
    """No request, script or handler; the policy names the one style by its hash; every text is escaped."""
    text = page.read_text()
    assert (
        re.search(r"<(script|img|link|iframe|object|base)\b|<[^>]*\b(src|href|on\w+|style)=|url\(|@import", text)
        is None
    )
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    (style,) = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert html.unescape(policy).startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert "&lt;script&gt;" in text
    assert "prefers-color-scheme: dark" in style
    body = re.sub(r"<!DOCTYPE html>|<meta[^>]*>", "", text)
    ET.fromstring(body)  # every tag is closed, every text escaped
    assert "due since" in text
    assert text.count("outage 2") == 4  # in words, and in the picture


@pytest.mark.service
@pytest.mark.soak
@pytest.mark.parametrize("dark", [False, True])
def test_a_real_browser_shows_the_page(page, tmp_path, dark):
    """Chromium draws it in both schemes and runs nothing of what it holds; a click is not needed for the runs' words."""
    chromium = require_program("chromium", "google-chrome")
    shot = tmp_path / "t.png"
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--force-device-scale-factor=1",
             f"--blink-settings=preferredColorScheme={0 if dark else 1}",
             f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,600")  # fmt: skip
    subprocess.run(
        [chromium, *flags, f"--screenshot={shot}", page.as_uri()], capture_output=True, timeout=90, check=True
    )
    colours = pixels(shot)
    assert ((0x15, 0x18, 0x1C) in colours) is dark
    assert ((0xFF, 0xFF, 0xFF) in colours) is not dark
    assert (0xC6, 0x28, 0x28) in colours
    done = subprocess.run(
        [chromium, *flags, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=90, check=True
    )
    assert "owned</title>" not in done.stdout
    assert "<title>chronos timeline, " in done.stdout
    assert "<summary>what ran, and what did not</summary>" in done.stdout
