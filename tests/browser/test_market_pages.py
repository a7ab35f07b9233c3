"""The market, the search box and the bell in a real browser: people find, offer and agree with clicks and keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from PIL import Image

from tests.browser.browser import BOUND, Browser, Page
from tests.browser.conftest import logged_in
from tests.chat.conftest import Build, House, Person

OURS = {"public_url": None, "allowed_origins": ()}
HOSTILE = "<img src=x onerror=alert(1)> Gitane"
# What hostile texts would do if anything took them for more than text; it is a complaint of the page then.
WATCH = "window.alert = () => console.error('a script of somebody else ran')"
BADGE = "document.querySelector('.bell .number')"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "guitar.png"
    Image.new("RGB", (640, 480), (180, 90, 20)).save(path)
    return path


@asynccontextmanager
async def looking(
    browser: Browser, house: House, person: Person, path: str, beside: Page | None = None
) -> AsyncIterator[Page]:
    """A page somebody looks at, to whom what happens meanwhile is told."""
    url = f"http://127.0.0.1:{house.port}{path}"
    async with browser.page(url, storage=logged_in(person), beside=beside) as page:
        await page.run(WATCH)
        await page.command("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        await page.until("document.querySelector('.bell')")
        yield page


async def ask(house: House, person: Person, method: str, path: str, **json: Any) -> Any:
    """A request beside the browser; the `data` of its answer."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.port}/api/v1", timeout=60) as client:
        answer = await client.request(
            method, path, json=json or None, headers={"authorization": f"Bearer {person.token}"}
        )
    assert answer.is_success, answer.text
    return answer.json()["data"]


async def put_up(page: Page, title: str, picture: Path) -> int:
    """Fill in the form and send it; the listing."""
    await page.until("document.querySelector('[name=category] option')")
    await page.type("[name=title]", title)
    await page.select("[name=category]", "guitars")
    await page.type("[name=price]", "1 250,50")
    await page.type("[name=exchange_for]", "a mandolin")
    await page.type("[name=description]", "Played <b>a little</b>.\nStill sings.")
    await page.choose_files("#files", picture)
    await page.until("document.querySelector('#previews img').naturalWidth === 640")
    await page.click("#form button.main")
    return int(await page.until("/^\\/market\\/(\\d+)$/.exec(location.pathname)?.[1]"))


async def test_something_is_put_up_found_offered_for_and_sold(
    build: Build, browser: Browser, picture: Path
) -> None:
    async with build(**OURS) as house:
        seller, buyer = await house.people(2)
        async with (
            looking(browser, house, seller, "/market/new") as owner,
            looking(browser, house, buyer, "/") as other,
        ):
            with trio.fail_after(BOUND):
                listing = await put_up(owner, HOSTILE, picture)
                await owner.until("document.querySelector('.large')?.naturalWidth > 0")
                assert await owner.run("document.querySelector('#title').textContent") == HOSTILE
                assert await owner.run("document.querySelector('#description b')") is None
                await owner.until("document.querySelector('#trade-title').textContent === 'No offers yet'")

                # Somebody else finds it with the keyboard alone.
                await other.press("/")
                await other.until("document.activeElement === document.querySelector('.find input')")
                await other.command("Input.insertText", text="gita")
                await other.until("document.querySelector('[role=option]')")
                assert await other.run("document.querySelectorAll('[role=option] img').length") == 0
                await other.press("Escape")
                await other.until("document.querySelector('[role=listbox]').hidden")
                await other.press("ArrowDown")
                await other.until("document.querySelector('[role=option]')?.getClientRects().length")
                await other.press("ArrowDown")
                await other.until(
                    "document.getElementById(document.querySelector('.find input')"
                    f".getAttribute('aria-activedescendant'))?.dataset.href === '/market/{listing}'"
                )
                await other.press("Enter")
                await other.until(f"document.querySelector('#title')?.textContent === '{HOSTILE}'")
                assert await other.run("document.querySelector('#title').children.length") == 0
                assert "€1,250.50 or exchange" in await other.run(
                    "document.querySelector('#price').textContent"
                )

                # An offer of nothing is refused where it is made; a real one is told at once.
                await other.click(".terms button.main")
                await other.until(
                    "document.querySelector('.terms output').textContent.startsWith('Say what')"
                )
                await other.type(".terms [name=amount]", "1000")
                await other.type(".terms [name=message]", "For <u>tonight</u>?")
                await other.click(".terms button.main")
                await other.until("document.querySelector('#trade-title').textContent === 'Your offer'")
                await owner.until(f"{BADGE}.textContent === '1' && !{BADGE}.hidden")
                await owner.until(
                    "document.querySelector('#offers blockquote')?.textContent === 'For <u>tonight</u>?'"
                )

                # What the owner would rather have, and what comes of it, both see as it happens.
                await owner.click("#offers .counter")
                await owner.run("document.querySelector('.terms [name=amount]').value = ''")
                await owner.type(".terms [name=amount]", "1100")
                await owner.click(".terms button.main")
                await other.until("document.querySelector('#offers .badge').textContent === 'countered'")
                await other.until(f"{BADGE}.textContent === '1' && !{BADGE}.hidden")
                await other.click(".bell")
                await other.click(".notices a")
                await other.until("location.pathname === '/offers'")
                await other.click(".offer .accept")
                await other.click("dialog[open] button.main")
                await other.until("document.querySelector('.offer .badge').textContent === 'accepted'")
                await owner.until("document.querySelector('#badge').textContent === 'sold'")
                await owner.until(f"{BADGE}.textContent === '2'")
                assert (await ask(house, seller, "GET", f"/listings/{listing}"))["status"] == "sold"
                assert (owner.complaints, other.complaints) == ([], [])


