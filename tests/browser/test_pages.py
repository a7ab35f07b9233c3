"""The pages in a real browser against a real server: what people do there works, and nothing complains."""

from __future__ import annotations

import pytest
import trio

from tests.browser.browser import Browser
from tests.chat.conftest import Build

pytestmark = pytest.mark.xdist_group("browser")

OURS = {"public_url": None, "allowed_origins": ()}


async def test_somebody_opens_an_account_on_the_start_page(build: Build, browser: Browser) -> None:
    async with build(**OURS) as house, browser.page(f"http://127.0.0.1:{house.port}/") as page:
        with trio.fail_after(40):
            await page.until("document.querySelector('.who button.main')")
            await page.click(".who button.main")
            for field, text in (
                ("name", "newcomer"),
                ("email", "newcomer@example.org"),
                ("password", "correct horse"),
            ):
                await page.type(f"dialog [name={field}]", text)
            await page.click("dialog button.main")
            await page.until("document.querySelector('.who span')?.textContent === 'newcomer'")
            assert await page.run("document.body.classList.contains('known')")
            await page.click(".who button")
            await page.until("document.querySelectorAll('.who button').length === 2")
            assert page.complaints == []
