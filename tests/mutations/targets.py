"""What is mutated, and the tests that may notice: those that run in this process, without servers."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

TARGETS = (
    *(f"chronos_cli/core/{name}.py" for name in ("claim", "clock", "in_hand", "occurrence", "plan", "row", "edits")),
    "chronos_cli/operations/evaluate.py",
    *(
        f"chronos_cli/operations/firing/{name}.py"
        for name in ("fire", "run", "run_row", "run_end", "tick", "after_answer", "answering")
    ),
    *(f"chronos_cli/operations/arming/{name}.py" for name in ("arm", "carried", "slot_memory", "reconcile")),
    "chronos_cli/store/arms.py",
)

TESTS = (
    *(
        "tests/core",
        "tests/damage",
        "tests/faults",
        "tests/power/test_cuts_in_process.py",
        "tests/sim/test_characters.py",
    ),
    *("tests/store/test_arm_document.py", "tests/store/test_packs.py", "tests/store/test_split_store.py"),
    *("tests/cli/test_tolerance.py", "tests/cli/test_wrong_clock.py", "tests/cli/test_cli_plans.py"),
    "tests/running/test_end_rules.py",
    *(
        "tests/protocol/test_arming_rules.py",
        "tests/protocol/test_rules_of_looks.py",
        "tests/callback/test_answers_that_arm.py",
    ),
)
