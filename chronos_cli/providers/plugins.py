"""Finding providers that others wrote: entry points in the group `chronos.schedulers`, and folders in the home.

A folder is `<home>/plugins/<name>/` with a `plugin.yaml` and an `__init__.py` whose `register(ctx)` calls
`ctx.register_cron_scheduler(provider)`: the shape of a hermes plug-in, whose providers work here too. An entry point
names a class (called with the `Activation`, or with nothing), a provider, or such a `register` function.

What is bundled here keeps its name. A plug-in that fails is a reason in a warning, never an error of a command.
"""

from __future__ import annotations

import inspect
import sys
from contextlib import redirect_stdout
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from chronos_cli.contract import is_job_id
from chronos_cli.errors import ChronosError, ForeignHomeError, TemporaryError
from chronos_cli.frozen import frozen
from chronos_cli.owners import below, require_own
from chronos_cli.providers.interface import CronScheduler, Notified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chronos_cli.providers.interface import Activation

T = TypeVar("T")

GROUP: Final = "chronos.schedulers"
BUNDLED: Final = ("builtin", "chronos")
MANIFEST: Final = "plugin.yaml"


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
        """`register_tool`, `register_hook` and their like are taken, and left alone."""
        if not name.startswith("register_"):
            raise AttributeError(name)
        return lambda *_, **__: None


class AdoptedProvider(CronScheduler):
    """A provider made for hermes, or another that only looks like one: what it lacks has the default."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        """Its own name."""
        return str(self._inner.name)

    def is_available(self) -> bool:
        """Its own word, if it has one."""
        return bool(self._call("is_available", default=True))

    def start(self, *args: Any, **kwargs: Any) -> None:
        """Start it."""
        self._inner.start(*args, **kwargs)

    def stop(self) -> None:
        """Stop it."""
        self._call("stop")

    def on_jobs_changed(self) -> None:
        """Tell it."""
        self._call("on_jobs_changed")

    def register_job(self, job_id: str) -> Notified:
        """Tell it of one job, or, where it knows no single jobs, of all."""
        if hasattr(self._inner, "register_job"):
            told = self._inner.register_job(job_id)
            return told if isinstance(told, Notified) else Notified(armed=None)
        self.on_jobs_changed()
        return Notified(armed=None)

    def fire_due(self, job_id: str, **kwargs: Any) -> bool:
        """Have it run a job."""
        return bool(self._inner.fire_due(job_id, **kwargs)) if hasattr(self._inner, "fire_due") else False

    def reconcile(self) -> object:
        """Have it reconcile."""
        return self._call("reconcile")

    def _call(self, method: str, *, default: object = None) -> object:
        return getattr(self._inner, method)() if hasattr(self._inner, method) else default


def find_plugins(home: str) -> Iterator[FoundPlugin]:
    """Every plug-in there is, entry points first; the first of a name counts, and no bundled name can be taken."""
    seen = set(BUNDLED)
    for found in (*_entry_points(), *_folders(Path(home))):
        if found.name not in seen:
            seen.add(found.name)
            yield found


def load_plugin(name: str, activation: Activation) -> tuple[CronScheduler | None, str | None]:
    """The provider of that name, or None with the reason. Never raises."""
    found = next((found for found in find_plugins(activation.config.home) if found.name == name), None)
    if found is None:
        return None, "there is no such provider; see `chronos provider list`"
    try:
        with redirect_stdout(sys.stderr):  # where a command's own document goes nobody else may write
            return _as_provider(found.load(activation), name), None
    except ForeignHomeError as error:
        return None, f"{error.message}: {error.hint}"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything, and must not break a command
        return None, f"{found.origin} failed: {type(error).__name__}: {error}"


def ask_plugin(provider: CronScheduler) -> str | None:
    """Why a provider is not available, None where it is. Never raises."""
    try:
        with redirect_stdout(sys.stderr):
            return None if provider.is_available() else provider.unavailable_because() or "it is not available"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
        return f"asking whether it is available failed: {type(error).__name__}: {error}"


def tell_plugin(name: str, call: Callable[[], T]) -> T:
    """Tell a provider of something. Raises ChronosError; whatever else it raises is one too from here on."""
    try:
        with redirect_stdout(sys.stderr):
            return call()
    except ChronosError:
        raise
    except (Exception, SystemExit) as error:
        raise TemporaryError(
            f"the trigger provider {name} failed: {type(error).__name__}: {error}",
            hint="put the plug-in right, see `chronos provider list`",
        ) from error


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
        if is_job_id(folder.name) and (folder / MANIFEST).is_file() and (folder / "__init__.py").is_file():
            yield FoundPlugin(name=folder.name, origin=str(folder), load=_from_folder(folder))


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
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return _registered(module.register)

    return load


def _registered(register: Callable[[PluginRegistry], object]) -> object:
    registry = PluginRegistry()
    register(registry)
    if not registry.providers:
        raise LookupError("register(ctx) registered no cron scheduler")
    return registry.providers[0]


def _as_provider(provider: object, name: str) -> CronScheduler:
    if isinstance(provider, CronScheduler):
        return provider
    if not hasattr(provider, "name") or not hasattr(provider, "start"):
        raise TypeError(f"{name} is no cron scheduler: it lacks name or start")
    return AdoptedProvider(provider)
