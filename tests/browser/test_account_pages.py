"""One's account in a real browser: who one is, a second factor that is asked for, and leaving for ever."""

from __future__ import annotations

import pyotp
import trio

from tests.browser.browser import BOUND, Browser, Page
from tests.chat.conftest import Build

PASSWORD = "correct horse"


async def log_in(page: Page, name: str) -> None:
    await page.click(".who button")
    await page.type("dialog[open] [name=name]", name)
    await page.type("dialog[open] [name=password]", PASSWORD)
    await page.click("dialog[open] button.main")


async def test_a_second_factor_is_set_up_asked_for_and_the_account_deleted(
    build: Build, browser: Browser
) -> None:
    async with build(public_url=None, allowed_origins=()) as house:
        base = f"http://127.0.0.1:{house.port}"
        async with browser.page(f"{base}/") as page:
            with trio.fail_after(BOUND):
                await page.click(".who button.main")
                for field, text in (
                    ("name", "leaver"),
                    ("email", "leaver@example.org"),
                    ("password", PASSWORD),
                ):
                    await page.type(f"dialog[open] [name={field}]", text)
                await page.click("dialog[open] button.main")
                await page.until("document.querySelector('.who span')?.textContent === 'leaver'")

                await page.open(f"{base}/settings")
                await page.until("document.querySelector('#profile [name=username]').value === 'leaver'")
                await page.type("#profile [name=username]", "_x")
                await page.type("#profile [name=bio]", "I play <i>softly</i>.")
                await page.click("#profile button.main")
                await page.until("document.querySelector('.who span').textContent === 'leaver_x'")

                await page.type("#factor [name=password]", PASSWORD)
                await page.click("#factor button.main")
                await page.until("document.querySelector('.qr').naturalWidth > 0")
                secret = await page.run("document.querySelector('#factor code').textContent")
                await page.type("#factor [name=code]", pyotp.TOTP(secret.replace(" ", "")).now())
                await page.click("#factor button.main")
                await page.until("document.querySelectorAll('.codes code').length > 1")
                codes = await page.run(
                    "[...document.querySelectorAll('.codes code')].map(e => e.textContent)"
                )
                await page.click("#factor button.plain")
                await page.until(
                    f"document.querySelector('#factor p').textContent.includes('{len(codes)} recovery')"
                )
                complaints = list(page.complaints)

                await page.click(".who button")
                await page.until("document.querySelector('.who button.main')")
                await page.open(f"{base}/")
                await log_in(page, "leaver_x")
                await page.until("document.querySelector('dialog[open] .code').getClientRects().length")
                await page.type("dialog[open] .code input", codes[0])
                await page.click("dialog[open] button.main")
                await page.until("document.querySelector('.who span')?.textContent === 'leaver_x'")

                await page.open(f"{base}/settings")
                await page.type("#delete [name=password]", PASSWORD)
                await page.click("#delete button")
                await page.click("dialog[open] button.main")
                await page.until("!document.querySelector('#delete-code').hidden")
                await page.type("#delete [name=code]", codes[1])
                await page.click("#delete button")
                await page.click("dialog[open] button.main")
                await page.until("location.pathname === '/' && document.querySelector('.who button.main')")
                await log_in(page, "leaver_x")
                await page.until(
                    "document.querySelector('dialog[open] output').textContent.includes('not right')"
                )
                assert complaints == []
