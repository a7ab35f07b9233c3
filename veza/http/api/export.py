"""`GET /users/me/export`: all one's own data, as a zip that is written while it is sent."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import Final

from veza.db import export as export_db
from veza.http.api.envelope import not_found
from veza.http.api.exporting import Emit, Export
from veza.http.api.openapi import answers, describe, fails
from veza.http.rawasgi import Answer, Call, Flow, Route


@answers(content_type="application/zip")
@fails(404, 409)
async def export_all(call: Call) -> Answer | Flow:
    """Everything that is kept about oneself: a zip of JSON lines, files of tracks and pictures, with a README.

    It is written as it is sent and may take its time; one at a time, five a day. If the connection is cut it is not
    whole: a zip has its table of contents at the end.
    """
    identity = call.user()
    s = call.services
    turn = ExitStack()
    turn.enter_context(s.exports.turn(identity.user_id))
    try:
        profile = await s.db.read(export_db.profile, identity.user_id)
        if profile is None:
            raise not_found("This account")
    except BaseException:
        turn.close()
        raise
    made = Export(
        identity.user_id,
        profile,
        db=s.db,
        library=s.library,
        avatars=s.avatars,
        images=s.listing_images,
        still=partial(s.registry.confirm, identity),
    )

    async def pour(emit: Emit) -> None:
        await made.pour(emit, s.exports.limiter)

    name = f"veza-{identity.username}-{time.strftime('%Y-%m-%d', time.gmtime())}.zip"
    headers = (("content-type", "application/zip"), ("content-disposition", f'attachment; filename="{name}"'))
    return Flow(headers, pour, turn.close)


describe(export_all).login = True

EXPORT_ROUTES: Final = (
    Route(method="GET", path="/api/v1/users/me/export", handler=export_all, tag="export"),
)
