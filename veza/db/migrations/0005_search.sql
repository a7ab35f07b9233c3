-- Search: words in French and in English, whatever their accents; names by their beginnings; and the words typing errors
-- are mended with. On a database with millions of messages the index of their words takes some minutes.

SET LOCAL maintenance_work_mem = '256MB';

CREATE EXTENSION IF NOT EXISTS btree_gin;

CREATE TEXT SEARCH CONFIGURATION search_english (COPY = english);
ALTER TEXT SEARCH CONFIGURATION search_english
    ALTER MAPPING FOR asciiword, word, asciihword, hword, hword_asciipart, hword_part WITH unaccent, english_stem;
CREATE TEXT SEARCH CONFIGURATION search_french (COPY = french);
ALTER TEXT SEARCH CONFIGURATION search_french
    ALTER MAPPING FOR asciiword, word, asciihword, hword, hword_asciipart, hword_part WITH unaccent, french_stem;
CREATE TEXT SEARCH CONFIGURATION search_plain (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION search_plain
    ALTER MAPPING FOR asciiword, word, asciihword, hword, hword_asciipart, hword_part WITH unaccent, simple;

CREATE FUNCTION stems(text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN to_tsvector('search_english'::regconfig, $1) || to_tsvector('search_french'::regconfig, $1);
CREATE FUNCTION plain_words(text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN to_tsvector('search_plain'::regconfig, translate($1, '._-/@:', '      '));
CREATE FUNCTION all_words(text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN plain_words($1) || stems(translate($1, '._-/@:', '      '));
CREATE FUNCTION joined(text[]) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN array_to_string($1, ' ');

DROP INDEX messages_search;
CREATE INDEX messages_words ON messages USING gin ((id >> 16), stems(content), (room_id + 0))
    WITH (gin_pending_list_limit = 16384) WHERE content IS NOT NULL;

ALTER TABLE users
    ADD COLUMN names tsvector GENERATED ALWAYS AS (strip(plain_words(
        username || ' ' || coalesce(first_name, '') || ' ' || coalesce(last_name, '')))) STORED,
    ADD COLUMN words tsvector GENERATED ALWAYS AS (
        setweight(plain_words(username || ' ' || coalesce(first_name, '') || ' ' || coalesce(last_name, '')), 'A')
        || setweight(stems(coalesce(bio, '')), 'D')) STORED;
CREATE INDEX users_names ON users USING gin (names);
CREATE INDEX users_words ON users USING gin (words);

CREATE INDEX rooms_names ON rooms USING gin (plain_words(name)) WHERE kind <> 'direct';
CREATE INDEX rooms_words ON rooms USING gin (all_words(name || ' ' || coalesce(description, '')))
    WHERE kind <> 'direct';

ALTER TABLE tracks
    ADD COLUMN names tsvector GENERATED ALWAYS AS (strip(plain_words(title || ' ' || coalesce(artist, '')))) STORED,
    ADD COLUMN words tsvector GENERATED ALWAYS AS (
        setweight(all_words(title), 'A')
        || setweight(all_words(coalesce(artist, '') || ' ' || coalesce(album, '') || ' ' || coalesce(genre, '') || ' '
            || joined(tags)), 'B')
        || setweight(stems(coalesce(description, '')), 'D')) STORED;
CREATE INDEX tracks_names ON tracks USING gin (names);
CREATE INDEX tracks_words ON tracks USING gin (words);
-- With all that counting needs; `genre` too, for an index that holds only what is made of a column is not read alone.
DROP INDEX tracks_public_genre;
CREATE INDEX tracks_public_genre ON tracks (lower(genre), id DESC) INCLUDE (genre, owner_id)
    WHERE is_public AND status = 'ready';

ALTER TABLE listings
    ADD COLUMN names tsvector GENERATED ALWAYS AS (strip(plain_words(title))) STORED,
    ADD COLUMN words tsvector GENERATED ALWAYS AS (
        setweight(all_words(title), 'A')
        || setweight(all_words(coalesce(exchange_for, '') || ' ' || coalesce(location, '')), 'C')
        || setweight(stems(description), 'D')) STORED;
CREATE INDEX listings_names ON listings USING gin (names);
CREATE INDEX listings_words ON listings USING gin (words);

CREATE TABLE vocabulary (
    word            text PRIMARY KEY
);
CREATE INDEX vocabulary_trgm ON vocabulary USING gin (word gin_trgm_ops);

CREATE FUNCTION note_vocabulary() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    called text;
BEGIN
    CASE TG_TABLE_NAME
        WHEN 'users' THEN called := concat_ws(' ', NEW.username, NEW.first_name, NEW.last_name);
        WHEN 'tracks' THEN called := concat_ws(' ', NEW.title, NEW.artist);
        WHEN 'listings' THEN called := NEW.title;
        ELSE called := NEW.name;
    END CASE;
    INSERT INTO vocabulary
        SELECT word FROM unnest(tsvector_to_array(plain_words(called))) AS word
        WHERE char_length(word) BETWEEN 4 AND 40 AND word !~ '[0-9]' ORDER BY word
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER users_vocabulary AFTER INSERT OR UPDATE OF username, first_name, last_name ON users
    FOR EACH ROW EXECUTE FUNCTION note_vocabulary();
CREATE TRIGGER rooms_vocabulary AFTER INSERT OR UPDATE OF name ON rooms
    FOR EACH ROW WHEN (NEW.kind <> 'direct') EXECUTE FUNCTION note_vocabulary();
CREATE TRIGGER tracks_vocabulary AFTER INSERT OR UPDATE OF title, artist ON tracks
    FOR EACH ROW EXECUTE FUNCTION note_vocabulary();
CREATE TRIGGER listings_vocabulary AFTER INSERT OR UPDATE OF title ON listings
    FOR EACH ROW EXECUTE FUNCTION note_vocabulary();

INSERT INTO vocabulary
    SELECT DISTINCT word FROM (
        SELECT unnest(tsvector_to_array(names)) FROM users
        UNION ALL SELECT unnest(tsvector_to_array(names)) FROM tracks
        UNION ALL SELECT unnest(tsvector_to_array(names)) FROM listings
        UNION ALL SELECT unnest(tsvector_to_array(plain_words(name))) FROM rooms WHERE kind <> 'direct'
    ) AS known (word)
    WHERE char_length(word) BETWEEN 4 AND 40 AND word !~ '[0-9]'
    ON CONFLICT DO NOTHING;
