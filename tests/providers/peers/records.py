"""Records of a home, read and changed as Hermes, people and agents do: in the file."""

import json


def job(home, job_id):
    return next(
        one for one in json.loads((home.home / "cron" / "jobs.json").read_text())["jobs"] if one["id"] == job_id
    )


def change(home, job_id, **fields):
    path = home.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    next(one for one in document["jobs"] if one["id"] == job_id).update(fields)
    path.write_text(json.dumps(document))


def put(home, **fields):
    """Write a record as people, agents and older versions leave it, with no more than is given."""
    path = home.home / "cron" / "jobs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = json.loads(path.read_text()) if path.exists() else {"jobs": []}
    document["jobs"].append({"enabled": True, "chronos": {"action": {"shell": "true"}}, **fields})
    path.write_text(json.dumps(document))
