"""What the pages refer to is there: files that they link to and name, anchors, pictures, and every page in the site."""

import re
from pathlib import Path

import pytest
import yaml
from doc_blocks import ROOT, pages

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# Code that reads as the path of a file or folder of a room; patterns and placeholders are none.
_NAMED = re.compile(r"`((?:modeling_trajvit|processing|training|evaluation|trajvit|benchmarks|tests|docs)/[\w./-]*)`")
_MADE = ("benchmarks/results",)


def prose_of(page: str) -> list[tuple[int, str]]:
    """The numbered lines of a page that are not in a code block."""
    lines, inside = [], False
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            lines.append((number, line))
    return lines


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page):
    for line, text in prose_of(page):
        for target in _LINK.findall(text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            assert path.exists(), f"{page}:{line}: there is no {target}"
            if anchor and path.suffix == ".md":
                assert anchor in anchors_of(path), f"{page}:{line}: {name or page} has no heading for #{anchor}"


@pytest.mark.parametrize("page", pages())
def test_files_that_pages_name_exist(page):
    for line, text in prose_of(page):
        for name in _NAMED.findall(text):
            if not name.startswith(_MADE) and "x_" not in name and "_x" not in name:
                assert (ROOT / name).exists(), f"{page}:{line}: there is no {name}"


def leaves(entries) -> list[str]:
    if isinstance(entries, dict):
        return [leaf for value in entries.values() for leaf in leaves(value)]
    return [leaf for entry in entries for leaf in leaves(entry)] if isinstance(entries, list) else [entries]


def test_every_page_has_one_place_in_the_site():
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    own = [page.removeprefix("docs/") for page in pages() if page.startswith("docs/")]
    assert sorted(leaves(navigation)) == sorted(own)


def test_the_site_asks_no_other_machine():
    """Fonts, scripts and counters of visits would; the theme's fonts are its only default that does."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["theme"]["font"] is False
    assert not {"extra_javascript", "extra"} & set(settings)
    assert all(not style.startswith("http") for style in settings["extra_css"])
    assert "url(" not in (ROOT / "docs" / settings["extra_css"][0]).read_text(encoding="utf-8")
