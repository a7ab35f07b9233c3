"""The lines of curl between the paragraphs of the documents work too, as they stand, in the order they are read.

What they name by number (a message, a person, a report) is put in where a page cannot know it.
"""

import re
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import ROOT, Veza
from tests.cli.test_examples import Here, answers, run, server
from veza.client import VezaClient
from veza.db.pool import Database

__all__ = ["server"]  # the fixture

pytestmark = pytest.mark.usefixtures("nobody_hangs")


def lines(page: str) -> list[str]:
    """The indented blocks of a page that are commands of curl."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [block for block in re.findall(r"(?:^    .*\n)+", text, re.M) if block.startswith("    curl ")]


async def typed(blocks: list[str], client: VezaClient, server: Here, veza: Veza) -> list[dict[str, Any]]:
    """What the server answers somebody who types them; a failure fails the test."""
    assert client.tokens is not None
    script = "\n".join(blocks).replace("localhost:8080", f"127.0.0.1:{server.port}")
    script = re.sub(r"^    curl ", "curl -sS --fail-with-body ", script, flags=re.M)
    given = answers(
        await run(["bash", "-c", f"set -eu\nTOKEN={client.tokens.access_token}\n{script}"], "", veza)
    )
    assert len(given) == script.count("curl ")
    assert all(answer["success"] for answer in given)
    return [answer["data"] for answer in given]


def put(text: str, **numbers: int) -> str:
    """A block with the numbers of what is there."""
    for name, number in numbers.items():
        pattern = rf'({name}/|"{name}": )\d+'
        assert re.search(pattern, text), f"{name} is not in {text}"
        text = re.sub(pattern, rf"\g<1>{number}", text)
    return text


async def _make_administrator(conn: Any, username: str) -> None:
    await conn.execute("UPDATE users SET role = 'admin' WHERE username = $1", username)


async def test_the_lines_of_curl(veza: Veza, server: Here, db: Database) -> None:
    Image.new("RGB", (64, 48), "#a9742f").save(veza.home / "bass.jpg")
    async with VezaClient(server.url) as ada, VezaClient(server.url) as bob, VezaClient(server.url) as carol:
        for client, name in ((ada, "ada"), (bob, "bob"), (carol, "carol")):
            await client.register(name, f"{name}@example.org", "correct horse")
        listing, image, offer = lines("docs/market.md")
        made, found, shown = await typed([listing, image], ada, server, veza)
        assert [one["id"] for one in found["listings"]] == [made["id"]] == [1]
        assert shown["n"] == 1
        assert (await bob.create_listing("An amp", "amps", "good", price_cents=9000)).id == 2
        (offered,) = await typed([offer], bob, server, veza)
        assert (offered["status"], offered["proposed_listing"]["id"]) == ("pending", 2)

        everything, suggested = (await typed(lines("docs/search.md"), bob, server, veza))[::2]
        assert everything["people"] == []
        assert suggested["suggestions"] == []

        while not (await ada.notifications()).notifications:  # the courier is on its way
            pass
        news, read, wanted = await typed(lines("docs/notifications.md"), ada, server, veza)
        assert (news["unread"], read["unread"]) == (1, 0)
        assert wanted["preferences"]["like"]["socket"] is False
        assert wanted["preferences"]["listing"]["email"] is True

        async with ada.chat() as chat:
            await chat.join("general")
            said = await chat.send("general", "you scoundrels")
        report, sanction = lines("docs/moderation.md")
        (reported,) = await typed([put(report, target_id=said.id)], bob, server, veza)
        ids = {name: (await client.me()).id for name, client in (("ada", ada), ("carol", carol))}
        async with VezaClient(server.url) as boss:
            await boss.register("boss", "boss@example.org", "correct horse")
            await db.write(_make_administrator, "boss")
            await boss.request("PUT", f"admin/users/{ids['carol']}", json={"role": "moderator"})
        (sanctioned,) = await typed(
            [put(sanction, users=ids["ada"], report_id=reported["report_id"])], carol, server, veza
        )
        assert sanctioned["user"]["is_muted"]
