"""Text that fits a screen: its width, where it is cut, what gives way in a table, and how a line is folded."""

from __future__ import annotations

import pytest

from chronos_cli.screen import Column, cut, fitted, folded, padded, width_of


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("é", 1), ("e\u0301", 1), ("日本", 4), ("🙂", 2), ("❤\ufe0f", 2), ("ｱ", 1), ("", 0)]
)
def test_the_width_is_that_of_a_terminal(text, width):
    assert width_of(text) == width
    assert width_of(padded(text, 6)) == 6


@pytest.mark.parametrize(
    ("text", "most", "kept"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("日本語日本", 6, "日本…"),
        ("ab cdef", 4, "ab…"),
        ("abc", 1, "…"),
    ],
)
def test_what_is_cut_ends_with_its_mark_and_splits_no_character(text, most, kept):
    assert cut(text, most, "…") == kept
    assert width_of(cut(text, most, "...")) <= most


COLUMNS = (Column(title="NAME", least=4), Column(title="N"), Column(title="NOTE", least=5, drop=1))


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (80, (["NAME", "N", "NOTE"], ["abcdefgh", "12345", "a long note about it"])),
        (25, (["NAME", "N", "NOTE"], ["abcdefgh", "12345", "a long…"])),
        (20, (["NAME", "N", "NOTE"], ["abcd…", "12345", "a lo…"])),
        (14, (["NAME", "N"], ["abcdef…", "12345"])),
        (10, (["NAME", "N"], ["abc…", "123…"])),
    ],
)
def test_the_widest_column_gives_way_first_then_whole_ones_go(width, expected):
    titles, (row,) = fitted(COLUMNS, [["abcdefgh", "12345", "a long note about it"]], width, "…")
    assert (titles, row) == expected
    assert sum(map(len, row)) + 2 * (len(row) - 1) <= width


def test_a_line_is_folded_at_blanks_and_a_command_is_not():
    text = "held since noon by ann: the way out is `chronos hold --off` and then some more"
    assert list(folded(text, 30, 2)) == [
        "held since noon by ann: the",
        "  way out is",
        "  `chronos hold --off` and",
        "  then some more",
    ]
    assert list(folded("name          value of it", 20, 14)) == ["name          value", "              of it"]
    assert list(folded("x" * 25, 10, 2)) == ["x" * 10, "  " + "x" * 8, "  " + "x" * 7]
    assert list(folded("short", 30, 2)) == ["short"]
