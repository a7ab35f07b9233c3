"""Rooms, messages and conversations by `VezaClient`: what the server documents is what comes back."""

import pytest

from tests.client.conftest import MakePerson
from veza.client import ApiError, DirectMessage, FrameRefused, RoomMessage, VezaClient


async def id_of(client: VezaClient) -> int:
    return (await client.me()).id


async def test_a_room_from_beginning_to_end(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob")
    room = await ada.create_room("Jazz / Blues".replace("/", "and"), description="late at night")
    assert (room.kind, room.role, room.member_count) == ("public", "owner", 1)
    assert [found.id for found in (await bob.rooms("jazz")).items] == [room.id]
    assert (await bob.join_room(room.id)).role == "member"
    changed = await ada.update_room(room.id, name="Jazz", slow_mode_s=1)
    assert (changed.name, changed.slow_mode_s) == ("Jazz", 1)
    assert {member.username: member.role for member in (await bob.members("Jazz")).items} == {
        "ada": "owner",
        "bob": "member",
    }
    bob_id = await id_of(bob)
    await ada.set_role("Jazz", bob_id, "moderator")
    await ada.set_role("Jazz", bob_id, "member")
    with pytest.raises(ApiError) as refused:
        await bob.kick("Jazz", await id_of(ada))
    assert refused.value.status == 403
    await ada.kick("Jazz", bob_id)
    assert [room.name for room in (await bob.rooms(mine=True)).items] == []
    await ada.delete_room("Jazz")
    with pytest.raises(ApiError) as gone:
        await ada.room("Jazz")
    assert (gone.value.status, gone.value.code) == (404, "ROOM_NOT_FOUND")


async def test_invitations_open_private_rooms(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob")
    room = await ada.create_room("rehearsal", private=True)
    with pytest.raises(ApiError) as hidden:
        await bob.room(room.id)
    assert hidden.value.status == 404
    regretted = await ada.invite(room.id)
    await ada.revoke_invite(room.id, regretted.code)
    invite = await ada.invite(room.id, uses=1)
    assert [open_.code for open_ in await ada.invites(room.id)] == [invite.code]
    with pytest.raises(ApiError):
        await bob.accept_invite(regretted.code)
    assert (await bob.accept_invite(invite.code)).id == room.id
    with pytest.raises(ApiError):
        await (await person("eve")).accept_invite(invite.code)


async def test_mutes_and_bans(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob")
    room = await ada.create_room("stage")
    bob_id = await id_of(bob)
    await bob.join_room("stage")
    await ada.mute("stage", bob_id, duration=60, reason="too loud")
    with pytest.raises(ApiError) as muted:
        await bob.post_message("stage", "la la")
    assert muted.value.code == "MUTED"
    await ada.unmute("stage", bob_id)
    await bob.post_message("stage", "la la")
    async with bob.chat() as socket:
        await socket.join("stage")
        await ada.ban("stage", bob_id)
        with pytest.raises(FrameRefused) as banned:
            await socket.send("stage", "let me in")
        assert banned.value.code == "BANNED"
    await ada.unban("stage", bob_id)
    assert (await bob.join_room(room.id)).role == "member"


async def test_messages(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob")
    await bob.join_room("general")
    await ada.join_room("general")
    first = await ada.post_message("general", "fisrt", nonce="n1")
    assert isinstance(first, RoomMessage)
    assert (await ada.post_message("general", "fisrt", nonce="n1")).id == first.id
    assert (await ada.edit_message(first.id, "first")).content == "first"
    reacted = await bob.react(first.id, "🎸")
    assert [(reaction.emoji, reaction.count) for reaction in reacted.reactions or ()] == [("🎸", 1)]
    assert not (await bob.unreact(first.id, "🎸")).reactions
    answer = await bob.post_message("general", "second", reply_to=first.id)
    assert answer.reply_to == first.id
    page = await ada.messages("general", limit=1)
    assert ([message.content for message in page.messages], page.total, page.has_more) == (
        ["second"],
        2,
        True,
    )
    before = await ada.messages("general", before_seq=page.next_before_seq)
    assert [message.content for message in before.messages] == ["first"]
    assert [message.id for message in (await ada.messages("general", after_seq=1)).messages] == [answer.id]
    assert [message.id for message in await bob.search_messages("first")] == [first.id]
    assert [message.id for message in await bob.search_messages("second", author="bob")] == [answer.id]
    await bob.report(first.id, "out of tune")
    assert (await ada.delete_message(first.id)).deleted_at is not None
    assert (await bob.message(first.id)).content == ""


async def test_pins(person: MakePerson) -> None:
    ada = await person("ada")
    await ada.create_room("wall")
    poster = await ada.post_message("wall", "concert tonight")
    assert (await ada.pin(poster.id)).pinned_at is not None
    assert [message.id for message in await ada.pins("wall")] == [poster.id]
    await ada.unpin(poster.id)
    assert await ada.pins("wall") == []


async def test_letters_and_what_is_unread(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob")
    ada_id, bob_id = await id_of(ada), await id_of(bob)
    letter = await ada.post_direct(bob_id, "psst")
    assert isinstance(letter, DirectMessage)
    assert [message.content for message in (await bob.direct_messages(ada_id)).messages] == ["psst"]
    (conversation,) = (await bob.conversations()).items
    assert (conversation.username, conversation.last_message, conversation.unread_count) == ("ada", "psst", 1)
    unread = await bob.unread()
    assert (unread.unread_count, unread.rooms[0].with_user) == (1, ada_id)
    async with bob.chat() as socket:
        socket.mark_read(letter.seq, with_user=ada_id)
        await socket.ping()  # behind it in the same line
    assert (await bob.unread()).unread_count == 0
