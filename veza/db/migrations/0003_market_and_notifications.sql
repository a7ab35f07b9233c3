-- The market, notifications, moderation, the second factor.

CREATE EXTENSION IF NOT EXISTS unaccent;

-- Accounts ----------------------------------------------------------------------------------------

-- A deleted account keeps its row, under no name of anybody's, so that what others said to it stays theirs.
ALTER TABLE users ADD COLUMN muted_until timestamptz;
ALTER TABLE users ADD COLUMN deleted_at timestamptz;
ALTER TABLE users ADD CONSTRAINT users_deleted_stay_so CHECK (deleted_at IS NULL OR NOT is_active);

-- The secret is encrypted with a key made of SECRET_KEY. `last_step` is the last time step (RFC 6238) a code was taken
-- for: a code that was seen once is no good a second time. Not enabled yet: its owner has not shown a code.
CREATE TABLE two_factor (
    user_id         bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    secret          bytea NOT NULL,
    last_step       bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    enabled_at      timestamptz
);
CREATE TABLE recovery_codes (
    user_id         bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    code_hash       bytea NOT NULL,
    used_at         timestamptz,
    PRIMARY KEY (user_id, code_hash)
);

-- Accounts that were deleted, as long as something of theirs may still have to go: rows, rooms, files.
CREATE TABLE deletions (
    user_id         bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    began_at        timestamptz NOT NULL DEFAULT now()
);

-- What somebody's account leaves to others.
CREATE INDEX rooms_owner ON rooms (owner_id, id) WHERE owner_id IS NOT NULL;
CREATE INDEX room_invites_by ON room_invites (by_user_id);
CREATE INDEX room_invites_for ON room_invites (for_user_id) WHERE for_user_id IS NOT NULL;

-- What somebody's acts cause nobody who muted him hears of.
CREATE TABLE mutes (
    muter_id        bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    muted_id        bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (muter_id, muted_id),
    CHECK (muter_id <> muted_id)
);
CREATE INDEX mutes_muted ON mutes (muted_id);
CREATE INDEX mutes_list ON mutes (muter_id, created_at DESC, muted_id DESC);

-- Notifications -----------------------------------------------------------------------------------

-- What is still to be told, written in the transaction of what it tells of: whoever dies after the commit, it is told.
-- `audience` says whom: one person, somebody's followers, a room's members; those are gone through by id, from
-- `after_id` on. A `card` is a message `actor_id` sends to the person `target_id`; its `key` is the message's nonce.
CREATE TABLE outbox (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind            text NOT NULL CHECK (char_length(kind) <= 30),
    audience        text NOT NULL DEFAULT 'person' CHECK (audience IN ('person', 'followers', 'room')),
    target_id       bigint NOT NULL,
    actor_id        bigint REFERENCES users ON DELETE CASCADE,
    key             text NOT NULL CHECK (char_length(key) <= 64),
    data            jsonb NOT NULL DEFAULT '{}',
    after_id        bigint NOT NULL DEFAULT 0,
    tries           integer NOT NULL DEFAULT 0,
    run_after       timestamptz NOT NULL DEFAULT now(),
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_actor ON outbox (actor_id);

-- `key` names the cause: nobody is told of one cause twice. `told_at` is null until it went to a socket of the person,
-- or was not wanted there.
CREATE TABLE notifications (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id         bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    kind            text NOT NULL,
    key             text NOT NULL,
    actor_id        bigint REFERENCES users ON DELETE CASCADE,
    data            jsonb NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    read_at         timestamptz,
    told_at         timestamptz
);
CREATE UNIQUE INDEX notifications_key ON notifications (user_id, key);
CREATE INDEX notifications_list ON notifications (user_id, id DESC);
CREATE INDEX notifications_unread ON notifications (user_id, id DESC) WHERE read_at IS NULL;
CREATE INDEX notifications_untold ON notifications (user_id, id) WHERE told_at IS NULL;
CREATE INDEX notifications_actor ON notifications (actor_id);

-- What differs from the defaults.
CREATE TABLE notification_preferences (
    user_id         bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    kind            text NOT NULL,
    socket          boolean NOT NULL,
    email           boolean NOT NULL,
    PRIMARY KEY (user_id, kind)
);

-- The last digest a person got, and up to where it told.
CREATE TABLE digests (
    user_id         bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    sent_at         timestamptz NOT NULL,
    last_id         bigint NOT NULL
);

-- The market --------------------------------------------------------------------------------------

CREATE TABLE categories (
    id              bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    slug            text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,39}$'),
    name            text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 60),
    position        integer NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX categories_slug ON categories (slug);
