"""One run from its claim to its end, which newer versions keep apart from the scheduler."""

import subprocess

from hermes_constants import get_hermes_home

from cron.jobs import claim_dispatch, get_job, mark_job_run


def run(job, *, cancel_event=None):
    owner = (job.get("fire_claim") or {}).get("by")
    current = get_job(job["id"])
    if not current or not current.get("enabled") or current.get("state") == "paused" or current.get("paused_at"):
        return False  # paused between claim and run
    if (current.get("fire_claim") or {}).get("by") != owner:
        return False  # somebody else's claim by now
    if not claim_dispatch(job["id"], expected_fire_owner=owner):
        return False
    script = get_hermes_home() / "scripts" / job["script"]
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False)
    error = None if done.returncode == 0 else f"status {done.returncode}"
    mark_job_run(
        job_id=job["id"],
        success=error is None,
        error=error,
        delivery_error=None,
        expected_fire_owner=owner,
        quota_hold=None,
    )
    return True
