"""Many requests at once: in batches, side by side, and when NAS fails under them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from played_nas import Token

from chronos_cli.errors import AuthError, NasRejectedError, NasUnavailableError, RefusedError
from chronos_cli.nas_client.interface import ArmRequest, CancelRequest
from tests.played_server import Answer

AT = datetime(2026, 11, 20, 15, 34, 15, tzinfo=UTC)


def arms(count, url="https://agent.example.com"):
    return [ArmRequest(job_id=f"j{n:05}", fire_at=AT + timedelta(seconds=n), callback_url=url) for n in range(count)]


def paths(nas):
    return [call.path.rpartition("/")[2] for call in nas.calls]


class TestBatch:
    def test_ten_thousand_are_ten_calls(self, nas, connect):
        """After a list that names the batch, 10,000 requests are ten calls."""
        nas.features = ["batch"]
        client = connect()
        client.list()
        progress = []
        results = list(client.apply(arms(10_000), progress=lambda done, total: progress.append((done, total))))
        assert paths(nas) == ["list"] + ["batch"] * 10
        assert all(result.ok and result.answer.schedule_id and result.answer.state == "armed" for result in results)
        assert len(nas.armed) == 10_000
        assert progress == [(n, 10_000) for n in range(1, 10_001)]

    def test_mixed(self, nas, connect):
        """Arms and cancels go in one batch, in the contract's words."""
        nas.features = ["batch"]
        nas.armed = {"old": {"job_id": "old", "fire_at": "", "schedule_id": "s"}}
        client = connect()
        client.list()
        requests = [*arms(2), CancelRequest(job_id="old", generation=4)]
        assert {result.request.job_id: result.answer is not None for result in client.apply(requests)} == {
            "j00000": True,
            "j00001": True,
            "old": False,
        }
        assert sorted(nas.armed) == ["j00000", "j00001"]
        assert nas.calls[-1].body["items"][0] == {
            "op": "provision",
            "job_id": "j00000",
            "fire_at": "2026-11-20T15:34:15+00:00",
            "agent_callback_url": "https://agent.example.com",
            "dedup_key": "j00000:2026-11-20T15:34:15+00:00",
        }
        assert nas.calls[-1].body["items"][2] == {"op": "cancel", "job_id": "old", "generation": 4}

    def test_found_out(self, nas, connect):
        """Without a list before, the first arm's answer says that NAS takes batches."""
        nas.features = ["batch"]
        assert all(result.ok for result in connect().apply([CancelRequest(job_id="x"), *arms(50)]))
        assert paths(nas) == ["provision", "batch"]

    def test_long_urls(self, nas, connect):
        """Batches are bounded in bytes too: NAS takes no more than 2 MiB."""
        nas.features = ["batch"]
        client = connect()
        client.list()
        assert all(result.ok for result in client.apply(arms(1000, "https://agent.example.com/" + "x" * 2000)))
        assert paths(nas) == ["list", "batch", "batch"]

    def test_item_errors(self, nas, connect):
        """An item that failed is its own result's error, of the same class as a single call's."""
        nas.features = ["batch"]
        client = connect()
        client.list()
        nas.answer = lambda call: Answer(
            body={
                "results": [
                    {
                        "ok": False,
                        "status": 409,
                        "error": "stale_generation",
                        "message": "older than 9",
                        "generation": 9,
                    },
                    {"ok": False, "status": 503, "error": "temporary"},
                    {"ok": False, "status": 403, "error": "invalid_client"},
                    {"ok": True, "schedule_id": "s"},
                    {"ok": True, "schedule_id": 5},
                    {"ok": "yes"},
                    None,
                ]
            }
        )
        results = list(client.apply(arms(7)))
        assert [type(result.error) for result in results] == [
            NasRejectedError,
            NasUnavailableError,
            RefusedError,
            type(None),
            NasUnavailableError,
            NasUnavailableError,
            NasUnavailableError,
        ]
        assert (results[0].error.status, results[0].error.reason) == (409, "stale_generation")
        assert results[0].error.generation == 9
        assert "older than 9" in results[0].error.message

    @pytest.mark.parametrize(
        "body", [{}, {"results": None}, {"results": []}, {"results": [{"ok": True}] * 4}, b"<html>"]
    )
    def test_garbage(self, nas, connect, body):
        """A batch answer that does not match its items confirms none of them."""
        nas.features = ["batch"]
        client = connect()
        client.list()
        nas.answer = lambda call: Answer(body=body)
        assert all(isinstance(result.error, NasUnavailableError) for result in client.apply(arms(3)))

    @pytest.mark.parametrize("status", [404, 405, 413])
    def test_no_batch_after_all(self, nas, connect, status):
        """A NAS that promised the batch and has none is asked one by one."""
        nas.features = ["batch"]
        client = connect(attempts=1)
        client.list()
        nas.answer = lambda call: Answer(status) if call.path.endswith("batch") else nas.by_contract(call)
        results = list(client.apply(arms(5)))
        assert all(result.ok for result in results)
        assert sorted(paths(nas)) == ["batch", "list"] + ["provision"] * 5

    def test_down_midway(self, nas, connect):
        """When NAS goes down, what was done is known as done, and the rest is not tried in vain."""
        nas.features = ["batch"]
        client = connect()
        client.list()
        nas.answer = lambda call: nas.by_contract(call) if len(nas.calls) <= 3 else Answer(500)
        results = list(client.apply(arms(9000)))
        assert [result.ok for result in results] == [True] * 2000 + [False] * 7000
        assert all(isinstance(result.error, NasUnavailableError) for result in results[2000:])
        assert paths(nas) == ["list"] + ["batch"] * 6  # two well, one tried four times