async def test_what_is_read_in_one_place_is_read_in_all(build: Build, browser: Browser) -> None:
    async with build(**OURS) as house:
        person, *others = await house.people(4)
        async with (
            looking(browser, house, person, "/notifications") as here,
            looking(browser, house, person, "/market", beside=here) as tab,
            looking(browser, house, person, "/") as phone,
        ):
            pages = (here, tab, phone)
            with trio.fail_after(BOUND):
                for each in others:
                    await ask(house, each, "PUT", f"/users/{person.id}/follow")
                for page in pages:
                    await page.until(f"{BADGE}.textContent === '3' && !{BADGE}.hidden")
                await here.until("document.querySelectorAll('#notices .notice').length === 3")
                assert others[2].name in await here.run(
                    "document.querySelector('#notices .notice').textContent"
                )
                await here.click("#notices button")
                for page in pages:
                    await page.until(f"{BADGE}.textContent === '2'")
                await phone.click(".bell")
                await phone.click(".panel button")
                for page in pages:
                    await page.until(f"{BADGE}.hidden")
                await here.until("document.querySelectorAll('#notices [data-unread]').length === 0")
                # What is not wanted any more does not come.
                await here.until("document.querySelector('#preferences input')")
                await here.click("#preferences [aria-label^='somebody follows me'][aria-label$='here']")
                await here.until("document.querySelector('#saved').textContent === 'Saved.'")
                wishes = (await ask(house, person, "GET", "/notifications/preferences"))["preferences"]
                assert wishes["follow"]["socket"] is False
                assert [page.complaints for page in pages] == [[], [], []]


# The first answer from a path with WHAT in it waits for `held` to be called.
HOLD = """{
    const real = window.fetch;
    window.fetch = async (...asked) => {
        const answer = await real(...asked);
        if (!window.held && String(asked[0]).includes('WHAT'))
            await new Promise((go) => { window.held = go });
        return answer;
    };
}"""


async def test_an_answer_that_is_older_than_what_was_told_counts_for_nothing(
    build: Build, browser: Browser
) -> None:
    async with build(**OURS) as house:
        person, other = await house.people(2)
        async with looking(browser, house, person, "/market") as page:
            with trio.fail_after(BOUND):
                await page.run(HOLD.replace("WHAT", "/notifications?"))
                await page.run("window.dispatchEvent(new Event('veza:connected'))")
                await page.until("Boolean(window.held)")
                await ask(house, other, "PUT", f"/users/{person.id}/follow")
                await page.until(f"{BADGE}.textContent === '1' && !{BADGE}.hidden")
                await page.run("window.held(), new Promise((go) => setTimeout(go, 100))")
                await page.until(f"{BADGE}.textContent === '1' && !{BADGE}.hidden")
                assert await page.run("document.querySelectorAll('.notices a').length") == 1


