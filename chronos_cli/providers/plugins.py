"""Find providers of other packages: entry points in the group `chronos.schedulers`, and folders in the home.

A folder is `<home>/plugins/<name>/` with an `__init__.py` whose `register(ctx)` calls
`ctx.register_cron_scheduler(provider)`, or that has a class derived from `CronScheduler`: the shapes of a hermes
plug-in, whose providers work here too, with a `plugin.yaml` or without. An entry point
names a class (called with the `Activation`, or with nothing), a provider, or such a `register` function.

What is bundled here keeps its name. A plug-in that fails is a reason in a warning, never an error of a command. Where
logs are those of a CI, which anybody may read, nothing that it said or printed is repeated.
"""

from __future__ import annotations

import inspect
import os
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from chronos_cli.contract import is_job_id
from chronos_cli.errors import ChronosError, ForeignHomeError, TemporaryError
from chronos_cli.frozen import frozen
from chronos_cli.owners import below, require_own
from chronos_cli.providers.adopted import THEIR_BASE, THEIR_MODULES, AdoptedProvider, subclass_in, their_interface
from chronos_cli.providers.interface import CronScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from chronos_cli.providers.interface import Activation

T = TypeVar("T")

GROUP: Final = "chronos.schedulers"
BUNDLED: Final = ("builtin", "chronos")
MANIFEST: Final = "plugin.yaml"
_LOOKED_AT: Final = 8_192


@frozen
class FoundPlugin:
    """A plug-in that is there: its name, where it is, and how to make its provider."""

    name: str
    origin: str
    load: Callable[[Activation], object]


class PluginRegistry:
    """The context handed to a plug-in's `register(ctx)`. Anything but a provider is left to hermes."""

    def __init__(self) -> None:
        self.providers: list[object] = []

    def register_cron_scheduler(self, provider: object) -> None:
        """Take a provider."""
        self.providers.append(provider)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Accept `register_tool`, `register_hook` and the like, and do nothing."""
        if not name.startswith("register_"):
            raise AttributeError(name)
        return lambda *_, **__: None


def find_plugins(home: str) -> Iterator[FoundPlugin]:
    """Yield every plug-in there is, entry points first.

    The first of a name counts, and no bundled name can be taken.
    """
    seen = set(BUNDLED)
    for found in (*_entry_points(), *_folders(Path(home))):
        if found.name not in seen:
            seen.add(found.name)
            yield found


def load_plugin(name: str, activation: Activation) -> tuple[CronScheduler | None, str | None]:
    """Return the provider of that name, or None with the reason. Never raises."""
    found = next((found for found in find_plugins(activation.config.home) if found.name == name), None)
    if found is None:
        return None, "there is no such provider; see `chronos provider list`"
    try:
        with _heard():
            return _as_provider(found.load(activation), name, activation), None
    except ForeignHomeError as error:
        return None, f"{error.message}: {error.hint}"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything, and must not break a command
        return None, f"{found.origin} failed: {_said(error)}"


def ask_plugin(provider: CronScheduler) -> str | None:
    """Return why a provider is not available, None where it is. Never raises."""
    try:
        with _heard():
            return None if provider.is_available() else provider.unavailable_because() or "it is not available"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
        return f"asking whether it is available failed: {_said(error)}"


def tell_plugin(name: str, call: Callable[[], T]) -> T:
    """Tell a provider of something. Raises ChronosError; any other error becomes one here."""
    try:
        with _heard():
            return call()
    except ChronosError:
        raise
    except (Exception, SystemExit) as error:
        raise TemporaryError(
            f"the trigger provider {name} failed: {_said(error)}",
            hint="put the plug-in right, see `chronos provider list`",
        ) from error


def _is_public() -> bool:
    """Return whether what is printed here may be read by anybody: a CI says so of itself."""
    return os.environ.get("CI", "").strip().lower() not in ("", "0", "false", "no", "off")


@contextmanager
def _heard() -> Iterator[None]:
    """Keep what a plug-in prints off the command's own document, and out of logs that anybody may read."""
    if not _is_public():
        with redirect_stdout(sys.stderr):
            yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # noqa: PTH123
        yield


