"""What runs one job."""

from cron import pipeline


def run_one_job(job, *, adapters=None, loop=None, verbose=False, cancel_event=None, defer_mark=False):
    return pipeline.run(job, cancel_event=cancel_event)
