"""What is mutated, and the tests that may notice: those that run in this process, without servers."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def _in(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}.py" for name in names)


TARGETS = (
    *_in(
        "chronos_cli/core",
        "claim",
        "clock",
        "cron_fields",
        "edits",
        "field_faults",
        "foreign_schedules",
        "instant",
        "job",
        "labels",
        "natural",
        "occurrence",
        "open_runs",
        "plan",
        "policy",
        "record_action",
        "record_changes",
        "row",
        "schedule",
        "schedule_text",
        "variables",
        "wall",
    ),
    *_in("chronos_cli/operations", "evaluate", "evaluate_all", "witness"),
    *_in("chronos_cli/operations/firing", "admission", "after_answer", "answering", "fire", "fleet", "launchers"),
    *_in("chronos_cli/operations/firing", "probe", "refused_token", "run", "run_end", "run_row", "runner"),
    *_in("chronos_cli/operations/firing", "shared_end", "tick"),
    *_in("chronos_cli/operations/arming", "apply_plan", "arm", "carried", "reconcile", "slot_memory"),
    # Processes, the callback's doors and NAS's client are left out: a slip there ends processes, or calls, by mistake.
    *_in("chronos_cli/running", "end_channel"),
    *_in("chronos_cli/callback", "shared_ends"),
    *_in("chronos_cli/store", "atomic", "backups", "documents", "filelock", "group_change", "holds", "job_entries"),
    *_in("chronos_cli/store", "jobsfile", "jsonarray", "jsontext", "local", "proof", "repository", "rows", "split"),
    *_in("chronos_cli/store", "ticks"),
    *_in("chronos_cli/store/arms", "batch", "document", "pack", "store"),
    *_in("chronos_cli/trust", "compat", "fetch", "jti", "jwks", "keys", "settings", "signature", "tokens", "verifier"),
)

TESTS = (
    *(
        "tests/core",
        "tests/damage",
        "tests/faults",
        "tests/power/test_cuts_in_process.py",
        "tests/sim/test_characters.py",
    ),
    *sorted(
        {
            str(path.relative_to(ROOT))
            for path in (ROOT / "tests").glob("*/test_edges_of_*.py")
            if path.parent.name != "core"
        }
    ),
    *_in("tests/store", "test_arm_document", "test_group_change", "test_jobs_file", "test_local_store", "test_packs"),
    *_in("tests/store", "test_split_store", "test_update"),
    *_in("tests/trust", "test_fire_token", "test_jti", "test_jwks_cache", "test_verifier"),
    *_in("tests/cli", "test_tolerance", "test_wrong_clock", "test_cli_plans"),
    *_in("tests/running", "test_end_rules", "test_lock_place", "test_lock_sweep", "test_reboot", "test_run_actions"),
    *_in("tests/running", "test_run_clock", "test_run_detach", "test_run_ending", "test_run_http", "test_run_liveness"),
    *_in("tests/running", "test_run_output", "test_run_process", "test_run_result", "test_run_secrecy"),
    *_in("tests/running", "test_side_by_side", "test_spawn_without_a_copy", "test_variables"),
    *_in("tests/protocol", "test_arming_rules", "test_retention", "test_rules_of_looks"),
    *_in("tests/callback", "test_answers_that_arm", "test_bounds", "test_modes", "test_profiles", "test_secrets"),
    *_in("tests/callback", "test_shared_ends", "test_shim_proof", "test_shim_standby", "test_stop_markers"),
    *_in("tests/callback", "test_warm_runner", "test_wsgi_table"),
    *_in("tests/nas_client", "test_nas_bulk", "test_nas_client", "test_nas_proof", "test_nas_tokens"),
)
"""Every rule that is stated by itself at its edge is among them, by the name of its file."""

UNIT = (
    "tests/core",
    *(test for test in TESTS if "/test_edges_of_" in test and not test.endswith("_of_supervision.py")),
    *_in("tests/protocol", "test_arming_rules", "test_retention", "test_rules_of_looks"),
    *_in("tests/running", "test_end_rules"),
    *_in("tests/store", "test_arm_document", "test_group_change", "test_jobs_file", "test_local_store", "test_packs"),
    *_in("tests/store", "test_split_store", "test_update"),
)
"""Those of them that need no process, no server and no simulation: minutes where all take an hour."""
