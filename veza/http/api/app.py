"""The REST application: what happens around every request, and where the views hang.

Around a view, in this order: request id, CORS, who it is, the rate limit. Every failure leaves in the envelope, unknown
paths included; a defect of ours becomes a 500 that says nothing, and a log line that says where (frames, no values).
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from quart import Response, g, request
from quart.routing import QuartRule
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import IntegerConverter
from werkzeug.wrappers import Response as WerkzeugResponse

from veza import log
from veza.http.api import openapi, silence
from veza.http.api.access import identify, identify_again, rate_address
from veza.http.api.admin import admin
from veza.http.api.admin_categories import admin_categories
from veza.http.api.auth import auth
from veza.http.api.avatars import AVATAR_ROUTES, avatars
from veza.http.api.categories import categories
from veza.http.api.comments import comments
from veza.http.api.conversations import letters
from veza.http.api.deletion import deletion
from veza.http.api.envelope import INTERNAL, ApiError, failure, rate_limited, translate
from veza.http.api.export import EXPORT_ROUTES
from veza.http.api.feed import feed
from veza.http.api.invites import invites
from veza.http.api.listing_images import LISTING_IMAGE_ROUTES, listing_images
from veza.http.api.listings import favorites, listings
from veza.http.api.messages import chat_messages
from veza.http.api.moderation import moderation
from veza.http.api.notifications import notifications
from veza.http.api.offers import offers
from veza.http.api.playlists import playlists
from veza.http.api.removals import removals
from veza.http.api.reports import reports
from veza.http.api.room_words import room_words
from veza.http.api.rooms import chat_rooms
from veza.http.api.sanctions import sanctions
from veza.http.api.search import search
from veza.http.api.services import Services, services
from veza.http.api.social import social
from veza.http.api.streams import streams
from veza.http.api.system import system
from veza.http.api.tracks import tracks
from veza.http.api.tus import TUS_ROUTES
from veza.http.api.two_factor import two_factor
from veza.http.api.uploads import UPLOAD_ROUTES
from veza.http.api.users import people
from veza.http.rawasgi import RawRoutes

_log = log.get("rest")

BASE: Final = "/api/v1"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PREFLIGHT_SECONDS: Final = 7200  # browsers keep an answer no longer than that

_CODES: Final[dict[int, tuple[str, str]]] = {
    400: ("INVALID_FORMAT", "The request is malformed."),
    404: ("NOT_FOUND", "There is nothing here."),
    405: ("METHOD_NOT_ALLOWED", "This method is not possible here."),
    408: ("REQUEST_TIMEOUT", "The request took too long to arrive."),
    413: ("TOO_LARGE", "The request is too large."),
    415: ("UNSUPPORTED_MEDIA_TYPE", "This kind of content is not understood here."),
}

TAGS: Final = [
    ("auth", "Accounts, logins, sessions"),
    ("two_factor", "A second factor at login"),
    ("deletion", "The end of an account"),
    ("export", "All one's data, to take along"),
    ("users", "People"),
    ("social", "Following, blocking, and what somebody has put here"),
    ("avatars", "Pictures of people"),
    ("tracks", "Uploading, finding and hearing tracks"),
    ("uploads", "Uploads that survive a broken line (tus 1.0)"),
    ("comments", "Likes, reposts and timed comments of tracks"),
    ("playlists", "Tracks in an order somebody chose"),
    ("feed", "What is new from those one follows"),
    ("streams", "Live streams: making, finding and ending them"),
    ("search", "Everything by words, names by their beginnings, tags"),
    ("listings", "What people sell or would exchange"),
    ("listing_images", "Their images"),
    ("favorites", "Listings one has marked"),
    ("offers", "Bids for listings"),
    ("categories", "Where listings stand"),
    ("rooms", "Rooms, coming and going"),
    ("invites", "Codes that let people into rooms"),
    ("moderation", "Members, roles, mutes and bans of a room"),
    ("messages", "What is said"),
    ("conversations", "Private letters, and what waits to be read"),
    ("notifications", "What one was told, and wants to be told"),
    ("reports", "Complaints, and what becomes of them"),
    ("sanctions", "Warnings, mutes and bans on the whole platform"),
    ("removals", "Taking away what should not be here"),
    ("room_words", "Words that are not said in a room"),
    ("admin_categories", "Categories of the market, for administrators"),
    ("admin", "For administrators"),
    ("system", "The server itself"),
]


# Beside the application: their bodies are read as they come.
RAW: Final = (*UPLOAD_ROUTES, *TUS_ROUTES, *AVATAR_ROUTES, *EXPORT_ROUTES, *LISTING_IMAGE_ROUTES)


class IdConverter(IntegerConverter):
    """Ids in paths. What does not fit into PostgreSQL's bigint becomes 0, which is nobody's and nothing's.

    (Refused here, werkzeug would answer 405 where the path is known under another method.)
    """

    regex = r"\d{1,19}"

    def to_python(self, value: str) -> int:
        number = int(value)
        return number if number < 2**63 else 0


class LateRule(QuartRule):
    """A route that compiles the code to build its address when that is first asked for, which is never.

    Werkzeug compiles it at once: two thirds of the time an application takes to be made, a tenth of a second.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compile_now = super()._compile_builder

        def build(rule: LateRule, **values: Any) -> tuple[str, str]:
            return compile_now(append_unknown)(rule, **values)

        return build


