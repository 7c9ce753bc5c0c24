"""Plans of the hot statements: none reads a table as a whole, and the page in docs has each as it is."""

from __future__ import annotations

import pytest

from tests.conftest import require_module


@pytest.mark.soak
@pytest.mark.service
def test_no_hot_statement_scans_and_the_page_has_them_all(postgres):
    """At 100,000 timers, which take seconds to fill: a plan that scans there scans at a million too."""
    require_module("psycopg")
    from tests.bench import nas_plans

    nas_plans.run(postgres.new_database(), 100_000)
    assert nas_plans.scans() == []
    assert nas_plans.left_out(nas_plans.PAGE.read_text(encoding="utf-8")) == []
