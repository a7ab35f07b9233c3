"""Words that are not said in a room: who chooses them, whom they stop, and what he is told."""

from __future__ import annotations

import pytest

from tests.moderation.conftest import Court, refused
from veza.http.api import room_words as form


async def test_what_is_not_said_in_a_room(court: Court) -> None:
    owner, member, guest = await court.people(3)
    room = (await court.house.room(owner, member, guest)).id
    elsewhere = (await court.house.room(owner, member)).id
    talker, ear = await court.house.enter(member, room, elsewhere), await court.house.enter(guest, room)
    before = await talker.say(room, "a naïve question")
    await ear.expect("room_message", id=before["id"])
    path = f"/chat/rooms/{room}/words"
    chosen = await court.put(path, {"words": ["Naïve", "NAIVE", "shut  up", "坏人", "cunt"]}, owner)
    assert chosen.data == {"words": ["cunt", "naive", "shut up", "坏人"]}
    assert (await court.get(path, owner)).data == chosen.data

    refusal = await talker.refused("WORD_FILTERED", "room_message", room=room, content="  oh, n\u200bAÏVE!")
    assert (refusal["details"]["position"], refusal["details"]["length"]) == (4, 6)
    assert "naive" not in str(refusal.data).lower()
    for said in ("Shut\tUP", "你坏人", "a ｃｕｎｔ"):
        await talker.refused("WORD_FILTERED", "room_message", room=room, content=said)
        await talker.refused("WORD_FILTERED", "edit_message", id=before["id"], content=said)
        answer = await court.post(f"/chat/rooms/{room}/messages", {"content": said}, member)
        refused(answer, 400, "WORD_FILTERED")
        assert answer.details["position"] in (0, 1, 2)
        answer = await court.put(f"/chat/messages/{before['id']}", {"content": said}, member)
        refused(answer, 400, "WORD_FILTERED")
    for field, said in (("media_url", "https://example.org/so/na%C3%AFve"), ("media_type", "a cunt")):
        refusal = await talker.refused(
            "WORD_FILTERED", "room_message", room=room, content="look", **{field: said}
        )
        assert refusal["details"]["field"] == field
    fine = await talker.say(room, "Scunthorpe, naively; shut, up")
    await ear.expect("room_message", id=fine["id"])
    assert ear.seen("error") == [] and len(ear.seen("room_message")) == 2
    await talker.say(elsewhere, "a naive question elsewhere")
    # Those who keep the house may quote them.
    assert (
        await court.post(f"/chat/rooms/{room}/messages", {"content": "no ‘naive’ here"}, owner)
    ).status == 201

    # A room that is started anew knows them still; and forgets them when it is told to.
    court.house.app.core.system.restart(f"rooms/{room}")
    await talker.refused("WORD_FILTERED", "room_message", room=room, content="naive")
    assert (await court.put(path, {"words": []}, owner)).data == {"words": []}
    await talker.say(room, "a naive question")
    assert await court.acts("room.words", target=room) == [("room.words", owner.id)] * 2


def test_a_huge_list_is_refused_before_any_of_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding a body full of marks would hold up everybody for seconds."""

    def never(word: str) -> str:
        raise AssertionError("it was folded")

    monkeypatch.setattr(form, "fold", never)
    for words in (["a" + "\u0301" * 999] * 800, ["a"] * 801, ["a" * 100_000]):
        assert [field for field, _ in form.Chosen(words).check()] == ["words"]


async def test_the_list_is_for_who_keeps_the_room(court: Court) -> None:
    owner, helper, member, stranger = await court.people(4)
    room = (await court.house.room(owner, member, moderators=(helper,))).id
    hidden = (await court.house.room(owner, member, kind="private")).id
    path = f"/chat/rooms/{room}/words"
    for who in (member, stranger):
        refused(await court.get(path, who), 403, "PERMISSION_DENIED")
        refused(await court.put(path, {"words": ["a"]}, who), 403, "PERMISSION_DENIED")
    for who in (owner, helper, court.moderator):
        assert (await court.put(path, {"words": ["a"]}, who)).status == 200
        assert (await court.get(path, who)).data == {"words": ["a"]}
    for verb in (
        court.get(f"/chat/rooms/{hidden}/words", stranger),
        court.get("/chat/rooms/999999/words", owner),
    ):
        refused(await verb, 404, "ROOM_NOT_FOUND")
    refused(await court.put(f"/chat/rooms/{hidden}/words", {"words": []}, stranger), 404, "ROOM_NOT_FOUND")
    letter = await court.post(f"/chat/dm/{member.id}", {"content": "hi"}, owner)
    conversation = letter.data["room_id"]
    refused(
        await court.put(f"/chat/rooms/{conversation}/words", {"words": []}, owner), 403, "PERMISSION_DENIED"
    )
    for bad in (
        {},
        {"words": "a"},
        {"words": [""]},
        {"words": ["\u200b"]},
        {"words": ["x" * 51]},
        {"words": ["x" * 100_000]},
        {"words": [5]},
        {"words": ["a\x00b"]},
        {"words": [f"word{n}" for n in range(201)]},
    ):
        answer = await court.put(path, bad, owner)
        assert (answer.status, answer.code) == (400, "VALIDATION_ERROR"), bad
    many = [f"word{n}" for n in range(200)]
    assert (await court.put(path, {"words": [*many, *(word.upper() for word in many)]}, owner)).status == 200
    assert len((await court.get(path, owner)).data["words"]) == 200
