"""Money on the pages is what the server means by it, in every currency."""

from __future__ import annotations

import json

import trio

from tests.browser.browser import BOUND, Browser
from tests.chat.conftest import Build
from veza.db.currencies import DIGITS, written

_WRITTEN = """import('/app/money.js').then(({money, cents, amount}) => JSON.stringify(CODES.map((code) =>
    [code, amount(123456, code), money(123456, code).replace(/\\D/g, ''), cents(amount(123456, code), code)])))"""


async def test_amounts_have_the_digits_the_server_counts_in(build: Build, browser: Browser) -> None:
    async with build(public_url=None, allowed_origins=()) as house:
        async with browser.page(f"http://127.0.0.1:{house.port}/market") as page:
            with trio.fail_after(BOUND):
                found = await page.run(_WRITTEN.replace("CODES", json.dumps(sorted(DIGITS))))
    expected = [[code, written(123456, code).split()[0], "123456", 123456] for code in sorted(DIGITS)]
    assert json.loads(found) == expected
