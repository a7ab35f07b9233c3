"""Categories: administrators keep them, nobody loses one that listings stand in."""

from __future__ import annotations

from tests.market.conftest import Market, refused


async def test_administrators_keep_the_categories(market: Market) -> None:
    root, mod, ann = await market.person("admin"), await market.person("moderator"), await market.person()
    at = "/admin/categories"
    for who in (mod, ann):
        for method, path in (("GET", at), ("POST", at), ("PUT", f"{at}/1"), ("DELETE", f"{at}/1")):
            answer = await market.api.request(method, path, {"slug": "x", "name": "X"}, token=who.token)
            refused(answer, 403, "FORBIDDEN")
    refused(await market.api.get(at), 401, "AUTH_REQUIRED")

    made = await market.api.post(at, {"slug": "harps", "name": " Harps ", "position": -5}, token=root.token)
    harps = made.data
    assert made.status == 201
    assert harps == {"id": harps["id"], "slug": "harps", "name": "Harps", "position": -5, "count": 0}
    shown = (await market.api.get("/categories")).data["categories"]
    assert shown[0] == harps and shown == (await market.api.get(at, token=root.token)).data["categories"]
    refused(
        await market.api.post(at, {"slug": "harps", "name": "H"}, token=root.token), 409, "CATEGORY_EXISTS"
    )

    listing = await market.listing(ann, category="harps")
    one = f"{at}/{harps['id']}"
    changed = await market.api.put(one, {"slug": "lyres", "position": 1}, token=root.token)
    assert (changed.data["slug"], changed.data["name"], changed.data["count"]) == ("lyres", "Harps", 1)
    assert (await market.api.get(f"/listings/{listing['id']}")).data["category"] == "lyres"
    refused(await market.api.put(one, {"slug": "drums"}, token=root.token), 409, "CATEGORY_EXISTS")
    refused(await market.api.put(f"{at}/0", {"slug": "x"}, token=root.token), 404, "CATEGORY_NOT_FOUND")

    refused(await market.api.delete(one, token=root.token), 409, "CATEGORY_IN_USE")
    await market.api.put(f"/listings/{listing['id']}", {"category": "other"}, token=ann.token)
    assert (await market.api.delete(one, token=root.token)).status == 200
    refused(await market.api.delete(one, token=root.token), 404, "CATEGORY_NOT_FOUND")
    log = await market.sql(
        "SELECT array_agg(action ORDER BY id) FROM audit_log WHERE target_type = 'category' AND actor_id = $1",
        root.id,
    )
    assert log == ["category.create", "category.update", "category.delete"]

    for body in (
        {"slug": "Über", "name": "X"}, {"slug": "-x", "name": "X"}, {"slug": "a" * 41, "name": "X"},
        {"slug": "", "name": "X"}, {"slug": "x\n", "name": "two\nlines"}, {"slug": "x", "name": " "},
        {"slug": "x", "name": "a" * 61}, {"slug": "x", "name": "X", "position": 2**31}, {"name": "X"}, {"slug": "x"},
    ):  # fmt: skip
        refused(await market.api.post(at, body, token=root.token), 400, "VALIDATION_ERROR")
    refused(await market.api.put(f"{at}/1", {}, token=root.token), 400, "VALIDATION_ERROR")
