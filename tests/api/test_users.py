"""People: one's own profile, and what others see of it."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Api
from veza.db.pool import Database

PUBLIC = {"id", "username", "first_name", "last_name", "bio", "avatar", "created_at"}
TIES = {
    "follower_count",
    "following_count",
    "track_count",
    "is_following",
    "follows_me",
    "is_blocked",
    "is_muted",
}


async def test_one_s_own_profile(api: Api) -> None:
    person = await api.person("nina")
    for path in ("/users/profile", "/users/me", "/auth/me"):
        data = (await api.get(path, token=person.token)).data
        assert (data["id"], data["email"]) == (person.id, "nina@example.org")


async def test_a_profile_changes_only_where_something_was_sent(api: Api) -> None:
    person = await api.person("nina", first_name="Nina")
    changed = await api.put(
        "/users/profile",
        {"bio": "Cello.\nAlso gamba 🎻", "last_name": "Müller", "avatar": "https://x.example/n.png"},
        token=person.token,
    )
    assert changed.status == 200
    assert (changed.data["first_name"], changed.data["last_name"]) == ("Nina", "Müller")
    assert changed.data["bio"] == "Cello.\nAlso gamba 🎻"
    cleared = (await api.put("/users/me", {"first_name": None, "bio": ""}, token=person.token)).data
    assert (cleared["first_name"], cleared["bio"], cleared["last_name"]) == (None, None, "Müller")
    same = (await api.put("/users/me", {}, token=person.token)).data
    assert same["last_name"] == "Müller"


async def test_a_new_name_is_everybody_s_at_once(api: Api) -> None:
    person, other = await api.person("nina"), await api.person("other")
    told: list[int] = []
    api.services.registry.on_changed(told.append)
    assert (await api.get("/auth/me", token=person.token)).status == 200
    answer = await api.put("/users/me", {"username": "nina_simone"}, token=person.token)
    assert answer.data["username"] == "nina_simone"
    assert (await api.services.registry.authenticate(person.token)).username == "nina_simone"
    assert told == [person.id]
    assert (await api.get(f"/users/{person.id}", token=other.token)).data["username"] == "nina_simone"


async def test_a_taken_name_is_409(api: Api) -> None:
    person = await api.person("nina")
    await api.person("mallory")
    answer = await api.put("/users/me", {"username": "MALLORY"}, token=person.token)
    assert (answer.status, answer.code) == (409, "USERNAME_EXISTS")
    assert (
        await api.put("/users/me", {"username": "NINA"}, token=person.token)
    ).status == 200  # his own, recased


WRONG: list[tuple[str, Any]] = [
    ("username", None),
    ("username", ""),
    ("username", "a b"),
    ("username", "nina\n"),
    ("first_name", "x" * 51),
    ("first_name", ["x"]),
    ("last_name", "a\tb"),
    ("bio", "x" * 2001),
    ("bio", "a\x1bb"),
    ("bio", "a\x00b"),
    ("avatar", "javascript:alert(1)"),
    ("avatar", "ftp://x/y"),
    ("avatar", "https://x/" + "y" * 500),
    ("avatar", "https://x/ y"),
    ("avatar", 7),
]


async def test_a_wrong_field_is_named_and_nothing_changes(api: Api) -> None:
    person = await api.person("nina")
    for field, value in WRONG:
        body: dict[str, Any] = {"last_name": "New", field: value}
        answer = await api.put("/users/me", body, token=person.token)
        assert (answer.status, set(answer.details)) == (400, {field}), (field, value)
    profile = (await api.get("/users/me", token=person.token)).data
    assert (profile["username"], profile["last_name"], profile["bio"]) == ("nina", None, None)


async def test_others_see_the_public_side_only(api: Api) -> None:
    nina, other = await api.person("nina"), await api.person("other")
    data = (await api.get(f"/users/{nina.id}", token=other.token)).data
    assert set(data) == PUBLIC | TIES
    for path in ("/users", "/users/search?q=nin", "/users/except-me"):
        answer = await api.get(path, token=other.token)
        assert all(set(user) == PUBLIC for user in answer.data["users"]), path
        assert b"@example.org" not in answer.raw


async def test_all_of_it_needs_a_login(api: Api) -> None:
    for path in (
        "/users",
        "/users/search?q=x",
        "/users/except-me",
        "/users/1",
        "/users/me",
        "/users/profile",
    ):
        assert (await api.get(path)).status == 401


NOBODY = [
    "0",
    "999999999",
    "9223372036854775807",
    "9223372036854775808",
    "9" * 40,
    "-1",
    "1.5",
    "x",
    "%00",
    "1%20OR%201=1",
]


async def test_somebody_who_does_not_exist(api: Api) -> None:
    person = await api.person()
    for user_id in NOBODY:
        answer = await api.get(f"/users/{user_id}", token=person.token)
        assert answer.status == 404, user_id
        assert answer.code in ("NOT_FOUND", "USER_NOT_FOUND"), user_id


async def test_lists_are_paged_by_name(api: Api) -> None:
    people = [await api.person(name) for name in ("dora", "Anna", "carl", "Bert", "eva")]
    token = people[0].token
    first = await api.get("/users?page=1&limit=2", token=token)
    assert [user["username"] for user in first.data["users"]] == ["Anna", "Bert"]
    assert first.json["meta"] == {"page": 1, "per_page": 2, "total": 5, "total_pages": 3}
    third = await api.get("/users/?page=3&limit=2", token=token)
    assert [user["username"] for user in third.data["users"]] == ["eva"]
    beyond = await api.get("/users?page=9&limit=2", token=token)
    assert beyond.data["users"] == []
    without = await api.get("/users/except-me", token=token)
    assert [user["username"] for user in without.data["users"]] == ["Anna", "Bert", "carl", "eva"]
    assert without.json["meta"]["total"] == 4


NO_PAGES = [
    ("limit=0", "limit"),
    ("limit=-1", "limit"),
    ("limit=101", "limit"),
    ("limit=99999999999999999999999", "limit"),
    ("limit=ten", "limit"),
    ("limit=1;DROP TABLE users", "limit"),
    ("limit=1.5", "limit"),
    ("limit=%00", "limit"),
    ("page=0", "page"),
    ("page=-5", "page"),
    ("page=99999999999999999999999", "page"),
    ("page=1000000", "page"),
    ("page=NaN", "page"),
    ("search=%00", "search"),
    ("search=" + "x" * 101, "search"),
]


async def test_pages_that_are_none(api: Api) -> None:
    person = await api.person()
    for query, field in NO_PAGES:
        answer = await api.get(f"/users?{query}", token=person.token)
        assert (answer.status, set(answer.details)) == (400, {field}), query


async def test_searching(api: Api) -> None:
    nina = await api.person("nina_s", first_name="Eunice", last_name="Waymon")
    await api.person("ninja")
    await api.person("xx_nina")
    await api.person("percent100")

    async def found(text: str) -> list[str]:
        answer = await api.get(f"/users/search?q={text}", token=nina.token)
        assert answer.status == 200
        users = [user["username"] for user in answer.data["users"]]
        assert answer.json["meta"]["total"] == len(users)
        return users

    assert await found("nina") == ["nina_s", "xx_nina"]  # who begins with it comes first
    assert await found("NIN") == ["nina_s", "ninja", "xx_nina"]
    assert await found("waym") == ["nina_s"]
    assert await found("eunice%20w") == ["nina_s"]
    assert await found("ni") == ["nina_s", "ninja"]
    assert await found("%25") == []  # a percent sign is itself, not "anything"
    assert await found("%25%25%25") == []
    assert await found("a_s") == ["nina_s"]
    assert await found("___") == []
    assert await found("%5C%5C%5C") == []
    assert await found("'%20OR%20'1'='1") == []
    assert await found("%F0%9F%8E%B8") == []
    assert await found("%FF%FE%FD") == []
    assert (await api.get("/users/search", token=nina.token)).details == {"q": "This field is required."}
    assert (await api.get("/users/search?q=%20", token=nina.token)).status == 400


async def test_disabled_people_are_not_shown(api: Api, db: Database) -> None:
    nina, other = await api.person("nina"), await api.person("other")

    async def disable(conn: Any) -> None:
        await conn.execute("UPDATE users SET is_active = false WHERE id = $1", nina.id)

    await db.write(disable)
    assert (await api.get(f"/users/{nina.id}", token=other.token)).status == 404
    assert [u["username"] for u in (await api.get("/users", token=other.token)).data["users"]] == ["other"]


async def test_lists_use_their_indexes(db: Database) -> None:
    """With many people neither the list nor a search walks the table."""

    async def explain(conn: Any, query: str) -> str:
        await conn.execute("SET LOCAL enable_seqscan = off")
        return "\n".join(row[0] for row in await conn.fetch("EXPLAIN " + query))

    name = "lower(u.username || ' ' || coalesce(u.first_name, '') || ' ' || coalesce(u.last_name, ''))"
    assert "users_name_trgm" in await db.write(explain, f"SELECT 1 FROM users u WHERE {name} LIKE '%nina%'")
    assert "users_username_key" in await db.write(
        explain, "SELECT 1 FROM users u ORDER BY lower(u.username) LIMIT 20"
    )
    assert "users_username_prefix" in await db.write(
        explain, "SELECT 1 FROM users u WHERE lower(u.username) LIKE 'ni%'"
    )
