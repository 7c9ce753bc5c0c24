"""The door of fires: the token is judged in a thread, the claim is made before the answer, the run goes on after it."""

import asyncio

from plugins.cron_providers.chronos import verify


async def answer(provider, token, job_id, *, asked_in_thread=False):
    """The status of one request, its claimed job, if any, run to its end."""
    if asked_in_thread:
        claims = await asyncio.to_thread(lambda: verify.get_fire_verifier()(token=token, expected_audience=""))
    else:
        claims = await asyncio.to_thread(verify.get_fire_verifier(), token=token, expected_audience="", issuer=None)
    if claims is None:
        return 401
    try:
        claimed = await asyncio.to_thread(provider.claim_fire, job_id)
    except Exception:  # noqa: BLE001 - as hermes' own door
        return 503
    if claimed is None:
        return 200
    await asyncio.to_thread(provider.fire_claimed, claimed, adapters=None, loop=None, cancel_event=None)
    return 202


def post(provider, token, job_id, **how):
    return asyncio.run(answer(provider, token, job_id, **how))
