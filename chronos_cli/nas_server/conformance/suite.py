"""All clauses: those of the first hop one after the other, those of the third together, since they mostly wait."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from chronos_cli.nas_server.conformance import answers, hop1, hop3
from chronos_cli.nas_server.conformance.interface import BrokenError, ClauseVerdict, Finding, NotTestedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chronos_cli.nas_server.conformance.interface import Clause
    from chronos_cli.nas_server.conformance.probe import ContractProbe

CLAUSES = (*hop1.CLAUSES, *hop3.CLAUSES, *answers.CLAUSES)


def examine(probe: ContractProbe, clauses: Sequence[Clause] = CLAUSES) -> Iterator[Finding]:
    """Try every clause and yield what was found, in order; what was armed is cancelled in the end.

    Raises NasUnavailableError where the NAS cannot be reached.
    """
    try:
        for clause in clauses:
            if clause.hop == 1:
                yield _try(clause, probe)
        third = [clause for clause in clauses if clause.hop != 1]
        if third:
            with ThreadPoolExecutor(max_workers=len(third)) as pool:
                yield from pool.map(lambda clause: _try(clause, probe), third)
    finally:
        probe.clean()


def _try(clause: Clause, probe: ContractProbe) -> Finding:
    try:
        clause.check(probe)
    except BrokenError as error:
        return Finding(clause=clause, verdict=ClauseVerdict.BROKEN, detail=str(error))
    except NotTestedError as error:
        return Finding(clause=clause, verdict=ClauseVerdict.NOT_TESTED, detail=str(error))
    return Finding(clause=clause, verdict=ClauseVerdict.KEPT)
