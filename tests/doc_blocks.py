"""The code blocks of README.md, CONTRIBUTING.md and docs, with where they stand and what is to be done with them.

A block is executed unless the line above it says `<!-- checked: why it cannot be run here -->`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("python", "bash", "yaml", "json", "text")

_FENCE = re.compile(r"( *)(`{3,})([\w+-]*)(.*)")
_CHECKED = re.compile(r" *<!-- checked: (.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its opening fence, and the reason for which it is not executed, if any."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """All pages, relative to the repository."""
    own = ["README.md", "CONTRIBUTING.md"]
    return own + sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page in their order. Raises `ValueError` for a block that is not closed."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    found, start = [], None
    for number, line in enumerate(lines, start=1):
        match = _FENCE.fullmatch(line)
        if start is None and match:
            start, (indent, fence, language, _) = number, match.groups()
        elif start is not None and line.strip() == fence:
            above = _CHECKED.fullmatch(lines[start - 2]) if start > 1 else None
            text = "\n".join(row.removeprefix(indent) for row in lines[start : number - 1])
            found.append(Block(page, start, language, text, above.group(1) if above else None))
            start = None
    if start is not None:
        raise ValueError(f"{page}:{start}: the block is not closed")
    return found


def commands_of(block: Block) -> list[tuple[int, list[str]]]:
    """The commands of a block of shell, each as the line it begins on and its words, quotes and comments resolved."""
    import shlex

    commands, words_so_far, first = [], "", 0
    for offset, line in enumerate(block.text.splitlines(), start=1):
        first = first or offset
        words_so_far += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        for part in re.split(r"&&|\|(?=\s)", words_so_far):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_][A-Z0-9_]*=.*", words[0]):
                words = words[1:]
            if words:
                commands.append((block.line + first, words))
        words_so_far, first = "", 0
    return commands
