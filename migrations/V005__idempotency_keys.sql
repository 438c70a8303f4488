-- The keys under which a repeated request is recognized. A request that spends may carry a key that its client chose. The key is claimed
-- together with the id of what it starts (a run, a batch, a vendor's idempotency key), so a repetition continues the same one and never
-- starts another. Kept for 24 hours.

CREATE TABLE IF NOT EXISTS idempotency_keys (
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
    request_hash text NOT NULL CHECK (request_hash ~ '^[0-9a-f]{64}$'),
    work_id text NOT NULL CHECK (char_length(work_id) BETWEEN 1 AND 255),
    -- Long enough for the response to a hundred handles, each with its reason, in the longest form that a request of 64 KB can cause.
    answer text CHECK (octet_length(answer) <= 131072),
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, user_id, key)
);
COMMENT ON COLUMN idempotency_keys.request_hash IS 'SHA-256 of method, path and body';
COMMENT ON COLUMN idempotency_keys.work_id IS 'id of what the request starts: a run, a batch, or the idempotency key that a vendor gets';
COMMENT ON COLUMN idempotency_keys.answer IS 'the first response, as a JSON text that is replayed byte by byte; null while its request is in progress';
CREATE INDEX IF NOT EXISTS idempotency_keys_age ON idempotency_keys (created_at);

-- Whether a member's stored responses, as they are stored (compressed), exceed what the API's own limits allow by far: no member may fill
-- the disk with them.
CREATE OR REPLACE FUNCTION idempotency_answers_are_full(p_account_id uuid, p_user_id uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce(sum(pg_column_size(answer)), 0) > 16 * 1024 * 1024 FROM idempotency_keys WHERE account_id = p_account_id AND user_id = p_user_id
$$;

-- Claims a key for the caller. `outcome` is one of
--   claimed      also if the request that held it has been silent for a minute; `work_id` is then the one that it began with;
--   replay       with the first response;
--   mismatch     the key was used for another request;
--   in_progress  the same request is still in progress.
-- With p_answer the response is known already and stored at once.
CREATE OR REPLACE FUNCTION claim_idempotency_key(p_account_id uuid, p_key text, p_hash text, p_work_id text, p_answer text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_user CONSTANT uuid := (SELECT auth.uid());
    held idempotency_keys;
BEGIN
    IF NOT caller_may_write(p_account_id) THEN
        RAISE EXCEPTION 'only members who may spend claim keys' USING ERRCODE = 'OS403';
    END IF;
    DELETE FROM idempotency_keys WHERE account_id = p_account_id AND user_id = v_user AND key = p_key AND created_at < clock_timestamp() - interval '24 hours';
    -- No member may fill the table: the API's limits allow far fewer.
    IF (SELECT count(*) FROM (SELECT 1 FROM idempotency_keys WHERE account_id = p_account_id AND user_id = v_user LIMIT 10000) k) = 10000 THEN
        RAISE EXCEPTION 'too many idempotency keys in a day' USING ERRCODE = 'OS429';
    ELSIF idempotency_answers_are_full(p_account_id, v_user) THEN
        RAISE EXCEPTION 'too many stored responses in a day' USING ERRCODE = 'OS429';
    END IF;
    INSERT INTO idempotency_keys (account_id, user_id, key, request_hash, work_id, answer) VALUES (p_account_id, v_user, p_key, p_hash, p_work_id, p_answer)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        -- An execution is named after its run. A key that named an existing run would start a second execution under that name, and the run's own
        -- start would then be taken for a repeat.
        IF EXISTS (SELECT 1 FROM analyses WHERE run_id = p_work_id) THEN
            RAISE EXCEPTION 'the work % exists already', p_work_id USING ERRCODE = 'OS409';
        END IF;
        RETURN jsonb_build_object('outcome', 'claimed', 'work_id', p_work_id);
    END IF;
    SELECT * INTO held FROM idempotency_keys WHERE account_id = p_account_id AND user_id = v_user AND key = p_key FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the key has just expired' USING ERRCODE = 'serialization_failure';
    ELSIF held.request_hash <> p_hash THEN
        RETURN jsonb_build_object('outcome', 'mismatch');
    ELSIF held.answer IS NOT NULL THEN
        RETURN jsonb_build_object('outcome', 'replay', 'work_id', held.work_id, 'answer', held.answer);
    ELSIF held.claimed_at > clock_timestamp() - interval '1 minute' THEN
        RETURN jsonb_build_object('outcome', 'in_progress');
    END IF;
    UPDATE idempotency_keys SET claimed_at = clock_timestamp() WHERE account_id = p_account_id AND user_id = v_user AND key = p_key;
    RETURN jsonb_build_object('outcome', 'claimed', 'work_id', held.work_id);
END
$$;

-- Releases a key: with its response, or without one, which lets the next repetition continue at once. Beyond the bound the response is
-- not stored, and a repetition continues with the same `work_id`.
CREATE OR REPLACE FUNCTION settle_idempotency_key(p_account_id uuid, p_key text, p_answer text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_user CONSTANT uuid := (SELECT auth.uid());
    v_answer CONSTANT text := CASE WHEN NOT idempotency_answers_are_full(p_account_id, v_user) THEN p_answer END;
BEGIN
    UPDATE idempotency_keys SET answer = v_answer, claimed_at = CASE WHEN v_answer IS NULL THEN '-infinity' ELSE claimed_at END
    WHERE account_id = p_account_id AND user_id = v_user AND key = p_key AND answer IS NULL;
END
$$;
