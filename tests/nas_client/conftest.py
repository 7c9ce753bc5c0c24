"""Fixtures: a played NAS or two, and clients of it."""

from __future__ import annotations

import pytest
from played_nas import Token, played_nas

from chronos_cli.nas_client.client import NasClient


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


nas = played_nas()
other = played_nas()


@pytest.fixture
def connect(nas):
    """Makes clients of the played NAS that note their pauses instead of sleeping, and closes them."""
    clients = []

    def make(url=None, token=None, **options):
        pauses = []
        options = {"sleep": pauses.append, "random": lambda: 1.0, "timeout_s": 5.0, **options}
        client = NasClient(url or nas.url, token or Token(), **options)
        client.pauses = pauses
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
