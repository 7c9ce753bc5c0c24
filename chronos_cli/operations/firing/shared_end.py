"""The write at a run's end, made by the server that started the run, together with what else meets there.

The runner asks; the server looks at the job for it, under the runner's own token, in one write of the jobs with the
claims and the ends that come at the same time, and says what follows. It starts and arms nothing. A runner that gets no
answer looks itself, by the same token: what was written in the meantime it then finds as its own. So the write is never
left out, and what it has claimed is begun by the runner alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import FireRequest, Purpose, Trigger, Wake
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import frozen, replace
from chronos_cli.operations.evaluate import evaluate_together
from chronos_cli.operations.firing.run import RunTicket

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronos_cli.operations.context import Context
    from chronos_cli.operations.evaluate import Evaluation


@frozen
class EndRequest:
    """The look at a job whose run is over. `basis`: the store and the defaults that the runner would go by."""

    job_id: str
    token: str
    trust: Trust
    basis: str

    @classmethod
    def of(cls, ctx: Context, job_id: str, token: str) -> EndRequest:
        """Return the request for the look that this runner would make."""
        return cls(job_id=job_id, token=token, trust=ctx.trust, basis=basis_of(ctx))

    def to_json(self) -> dict[str, Any]:
        """Return it as it goes to the server."""
        return {"job_id": self.job_id, "token": self.token, "trust": self.trust.value, "basis": self.basis}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> EndRequest:
        """Read it back. Raises KeyError and ValueError."""
        job_id, token, basis = (str(document[name]) for name in ("job_id", "token", "basis"))
        return cls(job_id=job_id, token=token, trust=Trust(document["trust"]), basis=basis)


@frozen
class EndResult:
    """Result of a look at a run's end: the runs to begin, and the wake that the job then needs."""

    tickets: tuple[RunTicket, ...]
    wake: Wake | None

    @classmethod
    def of(cls, ctx: Context, looked: Evaluation) -> EndResult:
        """Return what a look has decided on."""
        job, starts = looked.job, looked.decision.starts
        tickets = () if job is None else tuple(RunTicket.of(job, start, ctx.token()) for start in starts)
        return cls(tickets=tickets, wake=looked.decision.wake)

    def to_json(self) -> dict[str, Any]:
        """Return it as it goes to the runner."""
        wake = self.wake and {
            "at": self.wake.at.isoformat(), "purpose": self.wake.purpose.value, "tolerance": self.wake.tolerance
        }  # fmt: skip
        return {"tickets": [ticket.to_json() for ticket in self.tickets], "wake": wake}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> EndResult:
        """Read it back. Raises KeyError, TypeError or ValueError."""
        wake = document["wake"]
        return cls(
            tickets=tuple(map(RunTicket.from_json, document["tickets"])),
            wake=wake
            and Wake(
                at=datetime.fromisoformat(wake["at"]),
                purpose=Purpose(wake["purpose"]),
                tolerance=int(wake["tolerance"]),
            ),
        )


def basis_of(ctx: Context) -> str:
    """Return what a look goes by beside the record: a server that has another does not look for this runner."""
    return " ".join((ctx.repository.location, repr(ctx.home)))


def look_together(ctx: Context, requests: Sequence[EndRequest]) -> list[EndResult | None]:
    """Look at jobs whose runs are over, with one write of their records; None for one whose runner must look itself.

    `ctx`: with an outbox of its own; what is over that the on-failure command has not been told of is in it after this.
    """
    found: dict[int, EndResult | None] = {}
    basis = basis_of(ctx)
    for trust in {request.trust for request in requests if request.basis == basis}:
        mine = [n for n, request in enumerate(requests) if request.trust is trust and request.basis == basis]
        looks = [(requests[n].job_id, FireRequest(via=Trigger.RUN_ENDED, token=requests[n].token)) for n in mine]
        outcomes = evaluate_together(replace(ctx, trust=trust), looks)
        for n, outcome in zip(mine, outcomes, strict=True):
            found[n] = None if isinstance(outcome, ChronosError) else EndResult.of(ctx, outcome)
    return [found.get(n) for n in range(len(requests))]