class TestSideBySide:
    def test_many(self, nas, connect):
        """Without a batch, calls go on side by side over as many kept connections, and every one has its result."""
        both = threading.Barrier(2, timeout=10)

        def meet(call):
            if call.body["job_id"] in ("j00010", "j00011"):
                both.wait()
            return nas.by_contract(call)

        nas.answer = meet
        client = connect(concurrency=4)
        progress = []
        results = list(client.apply(arms(200), progress=lambda *numbers: progress.append(numbers)))
        assert sorted(result.request.job_id for result in results) == [request.job_id for request in arms(200)]
        assert all(result.ok for result in results)
        assert len(nas.armed) == len(nas.calls) == 200
        assert nas.connections <= 5
        assert 2 <= nas.most_at_once <= 4
        assert progress[-1] == (200, 200)

    def test_none(self, nas, connect):
        """Nothing to do is done without a call."""
        assert list(connect().apply([])) == []
        assert nas.calls == []

    def test_one_is_one_call(self, nas, connect):
        """One request is one call, even where batches are taken."""
        nas.features = ["batch"]
        client = connect()
        client.list()
        assert all(result.ok for result in client.apply(arms(1)))
        assert paths(nas) == ["list", "provision"]

    def test_own_errors(self, nas, connect):
        """A request that NAS rejects fails alone."""
        nas.answer = lambda call: Answer(422) if call.body["job_id"] == "j00002" else nas.by_contract(call)
        errors = {result.request.job_id: result.error for result in connect().apply(arms(5))}
        assert isinstance(errors.pop("j00002"), NasRejectedError)
        assert set(errors.values()) == {None}

    @pytest.mark.parametrize(
        ("answer", "kind"), [(Answer(403, {"error": "invalid_client"}), RefusedError), (Answer(401), AuthError)]
    )
    def test_refused(self, nas, connect, answer, kind):
        """Once NAS refuses us, it is not asked hundreds of times more, and every request is told why."""
        nas.answer = lambda call: answer
        results = list(connect().apply(arms(300)))
        assert len(results) == 300
        assert all(type(result.error) is kind for result in results)
        assert len(nas.calls) == 1

    def test_refused_midway(self, nas, connect):
        """The same when it begins in the middle."""
        nas.answer = lambda call: nas.by_contract(call) if len(nas.calls) <= 20 else Answer(401)
        results = list(connect(concurrency=4).apply(arms(300)))
        assert sum(result.ok for result in results) == 20
        assert len(nas.calls) <= 24

    def test_down(self, nas, connect):
        """A NAS that fails several requests in all their attempts is left alone for the rest."""
        nas.answer = lambda call: Answer(503)
        results = list(connect(concurrency=2).apply(arms(300)))
        assert len(results) == 300
        assert all(isinstance(result.error, NasUnavailableError) for result in results)
        assert len(nas.calls) <= 4 * 6

    def test_one_renewal(self, nas, connect):
        """An expired token is renewed once for all calls, and none of them fails."""
        nas.answer = lambda call: nas.by_contract(call) if "fresh" in call.headers["Authorization"] else Answer(401)
        token = Token("canary", "fresh", "wasted")
        assert all(result.ok for result in connect(token=token, concurrency=4).apply(arms(50)))
        assert token.others == ["wasted"]

    def test_held_back_together(self, nas, connect):
        """A Retry-After to one call holds back the calls beside it."""
        nas.script = [Answer(429, {}, {"Retry-After": "30"})]
        time = [0.0]
        client = connect(concurrency=2, clock=lambda: time[0], sleep=lambda s: time.__setitem__(0, time[0] + s))
        assert all(result.ok for result in client.apply(arms(2)))
        assert time[0] >= 30

    def test_left_early(self, nas, connect):
        """Whoever stops reading the results stops the work."""
        results = connect(concurrency=2).apply(arms(500))
        next(results)
        results.close()
        assert len(nas.calls) < 500

    def test_two_for_one_job(self, connect):
        """Two requests for one job are refused, as it would be chance which of them wins."""
        with pytest.raises(ValueError, match="two requests for one job"):
            connect().apply([*arms(1), CancelRequest(job_id="j00000")])
