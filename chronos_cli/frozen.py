"""Records: frozen, slotted, keyword-only dataclasses that cost nothing to define.

`dataclasses.dataclass` writes six functions for every class and compiles them each time a program starts: about half a
millisecond a class, a third of all the time in which a command like `chronos list` does its work. Here the functions
are shared closures. To everybody else a record is a dataclass: `dataclasses.fields`, `replace` and `asdict` work on it,
and type checkers see one (PEP 681). What is not needed here is left out: mutable ones, ordering, inherited fields.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

_FIELDS: Final = "__dataclass_fields__"
_OFTEN: Final = 200
"""After so many instances it pays to compile an `__init__` for a class."""


class Field:
    """The parts of a field beside its type: the maker of its default, and its metadata."""

    __slots__ = ("default", "make", "metadata")

    def __init__(self, default: Any, make: Callable[[], Any] | None, metadata: Mapping[str, Any]) -> None:
        self.default = default
        self.make = make
        self.metadata = metadata


_NO_DEFAULT: Final = object()


def field(
    *,
    default: Any = _NO_DEFAULT,
    default_factory: Callable[[], Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Any:
    """Return what `dataclasses.field` would, so far as records need it."""
    return Field(default, default_factory, metadata or {})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make the class a record of its annotated names; a `__post_init__` is called once they are set."""
    made: type[T] = _made(cls, compared=True)
    return made


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False, field_specifiers=(field,))
def opaque(cls: type[T]) -> type[T]:
    """Return a record that equals itself alone and whose repr shows nothing, for secrets and functions."""
    made: type[T] = _made(cls, compared=False)
    return made


def replace(value: T, /, **changes: Any) -> T:
    """Return the record with some fields changed. Raises TypeError for a name it does not have."""
    return type(value)(**dict(zip(names(value), _values(value), strict=True)) | changes)


def names(kind: Any) -> tuple[str, ...]:
    """Return the names of a record's fields, in order; of the class or of an instance."""
    found: tuple[str, ...] = kind.__match_args__
    return found


def declared(kind: Any) -> Mapping[str, Field]:
    """Return the fields of a record class that were declared with `field`, by name."""
    fields: _Fields = kind.__dict__[_FIELDS]
    return {name: value for name, value in fields.given.items() if isinstance(value, Field)}


def _made(cls: Any, *, compared: bool) -> Any:
    annotated = _annotations(cls)
    fields = tuple(annotated)
    given = {name: cls.__dict__[name] for name in fields if name in cls.__dict__}
    space = {name: value for name, value in cls.__dict__.items() if name not in given}
    space.pop("__dict__", None)
    space.pop("__weakref__", None)
    plain = {name: value.default if isinstance(value, Field) else value for name, value in given.items()}
    makers = {name: value.make for name, value in given.items() if isinstance(value, Field) and value.make}
    space |= {
        "__annotations__": annotated,
        "__slots__": fields,
        "__match_args__": fields,
        "__setattr__": _frozen,
        "__delattr__": _frozen,
        "__reduce__": _reduce,
        _FIELDS: _Fields(given),
    }
    if compared:
        space |= {"__eq__": _equal, "__hash__": _hash, "__repr__": _repr}
    made = type(cls)(cls.__name__, cls.__bases__, space)
    made.__qualname__ = cls.__qualname__
    defaults = {name: value for name, value in plain.items() if name not in makers and value is not _NO_DEFAULT}
    made.__init__ = _init(made, fields, defaults, makers)
    return made


def _annotations(cls: Any) -> Mapping[str, Any]:
    """Return what the class's body annotates: strings with the future import, else (lazy since Python 3.14) values."""
    found: Mapping[str, Any] | None = cls.__dict__.get("__annotations__")  # noqa: RUF063 - `inspect` takes too long
    if found is not None or "__annotate_func__" not in cls.__dict__:
        return found or {}
    try:
        lazy: Mapping[str, Any] = cls.__annotations__
    except NameError:  # a name that only a type checker knows, or that is defined below
        from annotationlib import Format, get_annotations  # type: ignore[import-not-found, unused-ignore]

        lazy = get_annotations(cls, format=Format.FORWARDREF)
    return lazy