INSERT INTO categories (slug, name, position) VALUES
    ('guitars', 'Guitars', 10), ('basses', 'Basses', 20), ('drums', 'Drums and percussion', 30),
    ('keys', 'Pianos and keyboards', 40), ('synths', 'Synthesizers', 50), ('strings', 'Bowed strings', 60),
    ('winds', 'Wind and brass', 70), ('amps', 'Amplifiers', 80), ('effects', 'Effects', 90),
    ('microphones', 'Microphones', 100), ('studio', 'Studio', 110), ('dj', 'DJ', 120), ('records', 'Records', 130),
    ('scores', 'Scores and books', 140), ('services', 'Lessons and services', 150), ('other', 'Other', 1000);

-- `removed` is what its owner deleted, or a moderator took away: it is left in the offers that were made for it.
CREATE TABLE listings (
    id              bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    owner_id        bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    title           text NOT NULL CHECK (char_length(title) BETWEEN 3 AND 100),
    description     text NOT NULL DEFAULT '' CHECK (char_length(description) <= 5000),
    category_id     bigint NOT NULL REFERENCES categories ON DELETE RESTRICT,
    state           text NOT NULL CHECK (state IN ('new', 'like_new', 'good', 'fair', 'poor')),
    price_cents     bigint CHECK (price_cents BETWEEN 0 AND 10000000000),
    currency        text NOT NULL DEFAULT 'EUR' CHECK (currency ~ '^[A-Z]{3}$'),
    exchange_for    text CHECK (char_length(exchange_for) BETWEEN 1 AND 500),
    location        text CHECK (char_length(location) BETWEEN 1 AND 100),
    status          text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'sold', 'closed', 'removed')),
    favorite_count  integer NOT NULL DEFAULT 0,
    images_made     integer NOT NULL DEFAULT 0, -- the last image's `n`
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    sold_at         timestamptz,
    CHECK (price_cents IS NOT NULL OR exchange_for IS NOT NULL)
);
CREATE INDEX listings_owner ON listings (owner_id, id DESC);
-- Every list shows one status, in one of these orders. Prices that are missing come last, whichever way.
CREATE INDEX listings_newest ON listings (status, id DESC) INCLUDE (owner_id);
CREATE INDEX listings_cheapest ON listings (status, price_cents, id);
CREATE INDEX listings_dearest ON listings (status, price_cents DESC NULLS LAST, id DESC);
CREATE INDEX listings_favourite ON listings (status, favorite_count DESC, id DESC);
CREATE INDEX listings_category ON listings (category_id, status, id DESC) INCLUDE (owner_id);
-- Whose listings nobody sees, perhaps; lists ask for all of them at once, and need not look further than here.
CREATE INDEX users_out ON users (id) INCLUDE (is_active, deleted_at, banned_until)
    WHERE NOT is_active OR deleted_at IS NOT NULL OR banned_until IS NOT NULL;

-- `n` is an image's name within its listing and never given twice; `position` is its place.
CREATE TABLE listing_images (
    listing_id      bigint NOT NULL REFERENCES listings ON DELETE CASCADE,
    n               integer NOT NULL CHECK (n > 0),
    position        integer NOT NULL,
    hash            text NOT NULL CHECK (hash ~ '^[0-9a-f]{20}$'),
    width           integer NOT NULL,
    height          integer NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (listing_id, n)
);

CREATE TABLE listing_favorites (
    listing_id      bigint NOT NULL REFERENCES listings ON DELETE CASCADE,
    user_id         bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (listing_id, user_id)
);
CREATE INDEX listing_favorites_user ON listing_favorites (user_id, created_at DESC, listing_id DESC);

CREATE FUNCTION listing_favorites_count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE listings SET favorite_count = favorite_count + CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END
    WHERE id = coalesce(NEW.listing_id, OLD.listing_id);
    RETURN NULL;
END $$;
CREATE TRIGGER listing_favorites_counted AFTER INSERT OR DELETE ON listing_favorites
    FOR EACH ROW EXECUTE FUNCTION listing_favorites_count();

