"""The store, as far as a run looks into it."""

import json

from hermes_constants import get_hermes_home


def load_jobs():
    return json.loads((get_hermes_home() / "cron" / "jobs.json").read_text())["jobs"]


def get_job(job_id):
    return next((job for job in load_jobs() if job["id"] == job_id), None)


def mark_job_run(job_id, success, error=None, delivery_error=None, *, expected_fire_owner=None, quota_hold=None):
    raise AssertionError("a second writer of the record's end")


def claim_dispatch(job_id, *, expected_fire_owner=None):
    raise AssertionError("a second claim")


def claim_job_for_fire(job_id, **kwargs):
    raise AssertionError("a claim that is not chronos'")


def create_job(prompt, schedule, *, script=None, interpreter=None, monitor_script=None, monitor_url=None):
    raise AssertionError("no job is made here")