async def test_offers_that_were_asked_for_last_are_shown_whichever_come_last(
    build: Build, browser: Browser
) -> None:
    async with build(**OURS) as house:
        owner, buyer = await house.people(2)
        listing = await ask(
            house,
            owner,
            "POST",
            "/listings",
            title="Cymbal",
            category="drums",
            state="good",
            price_cents=100,
        )
        async with looking(browser, house, owner, f"/market/{listing['id']}") as page:
            with trio.fail_after(BOUND):
                title = "document.querySelector('#trade-title').textContent"
                await page.until(f"{title} === 'No offers yet'")
                await page.run(HOLD.replace("WHAT", "/offers?"))
                await page.run("window.dispatchEvent(new Event('veza:session'))")
                await page.until("Boolean(window.held)")
                await ask(house, buyer, "POST", f"/listings/{listing['id']}/offers", amount_cents=90)
                await page.until(f"{title} === '1 offer'")
                await page.run("window.held(), new Promise((go) => setTimeout(go, 100))")
                assert await page.run(title) == "1 offer"


async def test_filters_stand_in_the_address(build: Build, browser: Browser) -> None:
    async with build(**OURS) as house:
        owner, reader = await house.people(2)
        for title, category, price in (
            ("Brushed snare", "drums", 9000),
            ("Brushed cymbal", "drums", 30000),
            ("Brushed steel guitar", "guitars", 20000),
        ):
            await ask(
                house,
                owner,
                "POST",
                "/listings",
                title=title,
                category=category,
                state="good",
                price_cents=price,
            )
        titles = "[...document.querySelectorAll('#listings b')].map(e => e.textContent).join()"
        async with looking(browser, house, reader, "/market?search=brushed&sort=price_asc") as page:
            with trio.fail_after(BOUND):
                await page.until(f"{titles} === 'Brushed snare,Brushed steel guitar,Brushed cymbal'")
                await page.select("[name=category]", "drums")
                await page.until(f"{titles} === 'Brushed snare,Brushed cymbal'")
                assert await page.run("location.search") == "?search=brushed&category=drums&sort=price_asc"
                await page.type("[name=max]", "99.50")
                await page.until(f"{titles} === 'Brushed snare'")
                await page.click("#listings a")
                await page.click("#favorite")
                await page.until(
                    "document.querySelector('#favorite').getAttribute('aria-pressed') === 'true'"
                )
                await page.leave("history.back()")
                await page.until(
                    f"document.querySelector('#filters')?.elements.max.value && {titles} === 'Brushed snare'"
                )
                await page.run("document.querySelector('[name=max]').value = ''")
                await page.type("[name=max]", "much")
                await page.until(
                    "document.querySelector('#state.bad')?.textContent.startsWith('“much” is no amount')"
                )
                await page.select("[name=whose]", "favorites")
                await page.until(f"{titles} === 'Brushed snare' && !document.querySelector('#state.bad')")
                await page.run("document.querySelector('.find input').value = 'brushed'")
                await page.leave("document.querySelector('.find').requestSubmit()")
                await page.until("location.pathname === '/search'")
                await page.until("document.querySelectorAll('#found #listings a').length === 3")
                assert page.complaints == []


async def test_what_is_reported_is_decided_in_the_queue(build: Build, browser: Browser) -> None:
    async with build(**OURS) as house:
        owner, reporter = await house.people(2)
        moderator = await house.person(role="moderator")
        bargain: dict[str, Any] = {"title": "A <b>bargain</b>", "category": "other", "state": "good"}
        listing = (await ask(house, owner, "POST", "/listings", price_cents=100, **bargain))["id"]
        async with (
            looking(browser, house, owner, "/") as accused,
            looking(browser, house, reporter, f"/market/{listing}") as page,
            looking(browser, house, moderator, "/") as queue,
        ):
            with trio.fail_after(BOUND):
                await page.click("#report button")
                await page.select("dialog[open] [name=category]", "fraud")
                await page.type("dialog[open] [name=reason]", "It was <i>never</i> his.")
                await page.click("dialog[open] button.main")
                await page.until(
                    "document.querySelector('dialog[open] output').textContent.startsWith('Thank')"
                )
                await queue.open(f"http://127.0.0.1:{house.port}/moderation")
                await queue.until("document.querySelector('.report')")
                shown = await queue.run("document.querySelector('.report').textContent")
                assert "A <b>bargain</b>" in shown and "It was <i>never</i> his." in shown
                await queue.click(".closer")
                await queue.until("!document.querySelector('.closer')")
                await queue.select("[name=verdict]", "day")
                await queue.type(".verdict [name=reason]", "No stolen things here.")
                await queue.click(".verdict button.main")
                await queue.until("document.querySelector('#state').textContent === 'Nothing waits here.'")
                # Both hear of it, and only the one is silent now.
                for each, text in ((accused, "No stolen things here."), (page, "was looked at")):
                    await each.until(f"{BADGE}.textContent === '1' && !{BADGE}.hidden")
                    await each.until(f"document.querySelector('.notice').textContent.includes('{text}')")
                await queue.select("[name=status]", "resolved")
                await queue.until("document.querySelector('.report')?.textContent.includes('muted')")
                assert [each.complaints for each in (accused, page, queue)] == [[], [], []]


