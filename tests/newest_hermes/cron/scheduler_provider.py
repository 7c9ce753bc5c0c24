"""The interface of providers: a fire is claimed first and run after, and a made job is handed over by its record."""

import threading
from abc import ABC, abstractmethod

TICKING = []


class CronScheduler(ABC):
    @property
    @abstractmethod
    def name(self): ...

    def is_available(self):
        return True

    @abstractmethod
    def start(self, stop_event, *, adapters=None, loop=None, interval=60): ...

    def stop(self):
        return None

    def on_jobs_changed(self):
        return None

    def register_job(self, job):
        return None

    def recover_interrupted(self):
        from cron.executions import recover_interrupted_executions

        return recover_interrupted_executions()

    def fire_due(self, job_id, *, adapters=None, loop=None, force=False, manual=False):
        claimed = self.claim_fire(job_id, force=force, manual=manual)
        return False if claimed is None else self.fire_claimed(claimed, adapters=adapters, loop=loop)

    def claim_fire(self, job_id, *, force=False, manual=False):
        from cron.jobs import claim_job_for_fire

        return claim_job_for_fire(job_id, force=force, manual=manual)

    def fire_claimed(self, claimed_job, *, adapters=None, loop=None, cancel_event=None):
        from cron.scheduler import run_one_job

        return run_one_job(claimed_job, adapters=adapters, loop=loop, cancel_event=cancel_event)

    def reconcile(self):
        return None


class InProcessCronScheduler(CronScheduler):
    name = "builtin"

    def start(self, stop_event, *, adapters=None, loop=None, interval=60, can_dispatch=None, profile_homes=None):
        TICKING.append({"adapters": adapters, "interval": interval, "can_dispatch": can_dispatch})
        stop_event.wait()
        TICKING.append("stopped")


def provider_fires_over_loopback(provider):
    return getattr(provider, "fires_over_loopback", False) is True


def provider_supports_split_fire(provider):
    cls = type(provider)
    return any(getattr(cls, name) is not getattr(CronScheduler, name) for name in ("claim_fire", "fire_claimed"))


def sweep(provider, job_ids):
    """Fire what nobody came for: claimed here, run in threads of their own."""
    threads = []
    for job_id in job_ids:
        claimed = provider.claim_fire(job_id)
        if claimed is None:
            continue
        kwargs = {"adapters": None, "loop": None}
        threads.append(threading.Thread(target=provider.fire_claimed, args=(claimed,), kwargs=kwargs, daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(30)
    return len(threads)
