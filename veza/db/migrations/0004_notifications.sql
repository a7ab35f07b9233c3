-- What posts cause others to be told, and the order in which followers are gone through.

-- An event is carried to followers page by page, by id.
CREATE INDEX follows_pages ON follows (followed_id, follower_id);

-- Cards are looked for by themselves, however many events wait before them.
CREATE INDEX outbox_cards ON outbox (id) WHERE kind = 'card';

-- What a new message causes others to be told: who is mentioned in it (the first 50), whose message it answers, who gets
-- a letter while nothing tells him so. The courier tells each of them once.
CREATE FUNCTION ledger_causes(
    id_ bigint, room bigint, seq_ bigint, author bigint, reply bigint, mentions_ text, letter bigint
) RETURNS TABLE (rank integer, kind text, target_id bigint, actor_id bigint, key text, data jsonb)
LANGUAGE sql STABLE AS $$
    SELECT c.rank, c.kind, c.target_id, author, 'message:' || id_,
        jsonb_build_object('room_id', room, 'message_id', id_, 'seq', seq_)
    FROM (
        SELECT 1, 'mention', m FROM unnest((mentions_::bigint[])[1:50]) AS m
        UNION ALL SELECT 2, 'reply', r.user_id FROM messages r WHERE r.id = reply
        UNION ALL SELECT 3, 'direct_message', letter
    ) AS c (rank, kind, target_id)
    WHERE c.target_id <> author
$$;

DROP FUNCTION ledger_append(bigint[], bigint[], text[], text[], text[], text[], text[], double precision[], bigint[],
                            text[]);
CREATE FUNCTION ledger_append(
    rooms_ bigint[], users_ bigint[], nonces text[], contents text[], types text[],
    media_urls text[], media_types text[], durations double precision[], replies bigint[], mentions_ text[],
    letters bigint[]
) RETURNS TABLE (ord bigint, id bigint, seq bigint, created_at timestamptz, fresh boolean, refusal text)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    stamp timestamptz;
    ids bigint[];
    seqs bigint[];
    doubtful boolean;
