"""The login, and who renews it."""

import json
from datetime import UTC, datetime, timedelta

from hermes_constants import get_hermes_home


class AuthError(RuntimeError):
    pass


def resolve_nous_access_token(*, timeout_seconds=15.0):
    home = get_hermes_home()
    root = home.parent.parent if home.parent.name == "profiles" else home  # whose login a profile has, without its own
    path = next(place / "auth.json" for place in (home, root) if (place / "auth.json").exists())
    document = json.loads(path.read_text())
    state = document["providers"]["nous"]
    if state["expires_at"] and datetime.fromisoformat(state["expires_at"]) > datetime.now(UTC):
        return state["access_token"]
    print("renewing the login")
    if not state.get("refresh_token"):
        raise AuthError("Session expired\nand no refresh token is available.")
    state |= {"access_token": "renewed", "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    path.write_text(json.dumps(document))
    return state["access_token"]
