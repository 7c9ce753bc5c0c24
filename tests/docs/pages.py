"""The pages of the documentation, taken apart: their fenced blocks, with what is said about each."""

import re
from dataclasses import dataclass

from tests.conftest import ROOT

COMMANDS = ("sh", "python")
SHOWN = ("text", "yaml", "json", "toml", "ini", "diff", "nginx", "dockerfile", "caddyfile", "sql")
GENERATED = ("docs/cli.md",)  # made from the help of the commands, whose examples have a test of their own

_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]+?) -->\n)?^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    flags=re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block: its language, its text, and the mark in the comment right above it."""

    page: str
    language: str
    text: str
    mark: str

    @property
    def left_out(self):
        return self.mark.startswith("not run here")

    @property
    def run_by(self):
        """What runs it instead of the test of its page, "" for nothing."""
        return self.mark.removeprefix("run by ") if self.mark.startswith("run by ") else ""


def pages():
    """Every page, by its path from the root."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = [path.relative_to(ROOT).as_posix() for path in found]
    return [name for name in names if name not in GENERATED]


def blocks(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            language=match["language"],
            text=re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE),
            mark=match["mark"] or "",
        )
        for match in _FENCE.finditer(text)
    ]


def needs_nas(page):
    """Whether a page's commands suppose a home that is connected to a NAS, as the quickstart leaves it."""
    return "<!-- supposes: the quickstart -->" in (ROOT / page).read_text(encoding="utf-8")
