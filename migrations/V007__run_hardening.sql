-- What an attacker's reading of V002 to V006 found: callers vouch only for runs of their own that were just made; a task that waited
-- for a lock sees what it waited for; the bar of an ended run stays where it was; and no signup waits for a stranger's.

-- --- Runs ------------------------------------------------------------------------------------------------------------

ALTER TABLE analyses DROP CONSTRAINT IF EXISTS analyses_username;
ALTER TABLE analyses ADD CONSTRAINT analyses_username
    CHECK (username ~ '^[a-z0-9_]([a-z0-9._]{0,28}[a-z0-9_])?$' AND username NOT LIKE '%..%') NOT VALID;
ALTER TABLE analyses VALIDATE CONSTRAINT analyses_username;

ALTER TABLE analyses ADD COLUMN IF NOT EXISTS percent smallint NOT NULL DEFAULT 0 CHECK (percent BETWEEN 0 AND 100);
COMMENT ON COLUMN analyses.percent IS 'how far the run came, for when its progress item has expired';
GRANT SELECT (percent) ON analyses TO authenticated;

-- When the maker of a run id says it was made: it is a UUIDv7, whose first 48 bits are milliseconds. Null for any other.
CREATE OR REPLACE FUNCTION run_id_time(p_run_id text) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE WHEN p_run_id ~ '^run_[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}$'
        THEN to_timestamp(('x' || substr(p_run_id, 5, 12))::bit(48)::bigint / 1000.0) END
$$;

-- Ends a live run without a result, with its refund and its costs; one that has ended stays as it is. The caller holds its lock.
CREATE OR REPLACE FUNCTION end_run(p_run analyses, p_status text, p_code text DEFAULT NULL, p_details jsonb DEFAULT NULL, p_steps jsonb DEFAULT '[]')
RETURNS analyses
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_cost jsonb;
BEGIN
    IF p_run.status IN ('pending', 'processing') THEN
        PERFORM refund_run(p_run.run_id);
        v_cost := run_cost(p_run.run_id);
        UPDATE analyses SET status = p_status, error_code = p_code, error_details = p_details, completed_at = clock_timestamp(),
            steps = CASE WHEN p_steps = '[]' THEN steps ELSE p_steps END, cost = v_cost, total_cost_micro_usd = (v_cost ->> 'total_micro_usd')::bigint,
            processing_duration_ms = extract(epoch FROM clock_timestamp() - coalesce(started_at, created_at)) * 1000
        WHERE run_id = p_run.run_id RETURNING * INTO p_run;
    END IF;
    RETURN p_run;
END
$$;