BEGIN
    PERFORM 1 FROM rooms r WHERE r.id = ANY (rooms_) ORDER BY r.id FOR NO KEY UPDATE;
    -- After the locks: times rise with the sequence within a room.
    stamp := clock_timestamp();
    BEGIN
        WITH posts AS (
            SELECT p.*, r.last_seq, r.id IS NULL OR p.reply_to IS NOT NULL AND p.room_id IS DISTINCT FROM
                (SELECT m.room_id FROM messages m WHERE m.id = p.reply_to AND m.deleted_at IS NULL) AS doubtful
            FROM unnest(rooms_, users_, nonces, contents, types, media_urls, media_types, durations, replies, mentions_)
                WITH ORDINALITY AS p (room_id, user_id, nonce, content, message_type, media_url, media_type, duration,
                                      reply_to, mentions, ord)
            LEFT JOIN rooms r ON r.id = p.room_id
        ), numbered AS MATERIALIZED (
            SELECT p.*, nextval('messages_id_seq') AS id,
                p.last_seq + row_number() OVER (PARTITION BY p.room_id ORDER BY p.ord) AS seq
            FROM posts p
        ), inserted AS (
            INSERT INTO messages (id, room_id, seq, user_id, nonce, content, message_type, media_url, media_type,
                                  duration, reply_to, mentions, created_at)
            SELECT n.id, n.room_id, n.seq, n.user_id, n.nonce, n.content, n.message_type, n.media_url, n.media_type,
                   n.duration, n.reply_to, n.mentions::bigint[], stamp
            FROM numbered n WHERE NOT n.doubtful
        ), counted AS (
            UPDATE rooms SET last_seq = top.seq, last_message_at = stamp
            FROM (SELECT n.room_id, max(n.seq) AS seq FROM numbered n GROUP BY n.room_id) AS top
            WHERE rooms.id = top.room_id
        )
        SELECT array_agg(n.id ORDER BY n.ord), array_agg(n.seq ORDER BY n.ord), bool_or(n.doubtful)
        INTO ids, seqs, doubtful FROM numbered n;
        IF doubtful THEN
            RAISE unique_violation;
        END IF;
        -- Most posts concern nobody in particular: then this is all that is asked.
        IF array_remove(mentions_, NULL) <> '{}' OR array_remove(replies, NULL) <> '{}'
            OR array_remove(letters, NULL) <> '{}' THEN
            INSERT INTO outbox (kind, target_id, actor_id, key, data)
            SELECT c.kind, c.target_id, c.actor_id, c.key, c.data FROM generate_subscripts(nonces, 1) AS o,
                ledger_causes(ids[o], rooms_[o], seqs[o], users_[o], replies[o], mentions_[o], letters[o]) AS c
            ORDER BY o, c.rank;
        END IF;
        RETURN QUERY SELECT o::bigint, ids[o], seqs[o], stamp, true, NULL::text
            FROM generate_subscripts(nonces, 1) AS o ORDER BY o;
        RETURN;
    EXCEPTION WHEN unique_violation THEN
        NULL; -- nothing of all this has happened; the locks are still ours
    END;
    RETURN QUERY
    WITH posts AS (
        SELECT * FROM unnest(rooms_, users_, nonces, contents, types, media_urls, media_types, durations, replies, mentions_,
                             letters)
            WITH ORDINALITY AS p (room_id, user_id, nonce, content, message_type, media_url, media_type, duration,
                                  reply_to, mentions, letter_to, ord)
    ), known AS (
        SELECT p.ord, m.id, m.seq, m.created_at
        FROM posts p JOIN messages m ON m.room_id = p.room_id AND m.user_id = p.user_id AND m.nonce = p.nonce
    ), new AS (
        SELECT DISTINCT ON (p.room_id, p.user_id, p.nonce) p.*
        FROM posts p WHERE NOT EXISTS (SELECT 1 FROM known k WHERE k.ord = p.ord)
        ORDER BY p.room_id, p.user_id, p.nonce, p.ord
    ), checked AS (
        SELECT n.*, CASE
            WHEN NOT EXISTS (SELECT 1 FROM rooms r WHERE r.id = n.room_id) THEN 'room'
            WHEN n.reply_to IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM messages m WHERE m.id = n.reply_to AND m.room_id = n.room_id AND m.deleted_at IS NULL)
            THEN 'reply' END AS refusal
        FROM new n
    ), numbered AS (
        SELECT c.*, r.last_seq + row_number() OVER (PARTITION BY c.room_id ORDER BY c.ord) AS seq
        FROM checked c JOIN rooms r ON r.id = c.room_id
        WHERE c.refusal IS NULL
    ), inserted AS (
        INSERT INTO messages (room_id, seq, user_id, nonce, content, message_type, media_url, media_type, duration,
                              reply_to, mentions, created_at)
        SELECT n.room_id, n.seq, n.user_id, n.nonce, n.content, n.message_type, n.media_url, n.media_type, n.duration,
               n.reply_to, n.mentions::bigint[], stamp
        FROM numbered n ORDER BY n.ord
        RETURNING messages.id, messages.room_id, messages.user_id, messages.nonce, messages.seq
    ), counted AS (
        UPDATE rooms SET last_seq = top.seq, last_message_at = stamp
        FROM (SELECT n.room_id, max(n.seq) AS seq FROM numbered n GROUP BY n.room_id) AS top
        WHERE rooms.id = top.room_id
    ), told AS (
        INSERT INTO outbox (kind, target_id, actor_id, key, data)
        SELECT c.kind, c.target_id, c.actor_id, c.key, c.data
        FROM numbered n
        JOIN inserted i ON i.room_id = n.room_id AND i.user_id = n.user_id AND i.nonce = n.nonce,
            ledger_causes(i.id, i.room_id, i.seq, i.user_id, n.reply_to, n.mentions, n.letter_to) AS c
        ORDER BY n.ord, c.rank
    )
    SELECT p.ord, coalesce(k.id, i.id), coalesce(k.seq, i.seq), coalesce(k.created_at, stamp), n.ord IS NOT NULL, c.refusal
    FROM posts p
    LEFT JOIN known k ON k.ord = p.ord
    LEFT JOIN checked c ON c.room_id = p.room_id AND c.user_id = p.user_id AND c.nonce = p.nonce
    LEFT JOIN inserted i ON i.room_id = p.room_id AND i.user_id = p.user_id AND i.nonce = p.nonce
    LEFT JOIN numbered n ON n.ord = p.ord
    ORDER BY p.ord;
END $$;
