"""What the pages are made of: all of it is served, nothing comes from elsewhere, nobody's text can become markup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import veza.http.pages
from veza.http.head import Head
from veza.http.pages import shelf

FOLDER = Path(veza.http.pages.__file__).parent
PAGES = sorted(FOLDER.glob("*.html"))
MODULES = sorted(FOLDER.glob("*.js"))
ADDRESSES = [
    "/",
    "/docs",
    "/docs/",
    "/docs/init.js",
    "/docs/page.css",
    "/docs/swagger-ui.css",
    "/docs/swagger-ui-bundle.js",
    "/market",
    "/market/new",
    "/market/1",
    "/market/1/edit",
    "/messages",
    "/messages/1",
    "/moderation",
    "/notifications",
    "/offers",
    "/people/1",
    "/rooms",
    "/rooms/1",
    "/search",
    "/settings",
    "/tracks/1",
    "/s/a-stream",
    "/s/a-stream/broadcast",
]
NOT_PAGES = [
    "/market/",
    "/market/x",
    "/market/1/",
    "/people/",
    "/people/me",
    "/rooms/1/2",
    "/messages/x",
    "/app/",
    "/app/__init__.py",
]
# Ways by which a text becomes elements, or code.
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\b"
)


def named(text: str) -> set[str]:
    """The addresses of ours in a page, a module or the sheet."""
    found = set(re.findall(r"""(?:src|href)="(/(?:app|docs)/[^"]*)\"""", text))
    found |= {f"/app/{name}" for name in re.findall(r"""(?:from|import\(?) ?"\./([^"]+)\"""", text)}
    return found | set(re.findall(r"url\((/[^)]*)\)", text))


def test_what_a_file_names_is_served() -> None:
    served = shelf()
    files = [*PAGES, *MODULES, FOLDER / "style.css"]
    missing = {
        (file.name, name) for file in files for name in named(file.read_text()) if not served.claims(name)
    }
    assert not missing


async def test_what_is_served_is_there_and_what_is_there_is_served() -> None:
    served = shelf()
    nobody: Any = None
    addresses = [*ADDRESSES, *(f"/app/{file.name}" for file in FOLDER.iterdir())]
    found = {(await served.find(head(each), nobody)).path for each in addresses if served.claims(each)}
    assert not [path for path in found if path is None or not path.is_file()]
    assert {each for each in ADDRESSES if not served.claims(each)} == set()
    assert {*PAGES, *MODULES, *FOLDER.glob("*.svg"), *FOLDER.glob("*.css")} - found == set()


def test_other_addresses_are_no_pages() -> None:
    assert [each for each in NOT_PAGES if shelf().claims(each)] == []


def test_pages_have_no_scripts_of_their_own_and_take_nothing_from_elsewhere() -> None:
    wrong = re.compile(
        r"""<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:|(?:src|href)="(?:https?:)?//"""
    )
    assert [page.name for page in PAGES if wrong.search(page.read_text())] == []
    without = [page.name for page in PAGES if "/app/top.js" not in page.read_text()]
    assert without == ["docs.html"]  # which is Swagger UI's


def test_what_every_page_needs_is_asked_for_at_once() -> None:
    """Module by module each would wait for the one that names it."""
    needed: set[str] = set()
    waiting = ["top.js"]
    while waiting:
        found = set(re.findall(r"""(?:from|import) "\./([^"]+)\"""", (FOLDER / waiting.pop()).read_text()))
        waiting += found - needed
        needed |= found
    for page in PAGES:
        if page.name != "docs.html":
            loads = set(re.findall(r"""modulepreload" href="/app/([^"]+)\"""", page.read_text()))
            assert loads == needed, page.name


def test_texts_of_others_only_become_text() -> None:
    assert [module.name for module in MODULES if MARKUP.search(module.read_text())] == []


def head(path: str) -> Head:
    return Head(
        method="GET",
        target=path.encode(),
        path=path,
        query=b"",
        version="1.1",
        headers=[],
        keep_alive=True,
        length=None,
        chunked=False,
        expects_continue=False,
        upgrade="",
    )
