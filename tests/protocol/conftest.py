"""One NAS for all proofs of the protocol; each agent has a home of its own."""

import pytest

from tests.nas_process import running_nas


@pytest.fixture(scope="session")
def nas(tmp_path_factory):
    with running_nas(tmp_path_factory.mktemp("nas"), "--retry-base", "0.3", "--retry-cap", "1s") as running:
        yield running