-- What `buyer_id` offers `seller_id` for a listing: money, a listing of his own, or both. Once `countered`, the terms
-- the seller would take stand in `counter_…`, and the buyer decides. Open offers are those pending or countered.
CREATE TABLE offers (
    id                  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    listing_id          bigint NOT NULL REFERENCES listings ON DELETE CASCADE,
    buyer_id            bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    seller_id           bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    amount_cents        bigint CHECK (amount_cents BETWEEN 1 AND 10000000000),
    currency            text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    proposed_listing_id bigint REFERENCES listings ON DELETE SET NULL,
    message             text CHECK (char_length(message) BETWEEN 1 AND 1000),
    status              text NOT NULL DEFAULT 'pending' CHECK (status IN
                            ('pending', 'countered', 'accepted', 'rejected', 'withdrawn', 'expired')),
    counter_amount_cents        bigint CHECK (counter_amount_cents BETWEEN 1 AND 10000000000),
    counter_proposed_listing_id bigint REFERENCES listings ON DELETE SET NULL,
    counter_message             text CHECK (char_length(counter_message) BETWEEN 1 AND 1000),
    countered_at        timestamptz,
    viewed_at           timestamptz,
    expires_at          timestamptz NOT NULL,
    decided_at          timestamptz,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CHECK (buyer_id <> seller_id)
);
CREATE UNIQUE INDEX offers_one_open ON offers (listing_id, buyer_id) WHERE status IN ('pending', 'countered');
CREATE INDEX offers_listing ON offers (listing_id, id DESC);
CREATE INDEX offers_proposed ON offers (proposed_listing_id) WHERE proposed_listing_id IS NOT NULL;
CREATE INDEX offers_counter_proposed ON offers (counter_proposed_listing_id)
    WHERE counter_proposed_listing_id IS NOT NULL;
CREATE INDEX offers_buyer ON offers (buyer_id, id DESC);
CREATE INDEX offers_seller ON offers (seller_id, id DESC);
CREATE INDEX offers_expiry ON offers (expires_at) WHERE status IN ('pending', 'countered');

-- Moderation --------------------------------------------------------------------------------------

-- A report keeps what it is about (`snapshot`), so that deleting the evidence does not help.
ALTER TABLE reports DROP CONSTRAINT reports_message_id_fkey;
ALTER TABLE reports ADD CONSTRAINT reports_message_id_fkey
    FOREIGN KEY (message_id) REFERENCES messages ON DELETE SET NULL;
ALTER TABLE reports ADD COLUMN target_type text NOT NULL DEFAULT 'message' CHECK (target_type IN
    ('message', 'user', 'room', 'track', 'comment', 'listing', 'stream'));
ALTER TABLE reports ADD COLUMN target_id bigint;
ALTER TABLE reports ADD COLUMN accused_id bigint REFERENCES users ON DELETE SET NULL;
ALTER TABLE reports ADD COLUMN category text NOT NULL DEFAULT 'other' CHECK (category IN
    ('spam', 'harassment', 'hate', 'violence', 'sexual', 'fraud', 'copyright', 'other'));
ALTER TABLE reports ADD COLUMN snapshot jsonb NOT NULL DEFAULT '{}';
ALTER TABLE reports ADD COLUMN outcome text CHECK (outcome IN
    ('none', 'warned', 'removed', 'muted', 'banned'));
ALTER TABLE reports ADD COLUMN note text CHECK (char_length(note) <= 1000);
UPDATE reports p SET target_id = coalesce(p.message_id, 0), accused_id = m.user_id,
    snapshot = jsonb_build_object('content', m.content)
FROM messages m WHERE m.id = p.message_id;
ALTER TABLE reports ALTER COLUMN target_id SET NOT NULL;
DROP INDEX reports_once;
CREATE UNIQUE INDEX reports_once ON reports (reporter_id, target_type, target_id);
CREATE INDEX reports_target ON reports (target_type, target_id);
CREATE INDEX reports_accused ON reports (accused_id, id DESC);
CREATE INDEX reports_message ON reports (message_id);

-- What was ever imposed on somebody; what holds now stands in users.banned_until and users.muted_until.
CREATE TABLE sanctions (
    id              bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    user_id         bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    kind            text NOT NULL CHECK (kind IN ('warning', 'mute', 'ban')),
    until           timestamptz,
    reason          text CHECK (char_length(reason) <= 500),
    report_id       bigint REFERENCES reports ON DELETE SET NULL,
    by_user_id      bigint REFERENCES users ON DELETE SET NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    lifted_at       timestamptz,
    lifted_by       bigint REFERENCES users ON DELETE SET NULL
);
CREATE INDEX sanctions_user ON sanctions (user_id, id DESC);
CREATE INDEX sanctions_report ON sanctions (report_id);

-- Words nobody below a moderator may say in a room, folded (veza/actors/words.py).
CREATE TABLE room_words (
    room_id         bigint NOT NULL REFERENCES rooms ON DELETE CASCADE,
    word            text NOT NULL CHECK (char_length(word) BETWEEN 1 AND 50),
    by_user_id      bigint REFERENCES users ON DELETE SET NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room_id, word)
);