CREATE OR REPLACE FUNCTION fail_run(p_run_id text, p_code text, p_details jsonb DEFAULT NULL, p_steps jsonb DEFAULT '[]', p_seed jsonb DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    run analyses;
    was_live boolean;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    IF NOT FOUND AND p_seed IS NOT NULL THEN
        PERFORM record_ended_run(p_run_id, p_seed, 'failed', p_code, p_details, NULL);
        -- Its admission may have committed in between: then the row is there now, charged, and fails like any other.
        SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    END IF;
    IF run.account_id <> (p_seed ->> 'account_id')::uuid THEN
        -- An execution may carry another account's run id, if its client chose it: that run is none of its business.
        RETURN jsonb_build_object('status', NULL, 'error_code', NULL, 'account_id', NULL, 'credits_refunded', 0);
    END IF;
    was_live := run.status IN ('pending', 'processing');
    run := end_run(run, 'failed', p_code, p_details, p_steps);
    RETURN jsonb_build_object('status', run.status, 'error_code', run.error_code, 'account_id', run.account_id,
        'credits_refunded', CASE WHEN was_live THEN run.credits_charged ELSE 0 END);
END
$$;

-- Whether the caller may have a run recorded that no admission has: one of their own, made within the hour, with an input that the
-- API would have made. Users reach cancel_analysis directly, so p_seed is whatever they like; and what they like it to record is
-- no more than the API lets them start.
CREATE OR REPLACE FUNCTION caller_vouches_for(p_run_id text, p_seed jsonb) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce((
        SELECT s.requested_by = (SELECT auth.uid())
           AND analysis_credits(s.tier) IS NOT NULL
           AND s.username ~ '^[a-z0-9_]([a-z0-9._]{0,28}[a-z0-9_])?$' AND s.username NOT LIKE '%..%'
           AND run_id_time(p_run_id) BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp() + interval '1 minute'
           AND s.requested_at_ms BETWEEN (extract(epoch FROM clock_timestamp()) - 3660) * 1000 AND (extract(epoch FROM clock_timestamp()) + 60) * 1000
           AND EXISTS (SELECT 1 FROM business_profiles p WHERE p.id = s.business_profile_id AND p.account_id = s.account_id AND p.deleted_at IS NULL)
           AND EXISTS (SELECT 1 FROM account_members m WHERE m.account_id = s.account_id AND m.user_id = (SELECT auth.uid()) AND m.role <> 'viewer'
                       AND m.account_id IN (SELECT user_account_ids()))
           AND (SELECT count(*) FROM analyses a WHERE a.account_id = s.account_id AND a.status = 'cancelled' AND a.credits_charged = 0
                AND a.created_at > clock_timestamp() - interval '1 hour') < 100
        FROM jsonb_to_record(p_seed) AS s (account_id uuid, business_profile_id uuid, requested_by uuid, username text, tier text, requested_at_ms bigint)
        WHERE jsonb_typeof(p_seed) = 'object'), false)
$$;

CREATE OR REPLACE FUNCTION cancel_analysis(p_run_id text, p_seed jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    run analyses;
    was text;
    may_spend boolean;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id AND account_id IN (SELECT user_account_ids()) AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND AND caller_vouches_for(p_run_id, p_seed) THEN
        PERFORM record_ended_run(p_run_id, p_seed, 'cancelled', NULL, NULL, NULL);
        -- Its admission may have committed in between: then the row is there now, and is cancelled like any other.
        SELECT * INTO run FROM analyses WHERE run_id = p_run_id AND account_id IN (SELECT user_account_ids()) AND deleted_at IS NULL FOR UPDATE;
        was := CASE WHEN run.status = 'cancelled' THEN 'pending' END;
    END IF;
    IF run.id IS NULL THEN
        RETURN jsonb_build_object('outcome', 'not_found');
    END IF;
    SELECT m.role <> 'viewer' INTO may_spend FROM account_members m WHERE m.account_id = run.account_id AND m.user_id = (SELECT auth.uid());
    IF may_spend IS NOT TRUE THEN
        RETURN jsonb_build_object('outcome', 'forbidden');
    END IF;
    was := coalesce(was, run.status);
    run := end_run(run, 'cancelled');
    RETURN jsonb_build_object('outcome', run.status, 'was', was, 'account_id', run.account_id, 'newly', was IN ('pending', 'processing'),
        'credits_refunded', CASE WHEN run.status = 'cancelled' THEN run.credits_charged ELSE 0 END);
END
$$;

-- The row is locked before it is read: whoever waited for a cancellation must see it.
CREATE OR REPLACE FUNCTION begin_task(p_run_id text) RETURNS TABLE (status text, error_code text, scrape_run_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    run analyses;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF run.status = 'processing' THEN
        UPDATE analyses SET last_step_at = clock_timestamp(), percent = greatest(percent, 20) WHERE run_id = p_run_id;
    END IF;
    RETURN QUERY SELECT run.status, run.error_code, run.scrape_run_id;
END
$$;

CREATE OR REPLACE FUNCTION begin_call(p_run_id text, p_call text)
RETURNS TABLE (status text, error_code text, answered boolean, business_name text, website text, business_one_liner text, business_context_pack jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    run analyses;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF run.status = 'processing' THEN
        UPDATE analyses SET last_step_at = clock_timestamp(), percent = greatest(percent, 50) WHERE run_id = p_run_id;
    END IF;
    RETURN QUERY SELECT run.status, run.error_code, run.ai_answers ? p_call, p.business_name, p.website, p.business_one_liner, p.business_context_pack
        FROM (SELECT 1) one LEFT JOIN business_profiles p ON p.id = run.business_profile_id;
END
$$;

CREATE OR REPLACE FUNCTION record_scrape_run(p_run_id text, p_scrape_run_id text, p_replaces text DEFAULT NULL) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE analyses
    SET scrape_run_id = CASE WHEN scrape_run_id IS NOT DISTINCT FROM p_replaces THEN p_scrape_run_id ELSE scrape_run_id END,
        last_step_at = clock_timestamp(), percent = greatest(percent, 30)
    WHERE run_id = p_run_id AND status = 'processing'
    RETURNING scrape_run_id
$$;

-- How many AI calls a tier has, and so how far each answer moves the bar from 50 to 80: as `domain` says, which a test holds it to.
CREATE OR REPLACE FUNCTION answered_percent(p_type text, p_answers jsonb) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (50 + 30 * least(count(*), calls) / calls)::smallint
    FROM jsonb_object_keys(p_answers), (SELECT CASE p_type WHEN 'light' THEN 1 WHEN 'deep' THEN 3 WHEN 'xray' THEN 4 END AS calls) c
    GROUP BY calls
$$;

CREATE OR REPLACE FUNCTION record_vendor_calls(p_run_id text, p_calls jsonb, p_call text DEFAULT NULL, p_output jsonb DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    run analyses;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    INSERT INTO ai_usage_logs (id, account_id, run_id, provider, model, api_call_type, status, error_message, response_id, input_tokens,
        cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_micro_usd, duration_ms, started_at)
    SELECT c.id, run.account_id, p_run_id, c.provider, c.model, c.api_call_type, c.status, c.error_message, c.response_id,
        coalesce(c.input_tokens, 0), coalesce(c.cached_input_tokens, 0), coalesce(c.cache_write_tokens, 0), coalesce(c.output_tokens, 0),
        coalesce(c.reasoning_tokens, 0), coalesce(c.cost_micro_usd, 0), coalesce(c.duration_ms, 0), to_timestamp(c.started_at_ms / 1000.0)
    FROM jsonb_to_recordset(p_calls) AS c (id uuid, provider text, model text, api_call_type text, status text, error_message text,
        response_id text, input_tokens bigint, cached_input_tokens bigint, cache_write_tokens bigint, output_tokens bigint,
        reasoning_tokens bigint, cost_micro_usd bigint, duration_ms integer, started_at_ms bigint)
    WHERE run.account_id IS NOT NULL
    ON CONFLICT DO NOTHING;
    IF p_output IS NOT NULL AND run.status = 'processing' THEN
        run.ai_answers := jsonb_build_object(p_call, p_output) || run.ai_answers;
        UPDATE analyses SET last_step_at = clock_timestamp(), ai_answers = run.ai_answers,
            percent = greatest(percent, answered_percent(run.analysis_type, run.ai_answers))
        WHERE run_id = p_run_id;
    END IF;
    RETURN run.status;
END
$$;

-- --- Signup ----------------------------------------------------------------------------------------------------------

-- Supabase keeps emails unique. A copy that is out of date must never keep somebody else from signing up.
ALTER TABLE users DROP CONSTRAINT IF EXISTS users_email_key;

UPDATE users SET full_name = left(full_name, 200), avatar_url = CASE WHEN char_length(avatar_url) <= 2000 THEN avatar_url END
WHERE char_length(full_name) > 200 OR char_length(avatar_url) > 2000;
UPDATE accounts SET name = left(name, 220) WHERE char_length(name) > 220;
ALTER TABLE users DROP CONSTRAINT IF EXISTS users_lengths;
ALTER TABLE users ADD CONSTRAINT users_lengths CHECK (char_length(full_name) <= 200 AND char_length(avatar_url) <= 2000);
ALTER TABLE accounts DROP CONSTRAINT IF EXISTS accounts_lengths;
ALTER TABLE accounts ADD CONSTRAINT accounts_lengths CHECK (char_length(name) BETWEEN 1 AND 220 AND char_length(slug) <= 60);

-- An account for a person, once. Anonymous people (Supabase's `is_anonymous`) cost nothing to make up: they get an account without
-- a subscription and without credits, and both when they become permanent.
CREATE OR REPLACE FUNCTION create_account_atomic(p_user_id uuid, p_email text DEFAULT NULL, p_full_name text DEFAULT NULL, p_avatar_url text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_full_name CONSTANT text := nullif(trim(left(trim(p_full_name), 200)), '');
    -- A link that is cut is no link.
    v_avatar_url CONSTANT text := CASE WHEN char_length(p_avatar_url) <= 2000 THEN p_avatar_url END;
    v_name CONSTANT text := coalesce(v_full_name, nullif(left(split_part(p_email, '@', 1), 200), ''), 'New');
    v_base CONSTANT text := coalesce(nullif(trim(BOTH '-' FROM left(regexp_replace(lower(v_name), '[^a-z0-9]+', '-', 'g'), 44)), ''), 'account');
    v_slug text := v_base;
    v_account uuid;
    is_new boolean;
    is_permanent boolean;
BEGIN
    INSERT INTO users (id, email, full_name, avatar_url) VALUES (p_user_id, p_email, v_full_name, v_avatar_url)
    ON CONFLICT (id) DO UPDATE SET email = coalesce(excluded.email, users.email), full_name = coalesce(excluded.full_name, users.full_name),
        avatar_url = coalesce(excluded.avatar_url, users.avatar_url), updated_at = now();
    -- The upsert above holds the user's row: two signups of one person take turns here.
    SELECT id INTO v_account FROM accounts WHERE owner_id = p_user_id ORDER BY created_at LIMIT 1;
    is_new := NOT FOUND;
    IF is_new THEN
        LOOP
            INSERT INTO accounts (owner_id, name, slug) VALUES (p_user_id, v_name || '''s Account', v_slug)
            ON CONFLICT (slug) DO NOTHING RETURNING id INTO v_account;
            EXIT WHEN FOUND;
            v_slug := v_base || '-' || left(gen_random_uuid()::text, 8);
        END LOOP;
        INSERT INTO account_members (account_id, user_id, role) VALUES (v_account, p_user_id, 'owner');
    END IF;
    INSERT INTO credit_balances (account_id) VALUES (v_account) ON CONFLICT (account_id) DO NOTHING;
    SELECT NOT is_anonymous INTO is_permanent FROM auth.users WHERE id = p_user_id;
    IF is_permanent THEN
        INSERT INTO subscriptions (account_id, plan_id, current_period_start, current_period_end)
        SELECT v_account, 'free', now(), now() + interval '1 month' WHERE NOT EXISTS (SELECT 1 FROM subscriptions WHERE account_id = v_account);
        PERFORM grant_credits(v_account, 25, 'signup_bonus', 'signup', 'Welcome to Oslira');
    END IF;
    RETURN jsonb_build_object('user_id', p_user_id, 'account_id', v_account, 'email', p_email, 'is_new_user', is_new,
        'credit_balance', (SELECT current_balance FROM credit_balances WHERE account_id = v_account));
END
$$;
DROP FUNCTION IF EXISTS generate_slug(text);

-- Keeps our copy of the email in step, and welcomes those who stop being anonymous.
CREATE OR REPLACE FUNCTION on_auth_user_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE users SET email = NEW.email, updated_at = now() WHERE id = NEW.id AND email IS DISTINCT FROM NEW.email;
    IF OLD.is_anonymous AND NOT NEW.is_anonymous THEN
        PERFORM create_account_atomic(NEW.id, NEW.email, NEW.raw_user_meta_data ->> 'full_name', NEW.raw_user_meta_data ->> 'avatar_url');
    END IF;
    RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS oslira_on_auth_user_changed ON auth.users;
CREATE TRIGGER oslira_on_auth_user_changed AFTER UPDATE OF email, is_anonymous ON auth.users FOR EACH ROW
    WHEN (OLD.email IS DISTINCT FROM NEW.email OR OLD.is_anonymous IS DISTINCT FROM NEW.is_anonymous)
    EXECUTE FUNCTION on_auth_user_changed();

REVOKE ALL ON FUNCTION run_id_time(text), end_run(analyses, text, text, jsonb, jsonb), caller_vouches_for(text, jsonb),
    answered_percent(text, jsonb), on_auth_user_changed() FROM PUBLIC, anon, authenticated, service_role;
