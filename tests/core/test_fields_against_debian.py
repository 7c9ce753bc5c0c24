"""What a field means, held against Debian's own parser: the same minutes, hours, days, and the same stars."""

import random

import pytest

from chronos_cli.core.schedule import NICKNAMES, check_cron
from chronos_cli.errors import ScheduleError
from tests.core.debian_rules import RANGES
from tests.debian_cron import DebianCron, same

pytestmark = [pytest.mark.soak, pytest.mark.service]

NAMES = (
    (),
    (),
    (),
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
)


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """Debian's parser, built from its source."""
    return DebianCron(tmp_path_factory.mktemp("cron"))


def some_field(rng, place):
    """A field in one of the shapes that people write, some of them wrong by a little."""
    low, high = RANGES[place]

    def number():
        if NAMES[place] and rng.random() < 0.3:
            return rng.choice([str.lower, str.upper, str.title])(rng.choice(NAMES[place]))
        value = rng.randint(low, high) if rng.random() < 0.97 else rng.choice([low - 1, high + 1, 99])
        return f"{value:02}" if rng.random() < 0.1 else str(value)

    def part():
        shape = rng.random()
        step = f"/{rng.choice([1, 2, 3, 5, 7, 15, 40, 75, 0])}" if rng.random() < 0.4 else ""
        if shape < 0.3:
            return "*" + step
        if shape < 0.6:
            return number()
        return f"{number()}-{number()}{step}"

    return ",".join(part() for _ in range(rng.choice([1, 1, 1, 2, 3])))


def refused(expr):
    try:
        check_cron(expr)
    except ScheduleError as error:
        return error.message
    return None


def test_what_is_accepted_means_what_debian_reads(debian):
    """Of many expressions none means another thing than in Debian; what Debian refuses is refused or has a reason."""
    rng = random.Random(3)
    expressions = sorted({" ".join(some_field(rng, place) for place in range(5)) for _ in range(1_500)})
    both = 0
    for expr in expressions:
        entries, problem = debian.read(f"{expr} x\n".encode())
        refusal = refused(expr)
        if refusal:
            # Ours alone refuses a range that ends before it begins (Debian reads it as nothing) and impossible dates.
            assert problem or "-" in expr or "never comes due" in refusal, (expr, refusal)
            continue
        assert not problem, (expr, problem)
        assert same(expr, entries[0]), expr
        both += 1
    assert both > 150


def test_the_short_forms_mean_what_debian_reads(debian):
    """`@hourly` to `@annually` are the fields that Debian sets for them."""
    for name, expr in NICKNAMES.items():
        entries, problem = debian.read(f"{name} x\n".encode())
        assert problem is None
        assert same(expr, entries[0]), name


@pytest.mark.parametrize("expr", ["5/15 * * * *", "0 0 L * *", "0 0 * * 5L", "0 0 * * 1#2"])
def test_what_is_ours_alone_is_no_debian(debian, expr):
    """A step from a number, the last day and the n-th weekday are additions: Debian refuses them, or reads a number only."""
    check_cron(expr)
    entries, problem = debian.read(f"{expr} x\n".encode())
    assert problem or not same(expr, entries[0])