def _init(
    made: Any, fields: tuple[str, ...], defaults: dict[str, Any], makers: Mapping[str, Callable[[], Any]]
) -> Callable[..., None]:
    setters = [(name, getattr(made, name).__set__) for name in fields]
    after = getattr(made, "__post_init__", None)
    count, often = len(fields), iter(range(_OFTEN))

    def __init__(self: Any, **values: Any) -> None:  # noqa: N807 - it becomes one
        if next(often, None) is None:
            made.__init__ = _compiled(fields, dict(setters), defaults, makers, after)
        if len(values) != count:
            values = {**defaults, **{name: make() for name, make in makers.items() if name not in values}, **values}
        try:
            for name, put in setters:
                put(self, values[name])
        except KeyError:
            raise _unfit(made, fields, values) from None
        if len(values) != count:
            raise _unfit(made, fields, values)
        if after is not None:
            after(self)

    return __init__


def _compiled(
    fields: tuple[str, ...],
    setters: Mapping[str, Callable[..., None]],
    defaults: Mapping[str, Any],
    makers: Mapping[str, Callable[[], Any]],
    after: Callable[[Any], None] | None,
) -> Callable[..., None]:
    """Return an `__init__` as `dataclasses` would write it. It is twice as quick, for records made in thousands."""
    space: dict[str, Any] = {"_unset": _NO_DEFAULT, "_after": after}
    heads, lines = [], []
    for number, name in enumerate(fields):
        space[f"_put{number}"], value = setters[name], name
        head = name
        if name in makers:
            space[f"_make{number}"] = makers[name]
            head, value = f"{name}=_unset", f"_make{number}() if {name} is _unset else {name}"
        elif name in defaults:
            space[f"_default{number}"] = defaults[name]
            head = f"{name}=_default{number}"
        heads.append(head)
        lines.append(f" _put{number}(self, {value})")
    lines += [" _after(self)"] if after is not None else []
    exec(f"def __init__(self, *, {', '.join(heads)}):\n" + "\n".join(lines), space)  # noqa: S102 - of names of fields
    compiled: Callable[..., None] = space["__init__"]
    return compiled


def _unfit(made: Any, fields: tuple[str, ...], values: Mapping[str, Any]) -> TypeError:
    missing, unknown = sorted(set(fields) - values.keys()), sorted(values.keys() - set(fields))
    return TypeError(f"{made.__name__}: missing {missing}, unknown {unknown}")


class _Fields:
    """The fields as `dataclasses` knows them, made when somebody asks."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given

    def __get__(self, instance: object, owner: Any) -> dict[str, Any]:
        import dataclasses

        space: dict[str, Any] = {"__annotations__": owner.__annotations__, "__module__": owner.__module__}
        for name, value in self.given.items():
            space[name] = value
            if isinstance(value, Field):
                more = {} if value.default is _NO_DEFAULT else {"default": value.default}
                more |= {"default_factory": value.make} if value.make else {}
                space[name] = dataclasses.field(metadata=value.metadata, **more)
        like: Any = dataclasses.dataclass(kw_only=True)(type(owner.__name__, (), space))
        found: dict[str, Any] = like.__dataclass_fields__
        return found


def _values(self: Any) -> tuple[Any, ...]:
    found = attrgetter(*self.__match_args__)(self)
    return found if len(self.__match_args__) > 1 else (found,)


def _equal(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__qualname__}({shown})"


def _frozen(self: object, name: str, _: object = None) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"{type(self).__name__}.{name} cannot be changed")


def _reduce(self: Any) -> tuple[Any, ...]:
    return _again, (type(self), {name: getattr(self, name) for name in self.__match_args__})


def _again(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**values)