async def test_people_talk_in_rooms_and_write_letters(build: Build, browser: Browser) -> None:
    async with build(**OURS) as house:
        one, other = await house.people(2)
        room = await house.room(one, other, name=f"Rehearsal {one.id}")
        async with (
            looking(browser, house, one, f"/messages/{other.id}") as left,
            looking(browser, house, other, "/") as right,
        ):
            with trio.fail_after(BOUND):
                await left.until(f"document.querySelector('#title').textContent === '{other.name}'")
                await left.until("!document.querySelector('#chat form').hidden")
                await left.type("#chat input", "<b>Tonight</b> at eight?")
                await left.press("Enter")
                await left.until(
                    "document.querySelector('.messages .text')?.textContent === '<b>Tonight</b> at eight?'"
                )
                await right.open(f"http://127.0.0.1:{house.port}/messages/{one.id}")
                await right.until(
                    "document.querySelector('.messages .text')?.textContent === '<b>Tonight</b> at eight?'"
                )
                await right.until("!document.querySelector('#chat form').hidden")
                await right.type("#chat input", "At nine.")
                await right.press("Enter")
                await left.until(
                    "document.querySelectorAll('.messages .text')[1]?.textContent === 'At nine.'"
                )
                names = "[...document.querySelectorAll('.messages b')].map(e => e.textContent).join()"
                assert await left.run(names) == await right.run(names) == f"{one.name},{other.name}"
                for page in (left, right):
                    await page.open(f"http://127.0.0.1:{house.port}/rooms/{room.id}")
                    await page.until("document.querySelector('#title').textContent.startsWith('Rehearsal')")
                await left.until("!document.querySelector('#chat form').hidden")
                await left.type("#chat input", "Everybody here?")
                await left.press("Enter")
                await right.until(
                    "document.querySelector('.messages .text')?.textContent === 'Everybody here?'"
                )
                await left.open(f"http://127.0.0.1:{house.port}/rooms")
                await left.until("document.querySelector('#letters .line')?.textContent === 'At nine.'")
                await left.type("#new-room [name=name]", f"Cellar {one.id}")
                await left.click("#new-room button")
                await left.until(f"document.querySelector('#title')?.textContent === 'Cellar {one.id}'")
                await right.open(f"http://127.0.0.1:{house.port}/")
                await right.until(
                    f"document.querySelector('#rooms a[href=\"/rooms/{room.id}\"] .line')?.textContent"
                    f" === '{one.name}: Everybody here?'"
                )
                assert (left.complaints, right.complaints) == ([], [])


async def test_who_is_not_logged_in_or_asks_for_what_is_not_there_is_told_so(
    build: Build, browser: Browser
) -> None:
    async with build(**OURS) as house:
        base = f"http://127.0.0.1:{house.port}"
        invited = "[...document.querySelectorAll('main button, dialog[open]')].some(e => /Log in/.test(e.textContent))"
        async with browser.page(f"{base}/market") as page:
            with trio.fail_after(BOUND):
                await page.until("document.querySelector('#state').textContent")
                assert await page.run("document.querySelector('.bell').getClientRects().length") == 0
                for path in ("/offers", "/notifications", "/moderation", "/rooms", "/people/1", "/settings"):
                    await page.open(base + path)
                    await page.until(invited)
                assert page.complaints == []
                # The browser itself puts refusals on its console.
                for path, words in (
                    ("/market/999999999", "This listing does not exist"),
                    ("/tracks/999999999", "This track does not exist"),
                ):
                    await page.open(base + path)
                    await page.until(f"document.querySelector('#missing').textContent.includes('{words}')")
        nobody = await house.person()
        async with looking(browser, house, nobody, "/moderation") as page:
            with trio.fail_after(BOUND):
                await page.until("document.querySelector('#state.bad')?.textContent")
                assert (
                    await page.run(
                        "document.querySelectorAll('nav a[href=\"/moderation\"]:not([hidden])').length"
                    )
                    == 0
                )
                await page.open(f"{base}/people/999999999")
                await page.until("document.querySelector('#missing').textContent.includes('does not exist')")
