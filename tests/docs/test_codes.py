"""Each code that can be emitted is documented, and each that is documented can be emitted; read from the source."""

import ast
import re

import pytest
import yaml

from chronos_cli.errors import ExitCode
from tests.conftest import ROOT
from tests.docs.generated import maker
from tests.errors.raised import family, nodes


def last_name(node):
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


@pytest.fixture(scope="module")
def emitted():
    """The classes of error that some module calls, raises bare, or chooses between."""
    names = {last_name(node.exc) for _, node in nodes(ast.Raise)}
    names |= {last_name(node.func) for _, node in nodes(ast.Call)}
    names |= {last_name(way) for _, node in nodes(ast.IfExp) for way in (node.body, node.orelse)}
    kinds = maker().error_classes()
    assert {kind.__name__ for kind in kinds} == family()
    return [kind for kind in kinds if kind.__name__ in names]


def rows(path, pattern):
    return re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_error_codes_of_the_pages_are_those_of_the_code(emitted):
    """The list of codes, with exit code and HTTP status, and the table of exit codes: none is missing, none is too many."""
    listed = rows("docs/json.md", r"^\| `([a-z_]+)` \| (\d+) \| (\d+) \|")
    assert {(code, int(left), int(http)) for code, left, http in listed} == {
        (kind.code, int(kind.exit_code), kind.http_status) for kind in emitted
    }
    table = rows("docs/exit-codes.md", r"^\| (\d+) \| [^|]+ \| ([^|]*) \|$")
    shown = {(code, int(left)) for left, codes in table for code in re.findall(r"`([a-z_]+)`", codes)}
    assert shown == {(kind.code, int(kind.exit_code)) for kind in emitted}


def test_a_code_that_is_written_by_hand_is_one_of_the_list(emitted):
    """An answer that is made without its error has a code of the same list."""
    written = [
        (path.name, value.value)
        for path, node in nodes(ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "code" and isinstance(value, ast.Constant)
    ]
    known = {kind.code for kind in emitted}
    assert [(path, code) for path, code in written if code not in known] == []
    assert "fault" in {code for _, code in written}


def test_every_exit_code_can_be_had_and_is_told_of(emitted):
    """Each exit code of the enumeration is some error's, or is returned somewhere, and all places name just these."""
    returned = {
        node.attr
        for path, node in nodes(ast.Attribute)
        if path.name != "errors.py" and last_name(node.value) == "ExitCode"
    }
    had = returned | {kind.exit_code.name for kind in emitted}
    assert had == set(ExitCode.__members__)
    assert list(maker().MEANING) == list(ExitCode)
    meanings = {str(int(code)): text for code, text in maker().MEANING.items()}
    assert dict(rows("README.md", r"^\| (\d+) \| ([^|]+) \|$")) == meanings
    assert {
        code: text for code, text, _ in rows("docs/exit-codes.md", r"^\| (\d+) \| ([^|]+) \| ([^|]*) \|$")
    } == meanings
    assert rows("docs/man/chronos.1", r"^\.TP\n\.B (\d+)$") == list(meanings)


def test_the_refusals_of_nas_are_those_of_its_contract():
    """The contract's table, the OpenAPI document and the server name the same codes."""
    table = (
        (ROOT / "docs/nas/contract.md").read_text(encoding="utf-8").partition("## Refusals")[2].partition("\n## ")[0]
    )
    named = {code for line in table.splitlines() for code in re.findall(r"`([a-z_]+)`", "|".join(line.split("|")[:3]))}
    document = yaml.safe_load((ROOT / "docs/openapi/nas.yaml").read_text(encoding="utf-8"))
    assert set(maker().http.refusals()) == named == set(document["components"]["schemas"]["Code"]["enum"])
