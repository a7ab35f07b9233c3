"""The documents are true: their tables are complete, what they name is there, their links lead somewhere."""

import re
from pathlib import Path

import pytest

from veza import config
from veza.commands.settings_page import BEGIN, END, renewed

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", ["README.md", "docs/settings.md"])
def test_the_table_of_settings_is_complete_and_true(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert renewed(text, sections=page != "README.md") == text, "make docs writes it anew"
    table = text.partition(BEGIN)[2].partition(END)[0]
    assert set(re.findall(r"^\| `([A-Z0-9_]+)` \|", table, re.M)) == config.variables()


def test_a_setting_that_is_documented_is_used() -> None:
    """A setting nobody reads would be a promise nobody keeps."""
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "veza").rglob("*.py") if path.name != "config.py"
    )
    later = {"media_workers"}  # for what comes with audio
    for field in config.fields():
        read = "production" if field.attribute == "environment" else field.attribute
        if field.attribute not in later:
            assert re.search(rf"\.{read}\b", source), f"nothing reads {field.variable}"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_files_that_are_named_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:veza|tests|bench|docs)/[\w./]+)`", text):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