def _said(error: BaseException) -> str:
    kind = type(error).__name__
    return f"{kind} (its words are kept out of a CI's log)" if _is_public() else f"{kind}: {error}"


def _entry_points() -> Iterator[FoundPlugin]:
    for point in metadata.entry_points(group=GROUP):
        yield FoundPlugin(name=point.name, origin=f"entry point {point.value}", load=_from_entry_point(point))


def _from_entry_point(point: metadata.EntryPoint) -> Callable[[Activation], object]:
    def load(activation: Activation) -> object:
        target = point.load()
        if inspect.isclass(target):
            takes = [p for p in inspect.signature(target).parameters.values() if p.default is p.empty]
            make: Callable[..., object] = target
            return make(activation) if takes else make()
        if inspect.isfunction(target):
            return _registered(target)
        return target

    return load


def _folders(home: Path) -> Iterator[FoundPlugin]:
    try:
        folders = sorted((home / "plugins").iterdir())
    except OSError:
        return  # no plug-ins, or none that we may see
    for folder in folders:
        if is_job_id(folder.name) and _is_provider(folder):
            yield FoundPlugin(name=folder.name, origin=str(folder), load=_from_folder(folder))


def _is_provider(folder: Path) -> bool:
    """Return whether a folder is a provider's, by its manifest, or by its text where it has none, as in hermes."""
    module = folder / "__init__.py"
    if not module.is_file():  # a pipe in its place does not block
        return False
    try:
        with module.open(errors="replace") as file:
            text = file.read(_LOOKED_AT)
    except OSError:
        return False
    return (folder / MANIFEST).is_file() or THEIR_BASE in text or "register_cron_scheduler" in text


def _from_folder(folder: Path) -> Callable[[Activation], object]:
    def load(activation: Activation) -> object:
        home = activation.config.home
        require_own(home, (str(folder.parent), *below(str(folder))), activation.context.environ)
        name = f"chronos_plugin_{folder.name.replace('-', '_').replace('.', '_')}"
        spec = util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
        if spec is None or spec.loader is None:
            raise ImportError(f"{folder} cannot be imported")
        module = util.module_from_spec(spec)
        sys.modules[name] = module  # its own relative imports look there
        try:
            _run(spec.loader.exec_module, module)
            if not hasattr(module, "register"):
                return _of_class(module, "there is no register(ctx)")
            return _registered(module.register)
        except NothingRegisteredError as error:
            return _of_class(module, str(error))
        except BaseException:
            sys.modules.pop(name, None)
            raise

    return load


def _run(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Run a module. One that needs hermes' interface gets a stand-in where hermes is not installed."""
    try:
        execute(module)
    except ModuleNotFoundError as error:
        if error.name not in THEIR_MODULES:
            raise
        with their_interface():
            execute(module)


def _of_class(module: ModuleType, why: str) -> object:
    provider = subclass_in(module)
    if provider is None:
        raise LookupError(f"{why}, and no class that is a cron scheduler")
    return provider


class NothingRegisteredError(LookupError):
    """A `register(ctx)` registered no provider."""


def _registered(register: Callable[[PluginRegistry], object]) -> object:
    registry = PluginRegistry()
    register(registry)
    if not registry.providers:
        raise NothingRegisteredError("register(ctx) registered no cron scheduler")
    return registry.providers[0]


def _as_provider(provider: object, name: str, activation: Activation) -> CronScheduler:
    if isinstance(provider, CronScheduler):
        return provider
    if not hasattr(provider, "name") or not hasattr(provider, "start"):
        raise TypeError(f"{name} is no cron scheduler: it lacks name or start")
    return AdoptedProvider(provider, lambda job_id: activation.context.repository.jobs().get(job_id))
