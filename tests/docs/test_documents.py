"""The schemas and the OpenAPI documents are those of the code: each member is written, and each that is written described."""

import ast
from types import SimpleNamespace

import pytest

from chronos_cli.contract import FIRE_PATH, PROOF_PATH
from chronos_cli.nas_server.http.app import NasApplication
from tests.conftest import ROOT
from tests.docs.generated import maker

shapes, documents, http = maker().shapes, maker().documents, maker().http


def all_parts():
    of_http = [value for value in vars(http).values() if isinstance(value, shapes.Part)]
    return list(shapes.parts_in((*documents.DOCUMENTS, documents.FAILURE, documents.ERROR, *of_http)))


def test_what_is_described_is_what_the_code_writes():
    """No member of a document is described that no function writes, and none is written that is not described."""
    assert shapes.unlike(all_parts()) == []


def test_a_member_too_many_or_too_few_is_seen():
    """The check above is one: it names a member that nobody writes, one that nobody describes, and a lost function."""
    good = next(part for part in all_parts() if part.name == "check")
    members = dict(good.shape["properties"])
    more = shapes.Part(name="more", shape=shapes.obj(members | {"colour": shapes.TEXT}), by=good.by)
    assert shapes.unlike([more]) == [f"more describes colour, which {good.by} do not write"]
    del members["mend"]
    fewer = shapes.Part(name="fewer", shape=shapes.obj(members), by=good.by)
    assert shapes.unlike([fewer]) == ["Check.as_json writes mend, which nothing describes"]
    gone = shapes.Part(name="gone", shape=good.shape, by=("Check.as_yaml",))
    assert shapes.unlike([gone]) == ["Check.as_yaml is no function"]


@pytest.mark.parametrize(
    ("name", "member", "writer"),
    [
        ("policy", "jitter", "Policy"),
        ("policy", "completed", "job_show._policy"),
        ("row", "lateness_s", "Row"),
        ("runs", "stdin", "transfer._ACTION_KEYS"),
        ("runs", "workdir", "action_words.action_json"),
        ("request", "body_from", "transfer._HTTP_KEYS"),
        ("arm_error", "retryable", "ChronosError.as_json"),
        ("fire_error", "detail", "fire._not_started"),
        ("attempt", "output", "row._attempt"),
        ("owner", "bare", "RunLock.owner"),
    ],
)
def test_a_field_that_a_record_or_a_table_has_more_is_missed(name, member, writer):
    """What is written by the fields of a record, or by the names of a tuple, is held to its description like a dict."""
    part = next(part for part in all_parts() if part.name == name)

    def without(shape):
        if isinstance(shape, list):
            return [without(one) for one in shape]
        if not isinstance(shape, dict):
            return shape
        return {key: without(value) for key, value in shape.items() if key != member}

    fewer = shapes.Part(name=name, shape=without(part.shape), by=part.by)
    inner = [one for one in shapes.parts_in(part.shape) if one.name != name]
    assert f"{writer} writes {member}, which nothing describes" in shapes.unlike([fewer, *inner])


def test_every_function_that_gives_a_document_is_named_by_one():
    """Whoever ends a command with a document is named beside its description, so that a new one has to be described."""
    giving = {
        name
        for name, node in shapes.functions().items()
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "invocation.done"
    }
    named = {by.partition("(")[0] for part in documents.DOCUMENTS for by in part.by}
    assert giving <= named
    assert len(giving) > 30


def test_only_what_comes_from_a_table_has_no_writer():
    """A part without a function is made from an enumeration, or is a value and no object."""
    bare = {part.name for part in all_parts() if not part.by and list(shapes.members_of(part.shape))}
    assert bare == {"steps_of_each_action", "counts", "Key"}


def test_no_schema_is_left_of_a_document_that_went():
    """The folders hold what is made, and nothing else."""
    made = {name for name in maker().files() if name.startswith(("schemas/", "openapi/"))}
    there = {
        str(path.relative_to(ROOT / "docs"))
        for folder in ("schemas", "openapi")
        for path in (ROOT / "docs" / folder).rglob("*")
        if path.is_file()
    }
    assert made == there


def test_nas_answers_at_the_paths_of_its_document_and_no_others():
    """Each path and method of the document is a route of the server, and the reverse."""
    calls = SimpleNamespace(provision=None, cancel=None, list=None, batch=None)
    absent = dict.fromkeys(("roster", "keys", "journal", "counts", "ready", "gauges"))
    routes = NasApplication(calls=calls, **absent)._routes
    assert {path: [route.method.lower()] for path, route in routes.items()} == {
        path: list(methods) for path, methods in http.nas()["paths"].items()
    }


@pytest.mark.parametrize("document", [http.nas, http.callback], ids=["nas", "callback"])
def test_every_shape_of_an_interface_is_used(document):
    """What stands under the schemas is referred to, and every reference leads somewhere."""
    text = str(document())
    for name in document()["components"]["schemas"]:
        assert f"#/components/schemas/{name}'" in text, name


def test_the_callback_has_its_two_paths_with_and_without_a_profile():
    """A fire and a challenge are taken for the launching home and for a profile."""
    paths = set(http.callback()["paths"])
    assert paths == {"/healthz", *(f"{of}{path}" for of in ("", "/p/{profile}") for path in (FIRE_PATH, PROOF_PATH))}