def create_app(services: Services) -> QuartTrio:
    """The application over these services. It starts nothing by itself."""
    app = QuartTrio(__name__, static_folder=None)
    app.url_rule_class = LateRule
    app.config["MAX_CONTENT_LENGTH"] = services.settings.body_limit
    app.config["BODY_TIMEOUT"] = None  # the door counts progress, which is fairer to slow lines
    app.config["RESPONSE_TIMEOUT"] = None
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["id"] = IdConverter
    app.extensions["veza"] = services
    app.before_request(_before)
    app.after_request(_after)
    app.register_error_handler(Exception, _failed)
    openapi.provide(app, TAGS, RAW)
    for blueprint in (
        auth,
        two_factor,
        deletion,
        people,
        chat_rooms,
        invites,
        moderation,
        chat_messages,
        letters,
        notifications,
        reports,
        sanctions,
        removals,
        room_words,
        admin,
        social,
        tracks,
        comments,
        playlists,
        feed,
        avatars,
        streams,
        search,
        listings,
        favorites,
        listing_images,
        offers,
        categories,
        admin_categories,
    ):
        app.register_blueprint(blueprint, url_prefix=BASE + (blueprint.url_prefix or ""))
    app.register_blueprint(system)
    return app


def create_asgi(services: Services) -> RawRoutes:
    """All of REST: the application, and before it the handlers of what is too large for it."""
    app = create_app(services)
    return RawRoutes(app, services, RAW, known=(rule.rule for rule in app.url_map.iter_rules()))


async def _before() -> Response | None:
    g.started = time.perf_counter()
    g.request_id = _request_id()
    origin = request.headers.get("Origin")
    if (
        origin is not None
        and request.method == "OPTIONS"
        and "Access-Control-Request-Method" in request.headers
    ):
        return _preflight(origin)
    if not request.path.startswith("/api/"):
        g.identity = g.auth_error = None
        return None
    await identify()
    s = services()
    key = g.identity.user_id if g.identity is not None else rate_address()
    if wait := s.rest_rates.take(key):
        raise rate_limited(wait)
    if g.identity is not None and (rule := request.url_rule) is not None:
        silence.refuse(g.identity, request.method, rule.endpoint, rule.rule)
        if request.method not in _BODILESS:
            await request.get_data(as_text=False)  # it is kept for the view
            await identify_again()
            if g.identity is not None:
                silence.refuse(g.identity, request.method, rule.endpoint, rule.rule)
    return None


async def _after(response: Response) -> Response:
    origin = request.headers.get("Origin")
    if origin is not None:
        _allow(response, origin)
    if request.path.startswith("/api/"):
        response.headers.setdefault("Cache-Control", "no-store")
    route = request.url_rule.rule if request.url_rule is not None else "unmatched"
    method = request.method if request.method in _METHODS else "OTHER"
    started = g.get("started")
    if started is not None:
        services().metrics.answered(method, route, response.status_code, time.perf_counter() - started)
    return response


async def _failed(error: Exception) -> Response:
    """Every exception of a request ends here."""
    known = translate(error)
    if known is None and isinstance(error, HTTPException):
        known = _from_http(error)
    if known is None:
        _log.error(
            "a view failed",
            request_id=g.get("request_id"),
            method=request.method,
            route=request.url_rule.rule if request.url_rule is not None else None,
            error=type(error).__name__,
            frames=log.frames(error),
        )
        known = INTERNAL
    return failure(known)


def _from_http(error: HTTPException) -> ApiError:
    status = error.code or 500
    if status >= 500:
        return INTERNAL
    code, message = _CODES.get(status, ("BAD_REQUEST", "The request cannot be answered."))
    headers = {}
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return ApiError(status if status >= 400 else 404, code, message, headers=headers)


def _request_id() -> str:
    """The one the door made or passed on; ours where there is no door in front."""
    given = request.headers.get("X-Request-ID", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _preflight(origin: str) -> Response:
    response = Response(b"", status=204)
    if services().origins.allows(origin):
        response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE"
        response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, X-Request-ID"
        response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
    return response


def _allow(response: Response | WerkzeugResponse, origin: str) -> None:
    """Say that this page may read the answer. `*` never comes with credentials."""
    origins = services().origins
    response.headers.add("Vary", "Origin")
    if origins.listed(origin):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
    elif origins.any:
        response.headers["Access-Control-Allow-Origin"] = "*"
    else:
        return
    response.headers["Access-Control-Expose-Headers"] = "X-Request-ID, Retry-After"
