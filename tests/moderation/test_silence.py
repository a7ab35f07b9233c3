"""The table of what the muted may still do names views that exist, and nothing by which others would hear of them."""

from __future__ import annotations

from tests.moderation.conftest import Court
from veza.http.api import silence


async def test_the_table_is_true(court: Court) -> None:
    rules = [rule for rule in court.api.app.url_map.iter_rules() if rule.rule.startswith("/api/")]
    known = {rule.endpoint for rule in rules}
    assert known >= silence._VIEWS
    assert {endpoint.partition(".")[0] for endpoint in known} >= silence._BLUEPRINTS
    for ending in silence._ENDINGS:
        assert any(rule.rule.endswith(ending) for rule in rules), ending
