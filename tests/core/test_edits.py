"""What a person does to a job: nothing is started, nothing claimed twice, and what came due is accounted for."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from chronos_cli.core.edits import Edit, JobDraft, edited, new_record, paused, resumed
from chronos_cli.core.job import OpenKind, Standing, jitter_of, parse_job
from chronos_cli.core.policy import Policy
from chronos_cli.core.schedule import Cron, Interval, Once
from chronos_cli.errors import ConflictError, UsageError
from tests.core.making import HOME, T, at, job

UTC_ZONE = ZoneInfo("UTC")


def edit(found, *, now=None, **changes):
    return parse_job(edited(found, Edit(**changes), now=now or at(-60), token="edit", defaults=Policy()), HOME)


def draft(**changes):
    given = {
        "job_id": "j",
        "name": "j",
        "schedule": Interval(seconds=300),
        "zone": UTC_ZONE,
        "zone_name": "UTC",
        "policy": Policy(),
    }
    return JobDraft(**(given | changes))


def test_a_new_job_is_due_at_its_first_instant_ahead():
    """An interval counts from its making; the record reads back as live."""
    found = parse_job(new_record(draft(), now=at(0.7), token="t", defaults=Policy()), HOME)
    assert found.cursor == at(300)
    assert found.standing is Standing.LIVE


def test_an_edit_that_leaves_the_schedule_leaves_the_cursor():
    """A due run is not dropped because somebody changed the name."""
    assert edit(job(), now=at(30), name="other").cursor == T


def test_an_edit_of_the_schedule_is_due_strictly_later_and_claims_nothing():
    """The new schedule starts at its next instant, and no instant of the old is in `open` when none had come."""
    found = edit(job(), schedule=Cron(expr="0 * * * *"))
    assert found.cursor == T
    assert not found.open


def test_what_had_come_due_before_an_edit_is_entered_as_missed():
    """Two instants that nobody claimed become one range, settled by the same write."""
    found = edit(job(), now=at(400), schedule=Cron(expr="0 * * * *"))
    (owed,) = found.open
    assert (owed.kind, owed.fire_at, owed.through, owed.count) == (OpenKind.MISSED, T, at(300), 2)
    assert found.claimed_through == at(300)
    assert found.cursor == at(3_600)


def test_what_had_come_due_before_an_edit_of_a_paused_job_is_entered_as_skipped():
    """A new schedule begins anew, and the resume that follows would no longer know of it."""
    found = edit(job(state="paused", enabled=False), now=at(400), schedule=Cron(expr="0 * * * *"))
    (owed,) = found.open
    assert (owed.kind, owed.fire_at, owed.through, owed.count) == (OpenKind.SKIPPED, T, at(300), 2)
    assert (found.standing, found.cursor) == (Standing.PAUSED, at(3_600))


def test_an_edit_keeps_the_count_of_repeat():
    """Two of five runs are still two of five."""
    found = edit(job(repeat={"times": 5, "completed": 2}), schedule=Interval(seconds=60))
    assert (found.times, found.completed) == (5, 2)


def test_another_jitter_does_not_run_a_slot_again():
    """The slot that ran at its old offset is not due once more at the new one."""
    policy = Policy(jitter=200)
    offset = jitter_of("j", policy)
    found = job(next_run_at=at(300).isoformat(), ours={"claimed_through": T.isoformat()})
    changed = edit(found, now=at(1), policy=policy)
    assert changed.cursor == at(300) + offset


def test_another_jitter_does_not_run_a_single_instant_again():
    """A one-shot that ran stays done when only its jitter changes."""
    spent = {"schedule": {"kind": "once", "run_at": T.isoformat()}, "next_run_at": None, "enabled": False}
    found = job(**spent, state="completed", ours={"claimed_through": T.isoformat()})
    changed = edit(found, now=at(1), policy=Policy(jitter=200))
    assert changed.cursor is None
    assert changed.standing is Standing.COMPLETED


def test_a_jitter_as_long_as_the_gap_is_refused():
    """Jitter must not let two instants change places."""
    with pytest.raises(UsageError, match="jitter"):
        edit(job(), policy=Policy(jitter=300))


def test_a_new_schedule_revives_a_completed_job():
    """That is how a person gives it a new time."""
    spent = job(next_run_at=None, enabled=False, state="completed", ours={"claimed_through": T.isoformat()})
    found = edit(spent, now=at(60), schedule=Once(at=at(3_600)))
    assert (found.standing, found.cursor) == (Standing.LIVE, at(3_600))


def test_a_pause_and_what_came_due_meanwhile():
    """After a pause over three instants they are one range of skipped ones, and the schedule goes on in its step."""
    shelved = parse_job(paused(job(), reason=None, now=at(-10), token="p"), HOME)
    found = parse_job(resumed(shelved, now=at(700), token="r"), HOME)
    (owed,) = found.open
    assert (owed.kind, owed.count, owed.through) == (OpenKind.SKIPPED, 3, at(600))
    assert found.cursor == at(900)


def test_a_one_shot_whose_time_passed_while_it_was_paused_is_not_resumed():
    """There is nothing left to come, and the answer says so."""
    once = job(schedule={"kind": "once", "run_at": T.isoformat()}, state="paused", enabled=False)
    with pytest.raises(ConflictError, match="passed"):
        resumed(once, now=at(60), token="r")


@pytest.mark.parametrize("change", [paused, resumed])
def test_what_is_so_already_stays_byte_for_byte(change):
    """Pausing a paused job and resuming a live one change nothing."""
    found = job(state="paused", enabled=False) if change is paused else job()
    more = {"reason": None} if change is paused else {}
    assert change(found, now=T, token="again", **more) == dict(found.record)


def test_another_jitter_for_a_single_instant_that_has_passed_ends_the_job():
    """What nobody claimed is missed, and a one-shot without an instant ahead has no cursor left."""
    found = job(schedule={"kind": "once", "run_at": T.isoformat()})
    changed = edit(found, now=at(60), policy=Policy(jitter=20))
    assert [owed.kind for owed in changed.open] == [OpenKind.MISSED]
    assert changed.cursor is None
    assert changed.standing is not Standing.LIVE


def test_a_single_instant_has_no_gap_that_a_jitter_could_fill():
    """Nothing comes after it; a tolerance is a day at most all the same."""
    once = draft(schedule=Once(at=at(300)), policy=Policy(jitter=400 * 86_400, tolerance=86_400))
    assert parse_job(new_record(once, now=at(0), token="t", defaults=Policy()), HOME).policy.jitter == 400 * 86_400
    with pytest.raises(UsageError):
        new_record(
            draft(schedule=Once(at=at(300)), policy=Policy(tolerance=86_401)), now=T, token="t", defaults=Policy()
        )


@pytest.mark.parametrize("span", ["jitter", "tolerance"])
def test_a_jitter_or_a_tolerance_as_long_as_the_gap_is_refused_by_itself(span):
    """A second less is taken; of a schedule that stays, an edit of the tolerance is checked as well."""
    new_record(draft(policy=Policy(**{span: 299})), now=T, token="t", defaults=Policy())
    with pytest.raises(UsageError):
        new_record(draft(policy=Policy(**{span: 300})), now=T, token="t", defaults=Policy())
    edit(job(), policy=Policy(**{span: 299}))
    with pytest.raises(UsageError):
        edit(job(), policy=Policy(**{span: 300}))


def test_a_record_without_a_count_gets_one_with_its_limit():
    """Another program may have left it out."""
    for repeat in (None, "3"):
        found = edit(job(repeat=repeat), times=5)
        assert found.record["repeat"] == {"times": 5, "completed": 0}
    assert edit(job(repeat={"times": 2, "completed": 1}), times=0).record["repeat"] == {"times": None, "completed": 1}


def test_a_single_time_is_had_once_and_an_edit_keeps_the_zone():
    """Whatever was asked for; a new schedule without a zone is of the job's own."""
    once = new_record(draft(schedule=Once(at=at(300)), times=7), now=T, token="t", defaults=Policy())
    assert once["repeat"] == {"times": 1, "completed": 0}
    berlin = job(ours={"timezone": "Europe/Berlin"}, schedule={"kind": "cron", "expr": "0 9 * * *"})
    assert edit(berlin, schedule=Cron(expr="0 15 * * *")).cursor == at(2 * 3_600)
    assert edit(berlin, schedule=Cron(expr="0 15 * * *"), zone=UTC_ZONE, zone_name="UTC").cursor == at(3 * 3_600)
