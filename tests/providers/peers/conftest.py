"""A home and a NAS for what hermes-agent's own tests expect, restated."""

import pytest

from chronos_cli.nas_client.client import NasClient
from tests.callback.shim_home import ShimHome
from tests.cli.conftest import chronos, clean_environment  # noqa: F401 - fixtures
from tests.fire_tokens import SigningKey
from tests.nas_client.played_nas import played_nas


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Calls that are tried again are so at once."""
    monkeypatch.setitem(NasClient.__init__.__kwdefaults__, "sleep", lambda _: None)


nas = played_nas("keeps-slot")


@pytest.fixture
def home(clean_environment, tmp_path, nas, monkeypatch):  # noqa: F811
    return ShimHome(tmp_path, SigningKey.es256(), nas.url, monkeypatch)
