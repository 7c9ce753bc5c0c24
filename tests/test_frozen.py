"""Records: to everybody who meets one it is a frozen dataclass, and defining it costs next to nothing."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import pytest

from chronos_cli.frozen import declared, field, frozen, names, opaque, replace


@frozen
class Point:
    """A record for these tests."""

    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)
    unit: str = field(default="m", metadata={"why": "a test"})

    @property
    def both(self) -> int:
        """Something a record does."""
        return self.x + self.y


@opaque
class Secret:
    """A record that shows nothing."""

    token: str

    def __post_init__(self) -> None:
        if not self.token:
            raise ValueError("no token")


def test_fields_have_their_values_and_defaults():
    """What is given is kept, what is not has its default, and a made default is a fresh one each time."""
    one, other = Point(x=1), Point(x=1, y=2)
    assert (one.x, one.y, one.tags, one.unit, other.both) == (1, 0, [], "m", 3)
    assert one.tags is not other.tags


@pytest.mark.parametrize("values", [{}, {"y": 1}, {"x": 1, "z": 2}])
def test_a_field_too_few_or_too_many_is_refused(values):
    """A missing and an unknown name are a TypeError that names them."""
    with pytest.raises(TypeError, match="Point: missing"):
        Point(**values)


def test_the_ten_thousandth_is_as_the_first():
    """A class that is made often gets a compiled `__init__`, which sets, defaults, makes, checks and refuses alike."""

    @frozen
    class Often:
        a: int
        made: list[int] = field(default_factory=list)
        b: int = 2

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError("negative")

    first = Often(a=1)
    for _ in range(300):
        Often(a=1)
    assert Often.__init__.__kwdefaults__ is not None
    later = Often(a=1)
    assert (later, later.made is first.made, Often(a=1, b=3, made=[4]).made) == (first, False, [4])
    assert replace(later, b=5) == Often(a=1, b=5)
    with pytest.raises(ValueError, match="negative"):
        Often(a=-1)
    for wrong in ({}, {"b": 1}, {"a": 1, "z": 2}):
        with pytest.raises(TypeError):
            Often(**wrong)


def test_nothing_changes_a_record():
    """Neither setting nor deleting nor adding works."""
    point = Point(x=1)
    for change in (lambda: setattr(point, "x", 2), lambda: delattr(point, "x"), lambda: setattr(point, "new", 2)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    assert not hasattr(point, "__dict__")


def test_records_are_compared_and_shown_by_their_values():
    """Equal values are equal records with one hash; the repr can be read."""
    assert Point(x=1) == Point(x=1) != Point(x=2)
    assert Point(x=1) != (1, 0, [], "m")
    assert hash(Secret(token="a")) != hash(Secret(token="a"))
    assert repr(Point(x=1, tags=["a"])) == "Point(x=1, y=0, tags=['a'], unit='m')"


def test_an_opaque_record_shows_nothing_and_equals_itself_alone():
    """What holds a secret gives it to nobody who prints it."""
    secret = Secret(token="hush")
    assert "hush" not in repr(secret)
    assert secret != Secret(token="hush")
    with pytest.raises(ValueError, match="no token"):
        Secret(token="")


def test_copies_with_changes():
    """`replace` changes what it names; copies and pickles are equal."""
    point = Point(x=1, tags=["a"])
    assert replace(point, y=5) == Point(x=1, y=5, tags=["a"])
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
    with pytest.raises(TypeError):
        replace(point, z=1)


def test_to_others_it_is_a_dataclass():
    """The functions of `dataclasses` work on it."""
    point = Point(x=1)
    assert dataclasses.is_dataclass(point)
    assert [item.name for item in dataclasses.fields(point)] == list(names(Point)) == ["x", "y", "tags", "unit"]
    assert dataclasses.replace(point, x=3) == Point(x=3)
    assert dataclasses.asdict(point) == {"x": 1, "y": 0, "tags": [], "unit": "m"}
    assert dataclasses.fields(Point)[3].metadata == declared(Point)["unit"].metadata == {"why": "a test"}


@pytest.mark.parametrize("future", ["from __future__ import annotations\n", ""], ids=["strings", "values"])
def test_annotations_as_strings_or_as_lazy_values_make_the_same_record(future):
    """A module with the future import and one without; from Python 3.14 on the latter may name what comes later."""
    later = "Later" if future or sys.version_info >= (3, 14) else "int"
    code = (
        f"{future}import dataclasses\nfrom chronos_cli.frozen import frozen\n"
        f"@frozen\nclass A:\n    x: int\n    y: {later} | None = None\n"
        "@frozen\nclass Empty:\n    pass\n"
        "print(A(x=1), Empty(), [item.name for item in dataclasses.fields(A)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("A(x=1, y=None) Empty() ['x', 'y']\n", "")


def test_defining_one_imports_neither_dataclasses_nor_inspect():
    """That is what it is for."""
    code = (
        "import sys; from chronos_cli.frozen import frozen\n"
        "@frozen\nclass A:\n    x: int\n"
        "A(x=1); print([name for name in ('dataclasses', 'inspect') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
