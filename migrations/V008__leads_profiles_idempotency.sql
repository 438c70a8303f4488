-- What users do with their leads and business profiles, and the keys under which a repeated request is recognised.
-- Reads go through row-level security. Writes go through the functions here, which ask for a membership that may write: no role
-- has INSERT, UPDATE or DELETE on these tables.

-- --- Listing -----------------------------------------------------------------------------------------------------------
-- One index for each order of the list; the id makes an order total, so that pages neither repeat nor skip. Leads without the value come
-- last whatever the direction, and an index read backwards would put them first: the two that have nulls have an index for each direction.
CREATE INDEX IF NOT EXISTS leads_by_analysis ON leads (account_id, last_analyzed_at DESC NULLS LAST, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS leads_by_followers ON leads (account_id, follower_count DESC NULLS LAST, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS leads_by_analysis_ascending ON leads (account_id, last_analyzed_at, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS leads_by_followers_ascending ON leads (account_id, follower_count, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS leads_by_creation ON leads (account_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
DROP INDEX IF EXISTS leads_account;
CREATE INDEX IF NOT EXISTS leads_deleted ON leads (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS analyses_profile ON analyses (business_profile_id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS ledger_by_type ON credit_ledger (account_id, transaction_type, entry_no);

-- Whether the caller may change what the account owns: every member but a viewer.
CREATE OR REPLACE FUNCTION caller_may_write(p_account_id uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT 1 FROM account_members m WHERE m.account_id = p_account_id AND m.user_id = (SELECT auth.uid())
                   AND m.role <> 'viewer' AND m.account_id IN (SELECT user_account_ids()))
$$;

-- --- Leads -------------------------------------------------------------------------------------------------------------
-- Deletes a lead and its analyses, softly, with one time stamp: that is how a restoration knows which analyses went with it.
-- Answers deleted, not_found or forbidden. A second deletion finds nothing.
CREATE OR REPLACE FUNCTION delete_lead(p_lead_id uuid, p_account_id uuid DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    lead leads;
    t CONSTANT timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO lead FROM leads
    WHERE id = p_lead_id AND deleted_at IS NULL AND account_id IN (SELECT user_account_ids()) AND (p_account_id IS NULL OR account_id = p_account_id)
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'not_found';
    ELSIF NOT caller_may_write(lead.account_id) THEN
        RETURN 'forbidden';
    END IF;
    UPDATE leads SET deleted_at = t, updated_at = t WHERE id = lead.id;
    UPDATE analyses SET deleted_at = t, updated_at = t WHERE lead_id = lead.id AND deleted_at IS NULL;
    RETURN 'deleted';
END
$$;

-- Brings back a lead deleted within 30 days, with the analyses that went with it. `outcome` is restored (also when it is live
-- already), not_found, forbidden, or conflict with the live lead of the same handle that took its place.
CREATE OR REPLACE FUNCTION restore_lead(p_lead_id uuid, p_account_id uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    lead leads;
    twin uuid;
    restored integer := 0;
BEGIN
    SELECT * INTO lead FROM leads
    WHERE id = p_lead_id AND account_id IN (SELECT user_account_ids()) AND (p_account_id IS NULL OR account_id = p_account_id)
      AND (deleted_at IS NULL OR deleted_at > clock_timestamp() - interval '30 days')
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'not_found');
    ELSIF NOT caller_may_write(lead.account_id) THEN
        RETURN jsonb_build_object('outcome', 'forbidden');
    END IF;
    IF lead.deleted_at IS NOT NULL THEN
        BEGIN
            UPDATE leads SET deleted_at = NULL, updated_at = clock_timestamp() WHERE id = lead.id;
        EXCEPTION WHEN unique_violation THEN
            SELECT id INTO twin FROM leads WHERE account_id = lead.account_id AND business_profile_id = lead.business_profile_id
                AND username = lead.username AND deleted_at IS NULL;
            RETURN jsonb_build_object('outcome', 'conflict', 'lead_id', twin, 'username', lead.username);
        END;
        UPDATE analyses SET deleted_at = NULL, updated_at = clock_timestamp() WHERE lead_id = lead.id AND deleted_at = lead.deleted_at;
        GET DIAGNOSTICS restored = ROW_COUNT;
    END IF;
    RETURN jsonb_build_object('outcome', 'restored', 'lead_id', lead.id, 'username', lead.username, 'analyses_restored', restored);
END
$$;

-- --- Business profiles ---------------------------------------------------------------------------------------------------
ALTER TABLE business_profiles DROP CONSTRAINT IF EXISTS business_profiles_follower_range;
ALTER TABLE business_profiles ADD CONSTRAINT business_profiles_follower_range CHECK (
    CASE WHEN jsonb_typeof(business_context_pack -> 'icp_min_followers') = 'number' AND jsonb_typeof(business_context_pack -> 'icp_max_followers') = 'number'
         THEN (business_context_pack ->> 'icp_min_followers')::numeric <= (business_context_pack ->> 'icp_max_followers')::numeric ELSE true END);
ALTER TABLE business_profiles DROP CONSTRAINT IF EXISTS business_profiles_bounded;
ALTER TABLE business_profiles ADD CONSTRAINT business_profiles_bounded CHECK (
    char_length(website) <= 2048 AND website ~* '^https?://' AND char_length(business_one_liner) <= 500 AND octet_length(business_context_pack::text) <= 65536);

-- The plan that an account is on: its best paid subscription that is not over, else its free one.
CREATE OR REPLACE FUNCTION account_plan(p_account_id uuid) RETURNS SETOF plans
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT p.* FROM subscriptions s JOIN plans p ON p.id = s.plan_id
    WHERE s.account_id = p_account_id AND s.status IN ('active', 'trialing', 'past_due')
    ORDER BY p.credits_per_month DESC, p.id LIMIT 1
$$;

-- A profile as the API shows it, with what hangs on it.
CREATE OR REPLACE FUNCTION business_profile_view(p business_profiles) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT to_jsonb(p) - 'deleted_at' || jsonb_build_object(
        'leads_count', (SELECT count(*) FROM leads l WHERE l.account_id = p.account_id AND l.business_profile_id = p.id AND l.deleted_at IS NULL),
        'analyses_count', (SELECT count(*) FROM analyses a WHERE a.business_profile_id = p.id AND a.deleted_at IS NULL))
$$;

-- Creates a profile if the plan allows another. p_fields holds valid fields. Two creations take turns on the account's row, so a
-- limit cannot be passed by hurrying. `outcome` is created, no_account, forbidden or plan_limit.
CREATE OR REPLACE FUNCTION create_business_profile(p_account_id uuid, p_fields jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_account uuid;
    v_may boolean;
    v_plan plans;
    v_count bigint;
    profile business_profiles;
BEGIN
    SELECT account_id, can_spend INTO v_account, v_may FROM caller_account(p_account_id);
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'no_account');
    ELSIF NOT v_may THEN
        RETURN jsonb_build_object('outcome', 'forbidden');
    END IF;
    PERFORM 1 FROM accounts WHERE id = v_account FOR NO KEY UPDATE;
    SELECT * INTO v_plan FROM account_plan(v_account);
    SELECT count(*) INTO v_count FROM business_profiles WHERE account_id = v_account AND deleted_at IS NULL;
    IF v_count >= v_plan.max_businesses OR v_plan.id IS NULL THEN
        RETURN jsonb_build_object('outcome', 'plan_limit', 'plan', v_plan.id, 'limit', coalesce(v_plan.max_businesses, 0), 'count', v_count);
    END IF;
    INSERT INTO business_profiles (account_id, business_name, website, business_one_liner, business_context_pack, context_manually_edited, context_updated_at)
    VALUES (v_account, p_fields ->> 'business_name', p_fields ->> 'website', p_fields ->> 'business_one_liner',
            jsonb_strip_nulls(p_fields -> 'business_context_pack'), true, now())
    RETURNING * INTO profile;
    RETURN jsonb_build_object('outcome', 'created', 'profile', business_profile_view(profile));
END
$$;

-- Changes the fields that p_patch names and merges its pack into the one that is there, key by key, in one statement: two writers
-- of different keys both win. A null clears. `outcome` is updated, not_found, forbidden or follower_range.
CREATE OR REPLACE FUNCTION update_business_profile(p_id uuid, p_account_id uuid, p_patch jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    profile business_profiles;
    v_constraint text;
BEGIN
    SELECT * INTO profile FROM business_profiles
    WHERE id = p_id AND deleted_at IS NULL AND account_id IN (SELECT user_account_ids()) AND (p_account_id IS NULL OR account_id = p_account_id)
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'not_found');
    ELSIF NOT caller_may_write(profile.account_id) THEN
        RETURN jsonb_build_object('outcome', 'forbidden');
    END IF;
    UPDATE business_profiles SET
        business_name = coalesce(p_patch ->> 'business_name', business_name),
        website = CASE WHEN p_patch ? 'website' THEN p_patch ->> 'website' ELSE website END,
        business_one_liner = CASE WHEN p_patch ? 'business_one_liner' THEN p_patch ->> 'business_one_liner' ELSE business_one_liner END,
        business_context_pack = jsonb_strip_nulls(business_context_pack || coalesce(p_patch -> 'business_context_pack', '{}')),
        context_manually_edited = context_manually_edited OR p_patch ? 'business_context_pack',
        context_updated_at = CASE WHEN p_patch ? 'business_context_pack' THEN clock_timestamp() ELSE context_updated_at END,
        updated_at = clock_timestamp()
    WHERE id = profile.id RETURNING * INTO profile;
    RETURN jsonb_build_object('outcome', 'updated', 'profile', business_profile_view(profile));
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS v_constraint = CONSTRAINT_NAME;
    IF v_constraint <> 'business_profiles_follower_range' THEN
        RAISE;
    END IF;
    RETURN jsonb_build_object('outcome', 'follower_range');
END
$$;

-- --- Idempotency keys ------------------------------------------------------------------------------------------------------
-- A request that spends may carry a key of its client's choice. The key is claimed together with what identifies the work (a run's id,
-- a vendor's idempotency key), so a repetition continues the same work and never starts another. Kept for 24 hours.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
    request_hash text NOT NULL CHECK (request_hash ~ '^[0-9a-f]{64}$'),
    work_id text NOT NULL CHECK (char_length(work_id) BETWEEN 1 AND 255),
    answer text CHECK (octet_length(answer) <= 8192),
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, user_id, key)
);
COMMENT ON COLUMN idempotency_keys.request_hash IS 'SHA-256 of method, path and body';
COMMENT ON COLUMN idempotency_keys.answer IS 'the first answer, as a JSON text that is repeated letter by letter; null while its request is at work';
CREATE INDEX IF NOT EXISTS idempotency_keys_age ON idempotency_keys (created_at);
ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY;
REVOKE ALL ON idempotency_keys FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON idempotency_keys TO authenticated, service_role;
DROP POLICY IF EXISTS idempotency_keys_read ON idempotency_keys;
CREATE POLICY idempotency_keys_read ON idempotency_keys FOR SELECT TO authenticated
    USING (user_id = (SELECT auth.uid()) AND account_id = ANY (ARRAY(SELECT user_account_ids())));

-- Claims a key for work of the caller's. `outcome`: claimed (also when the request that held it has been silent for a minute; `work_id` is
-- then the one it began with), replay with the first answer, mismatch for another request, in_progress for a twin still at work.
-- With p_answer the answer is known already and kept at once.
CREATE OR REPLACE FUNCTION claim_idempotency_key(p_account_id uuid, p_key text, p_hash text, p_work_id text, p_answer text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_user CONSTANT uuid := (SELECT auth.uid());
    held idempotency_keys;
BEGIN
    IF NOT caller_may_write(p_account_id) THEN
        RAISE EXCEPTION 'keys are claimed by members who may spend' USING ERRCODE = 'OS403';
    END IF;
    DELETE FROM idempotency_keys WHERE account_id = p_account_id AND user_id = v_user AND key = p_key AND created_at < clock_timestamp() - interval '24 hours';
    -- Supabase offers this function to its users directly: nobody may fill the table.
    IF (SELECT count(*) FROM (SELECT 1 FROM idempotency_keys WHERE account_id = p_account_id AND user_id = v_user LIMIT 10000) k) = 10000 THEN
        RAISE EXCEPTION 'too many idempotency keys in a day' USING ERRCODE = 'OS429';
    END IF;
    INSERT INTO idempotency_keys (account_id, user_id, key, request_hash, work_id, answer) VALUES (p_account_id, v_user, p_key, p_hash, p_work_id, p_answer)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
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

-- Ends the work of a key: with its answer, or without one, which lets the next repetition go on with the same work at once.
CREATE OR REPLACE FUNCTION settle_idempotency_key(p_account_id uuid, p_key text, p_answer text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE idempotency_keys SET answer = p_answer, claimed_at = CASE WHEN p_answer IS NULL THEN '-infinity' ELSE claimed_at END
    WHERE account_id = p_account_id AND user_id = (SELECT auth.uid()) AND key = p_key AND answer IS NULL
$$;

-- What a purchase needs to know of its account, and the claim of its key, in one go. `outcome` as of claim_idempotency_key, or
-- no_account or forbidden.
CREATE OR REPLACE FUNCTION begin_purchase(p_account_id uuid, p_key text, p_hash text, p_work_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_account uuid;
    v_may boolean;
    v_claim jsonb := jsonb_build_object('outcome', 'claimed', 'work_id', p_work_id);
BEGIN
    SELECT account_id, can_spend INTO v_account, v_may FROM caller_account(p_account_id);
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'no_account');
    ELSIF NOT v_may THEN
        RETURN jsonb_build_object('outcome', 'forbidden');
    END IF;
    IF p_key IS NOT NULL THEN
        v_claim := claim_idempotency_key(v_account, p_key, p_hash, p_work_id);
    END IF;
    RETURN v_claim || (SELECT jsonb_build_object('account_id', a.id, 'customer', a.stripe_customer_id, 'email', u.email)
                       FROM accounts a JOIN users u ON u.id = a.owner_id WHERE a.id = v_account);
END
$$;

REVOKE ALL ON FUNCTION caller_may_write(uuid), delete_lead(uuid, uuid), restore_lead(uuid, uuid), account_plan(uuid),
    business_profile_view(business_profiles), create_business_profile(uuid, jsonb), update_business_profile(uuid, uuid, jsonb),
    claim_idempotency_key(uuid, text, text, text, text), settle_idempotency_key(uuid, text, text), begin_purchase(uuid, text, text, text)
    FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION delete_lead(uuid, uuid), restore_lead(uuid, uuid), create_business_profile(uuid, jsonb),
    update_business_profile(uuid, uuid, jsonb), claim_idempotency_key(uuid, text, text, text, text), settle_idempotency_key(uuid, text, text),
    begin_purchase(uuid, text, text, text) TO authenticated;
