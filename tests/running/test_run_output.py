"""The output file: bounded, followable, with its beginning and its end."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_cli.running.output import BoundedOutput


def test_what_fits_is_kept_as_it_is(tmp_path):
    """Output below the limit is in the file byte for byte, and nobody else may read it."""
    output = BoundedOutput(tmp_path / "new" / "out", 10_000)
    output.write(b"hello\n")
    output.write(b"\xff\x00 world")
    assert output.tail(5) == b"world"
    output.close()
    assert (tmp_path / "new" / "out").read_bytes() == b"hello\n\xff\x00 world"
    assert (tmp_path / "new" / "out").stat().st_mode & 0o777 == 0o600


def test_it_can_be_followed_while_it_is_written(tmp_path):
    """What was written is in the file at once, not at the end."""
    output = BoundedOutput(tmp_path / "out", 10_000)
    output.write(b"first\n")
    assert (tmp_path / "out").read_bytes() == b"first\n"
    output.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9000), max_size=30), st.integers(4096, 20_000))
def test_it_never_grows_past_its_limit_and_keeps_both_ends(tmp_path_factory, sizes, limit):
    """Whatever comes in whatever pieces, the file has the beginning, the end, and the number of bytes left out."""
    path = Path(tmp_path_factory.mktemp("output")) / "out"
    output = BoundedOutput(path, limit)
    written = bytearray()
    for number, size in enumerate(sizes):
        data = (b"%d," % number) * size
        written += data[:size]
        output.write(data[:size])
        assert path.stat().st_size <= limit
    output.close()
    kept = path.read_bytes()
    if len(written) <= limit:
        assert kept == written
        return
    head, left_out, tail = re.fullmatch(rb"(?s)(.*?)\n\[\.\.\. (\d+) bytes left out \.\.\.\] *\n(.*)", kept).groups()
    assert len(head) == limit // 2
    assert written.startswith(head)
    assert written.endswith(tail)
    assert len(tail) >= (limit - len(head)) // 4
    assert len(head) + int(left_out) + len(tail) == len(written) == output.total


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path):
    """Somebody who can put a link there cannot have another file overwritten."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "out").symlink_to(victim)
    with pytest.raises(OSError, match="out"):
        BoundedOutput(tmp_path / "out", 10_000)
    assert victim.read_text() == "precious"
