"""Fixtures: a played NAS, a key, and a home whose shim is called in this process."""

import pytest

from tests.callback.shim_home import ShimHome
from tests.fire_tokens import SigningKey
from tests.nas_client.played_nas import played_nas


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="session")
def key():
    return SigningKey.es256()


nas = played_nas("keeps-slot")


@pytest.fixture
def home(tmp_path, key, nas, monkeypatch):
    return ShimHome(tmp_path, key, nas.url, monkeypatch)
