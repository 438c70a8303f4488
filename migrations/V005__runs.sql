-- The life of a run, one function a transaction: admitted and charged, or refused; completed with its lead; failed or
-- cancelled with its refund. Each locks the run first and the balance last, may be called twice, and answers the state found.

-- How long a run may rest between two steps before another of the same handle may replace it.
CREATE OR REPLACE FUNCTION run_is_stuck(p_status text, p_batch_id text, p_last_step_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT p_status IN ('pending', 'processing') AND p_last_step_at < clock_timestamp()
        - CASE WHEN p_status = 'pending' AND p_batch_id IS NOT NULL THEN interval '1 hour' ELSE interval '5 minutes' END
$$;

CREATE OR REPLACE FUNCTION step_timing(p_step text, p_start timestamptz, p_end timestamptz) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('step', p_step, 'started_at_ms', floor(extract(epoch FROM p_start) * 1000)::bigint,
                              'duration_us', floor(extract(epoch FROM p_end - p_start) * 1000000)::bigint)
$$;

-- What vendors were paid for a run so far, by provider and call.
CREATE OR REPLACE FUNCTION run_cost(p_run_id text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT jsonb_build_object(
        'total_micro_usd', coalesce(sum(cost_micro_usd), 0),
        'apify_micro_usd', coalesce(sum(cost_micro_usd) FILTER (WHERE provider = 'apify'), 0),
        'openai_micro_usd', coalesce(sum(cost_micro_usd) FILTER (WHERE provider = 'openai'), 0),
        'anthropic_micro_usd', coalesce(sum(cost_micro_usd) FILTER (WHERE provider = 'anthropic'), 0),
        'calls', coalesce(jsonb_agg(jsonb_build_object(
            'call', api_call_type, 'provider', provider, 'model', model, 'status', status, 'input_tokens', input_tokens,
            'cached_input_tokens', cached_input_tokens, 'output_tokens', output_tokens, 'reasoning_tokens', reasoning_tokens,
            'cost_micro_usd', cost_micro_usd, 'duration_ms', duration_ms) ORDER BY started_at), '[]'))
    FROM ai_usage_logs WHERE run_id = p_run_id
$$;

-- Ends a run without a result and refunds it. A run that is not there yet (its admission never committed) gets a failed
-- row, so that its user can read what became of it. A terminal run stays as it is. Answers the status that holds.
CREATE OR REPLACE FUNCTION fail_run(p_run_id text, p_code text, p_details jsonb DEFAULT NULL, p_steps jsonb DEFAULT '[]', p_seed jsonb DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    run analyses;
    v_cost jsonb;
    refunded integer := 0;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    IF NOT FOUND AND p_seed IS NOT NULL THEN
        PERFORM record_ended_run(p_run_id, p_seed, 'failed', p_code, p_details, NULL);
        -- Its admission may have committed in between: then the row is there now, charged, and fails like any other.
        SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    END IF;
    IF run.status IN ('pending', 'processing') THEN
        refunded := refund_run(p_run_id);
        v_cost := run_cost(p_run_id);
        UPDATE analyses SET status = 'failed', error_code = p_code, error_details = p_details, completed_at = clock_timestamp(),
            steps = CASE WHEN p_steps = '[]' THEN steps ELSE p_steps END, cost = v_cost, total_cost_micro_usd = (v_cost ->> 'total_micro_usd')::bigint,
            processing_duration_ms = extract(epoch FROM clock_timestamp() - coalesce(started_at, created_at)) * 1000
        WHERE run_id = p_run_id RETURNING * INTO run;
    END IF;
    RETURN jsonb_build_object('status', run.status, 'error_code', run.error_code, 'account_id', run.account_id, 'credits_refunded', refunded);
END
$$;

-- A row for a run that ended before it was admitted: nothing was charged. p_seed is the run's input.
CREATE OR REPLACE FUNCTION record_ended_run(p_run_id text, p_seed jsonb, p_status text, p_code text, p_details jsonb, p_batch_id text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO analyses (run_id, batch_id, account_id, business_profile_id, requested_by, username, analysis_type, status,
                          error_code, error_details, completed_at, processing_duration_ms)
    SELECT p_run_id, p_batch_id, (p_seed ->> 'account_id')::uuid,
           (SELECT id FROM business_profiles WHERE id = (p_seed ->> 'business_profile_id')::uuid AND account_id = (p_seed ->> 'account_id')::uuid),
           (SELECT id FROM users WHERE id = (p_seed ->> 'requested_by')::uuid),
           p_seed ->> 'username', p_seed ->> 'tier', p_status, p_code, p_details, clock_timestamp(), 0
    ON CONFLICT (run_id) DO NOTHING
$$;

-- Steps 2 to 5 in one transaction: the record, no twin, enough credits, the charge. `outcome` is admitted, or the reason
-- why not; a refused run keeps its row, failed and uncharged, so that its user can read the reason.
CREATE OR REPLACE FUNCTION admit_analysis(p_run_id text, p_seed jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_account CONSTANT uuid := (p_seed ->> 'account_id')::uuid;
    v_profile CONSTANT uuid := (p_seed ->> 'business_profile_id')::uuid;
    v_username CONSTANT text := p_seed ->> 'username';
    v_type CONSTANT text := p_seed ->> 'tier';
    v_price CONSTANT integer := analysis_credits(v_type);
    t timestamptz[] := ARRAY[clock_timestamp()];
    run analyses;
    twin analyses;
    available integer;
    timings jsonb;
BEGIN
    LOOP
        SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
        IF FOUND AND run.account_id <> v_account THEN
            RAISE EXCEPTION 'run % belongs to another account', p_run_id USING ERRCODE = 'OS409';
        END IF;
        IF run.status IS DISTINCT FROM 'pending' AND FOUND THEN
            RETURN jsonb_build_object('outcome', CASE run.status WHEN 'processing' THEN 'admitted' ELSE run.status END,
                                      'error_code', run.error_code, 'details', run.error_details, 'steps', run.steps);
        END IF;
        EXIT WHEN FOUND; -- a bulk run, recorded when it was queued
        IF NOT EXISTS (SELECT 1 FROM business_profiles p JOIN accounts a ON a.id = p.account_id
                       WHERE p.id = v_profile AND p.account_id = v_account AND p.deleted_at IS NULL
                         AND a.deleted_at IS NULL AND NOT a.is_suspended) THEN
            PERFORM record_ended_run(p_run_id, p_seed, 'failed', 'BUSINESS_PROFILE_NOT_FOUND', NULL, NULL);
            RETURN jsonb_build_object('outcome', 'failed', 'error_code', 'BUSINESS_PROFILE_NOT_FOUND', 'steps', '[]'::jsonb);
        END IF;
        -- The insert is the duplicate check: the unique index waits for a twin's transaction, so there is no gap between
        -- looking and writing.
        INSERT INTO analyses (run_id, account_id, business_profile_id, requested_by, username, analysis_type, status, created_at)
        VALUES (p_run_id, v_account, v_profile, (SELECT id FROM users WHERE id = (p_seed ->> 'requested_by')::uuid), v_username, v_type,
                'pending', coalesce(to_timestamp((p_seed ->> 'requested_at_ms')::bigint / 1000.0), now()))
        ON CONFLICT DO NOTHING RETURNING * INTO run;
        EXIT WHEN FOUND;
        t[2] := clock_timestamp();
        SELECT * INTO twin FROM analyses
        WHERE account_id = v_account AND business_profile_id = v_profile AND username = v_username
          AND status IN ('pending', 'processing') AND run_id <> p_run_id;
        IF FOUND AND NOT run_is_stuck(twin.status, twin.batch_id, twin.last_step_at) THEN
            PERFORM record_ended_run(p_run_id, p_seed, 'failed', 'DUPLICATE_ANALYSIS', jsonb_build_object('run_id', twin.run_id), NULL);
            RETURN jsonb_build_object('outcome', 'failed', 'error_code', 'DUPLICATE_ANALYSIS',
                'details', jsonb_build_object('run_id', twin.run_id), 'steps', '[]'::jsonb);
        ELSIF FOUND THEN
            PERFORM fail_run(twin.run_id, 'TIMED_OUT', jsonb_build_object('replaced_by', p_run_id));
        END IF;
    END LOOP;
    t[2] := coalesce(t[2], clock_timestamp());
    t[3] := clock_timestamp();
    SELECT current_balance INTO available FROM credit_balances WHERE account_id = v_account FOR UPDATE;
    t[4] := clock_timestamp();
    IF coalesce(available, 0) < v_price THEN
        UPDATE analyses SET status = 'failed', error_code = 'INSUFFICIENT_CREDITS', completed_at = clock_timestamp(),
            error_details = jsonb_build_object('available', coalesce(available, 0), 'required', v_price), processing_duration_ms = 0
        WHERE run_id = p_run_id RETURNING * INTO run;
        RETURN jsonb_build_object('outcome', 'failed', 'error_code', run.error_code, 'details', run.error_details, 'steps', '[]'::jsonb);
    END IF;
    PERFORM deduct_credits_atomic(v_account, v_price, p_run_id, upper(v_type) || ' analysis of @' || v_username);
    t[5] := clock_timestamp();
    timings := jsonb_build_array(
        step_timing('create_record', t[1], t[2]), step_timing('check_duplicate', t[2], t[3]),
        step_timing('check_credits', t[3], t[4]), step_timing('deduct_credits', t[4], t[5]));
    UPDATE analyses SET status = 'processing', credits_charged = v_price, started_at = t[1], last_step_at = t[5], steps = timings
    WHERE run_id = p_run_id;
    RETURN jsonb_build_object('outcome', 'admitted', 'steps', timings);
END
$$;

-- Called at the start of every task: is the run still worth working on? Marks that it moves.
CREATE OR REPLACE FUNCTION begin_task(p_run_id text) RETURNS TABLE (status text, error_code text, scrape_run_id text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH moved AS (UPDATE analyses SET last_step_at = clock_timestamp() WHERE run_id = p_run_id AND analyses.status = 'processing')
    SELECT a.status, a.error_code, a.scrape_run_id FROM analyses a WHERE a.run_id = p_run_id
$$;

-- Remembers the Apify run that fetches the profile. The first one wins: a twin of the task learns whose to wait for.
CREATE OR REPLACE FUNCTION record_scrape_run(p_run_id text, p_scrape_run_id text, p_replaces text DEFAULT NULL) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE analyses
    SET scrape_run_id = CASE WHEN scrape_run_id IS NOT DISTINCT FROM p_replaces THEN p_scrape_run_id ELSE scrape_run_id END,
        last_step_at = clock_timestamp()
    WHERE run_id = p_run_id AND status = 'processing'
    RETURNING scrape_run_id
$$;

-- Books vendor calls, each once, and keeps an AI call's answer, the first one that came. Calls are booked even if the run
-- has ended meanwhile: they were paid. Answers the run's status.
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
        UPDATE analyses SET last_step_at = clock_timestamp(), ai_answers = jsonb_build_object(p_call, p_output) || ai_answers
        WHERE run_id = p_run_id;
    END IF;
    RETURN run.status;
END
$$;

-- What a model is asked with, and whether it was asked already.
CREATE OR REPLACE FUNCTION begin_call(p_run_id text, p_call text)
RETURNS TABLE (status text, error_code text, answered boolean, business_name text, website text, business_one_liner text, business_context_pack jsonb)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH moved AS (UPDATE analyses SET last_step_at = clock_timestamp() WHERE run_id = p_run_id AND analyses.status = 'processing')
    SELECT a.status, a.error_code, a.ai_answers ? p_call, p.business_name, p.website, p.business_one_liner, p.business_context_pack
    FROM analyses a LEFT JOIN business_profiles p ON p.id = a.business_profile_id
    WHERE a.run_id = p_run_id
$$;

-- Steps 10 to 12 in one transaction: the lead, the results, the end. A second call changes nothing and answers the same.
CREATE OR REPLACE FUNCTION complete_analysis(p_run_id text, p_profile jsonb, p_report jsonb, p_metrics jsonb, p_cache_hit boolean, p_steps jsonb)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    t timestamptz[] := ARRAY[clock_timestamp()];
    run analyses;
    v_lead uuid;
    v_cost jsonb;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % was never admitted', p_run_id USING ERRCODE = 'OS404';
    END IF;
    IF run.status = 'processing' THEN
        INSERT INTO leads AS lead (account_id, business_profile_id, username, display_name, profile_pic_url, follower_count, following_count,
            post_count, bio, external_url, is_verified, is_private, is_business_account, first_analyzed_at, last_analyzed_at)
        SELECT run.account_id, run.business_profile_id, run.username, p.display_name, p.profile_pic_url, p.follower_count, p.following_count,
            p.post_count, p.bio, p.external_url, p.is_verified, p.is_private, p.is_business_account, t[1], t[1]
        FROM jsonb_to_record(p_profile) AS p (display_name text, profile_pic_url text, follower_count bigint, following_count bigint,
            post_count bigint, bio text, external_url text, is_verified boolean, is_private boolean, is_business_account boolean)
        ON CONFLICT (account_id, business_profile_id, username) WHERE deleted_at IS NULL DO UPDATE SET
            display_name = excluded.display_name, profile_pic_url = excluded.profile_pic_url, follower_count = excluded.follower_count,
            following_count = excluded.following_count, post_count = excluded.post_count, bio = excluded.bio,
            external_url = excluded.external_url, is_verified = excluded.is_verified, is_private = excluded.is_private,
            is_business_account = excluded.is_business_account, first_analyzed_at = coalesce(lead.first_analyzed_at, excluded.first_analyzed_at),
            last_analyzed_at = greatest(lead.last_analyzed_at, excluded.last_analyzed_at), updated_at = t[1]
        RETURNING id INTO v_lead;
        t[2] := clock_timestamp();
        v_cost := run_cost(p_run_id);
        UPDATE analyses SET lead_id = v_lead, metrics = p_metrics, cache_hit = p_cache_hit,
            ai_response = run.ai_answers || jsonb_build_object('report', p_report -> 'fields'),
            overall_score = (p_report ->> 'overall_score')::smallint, niche_fit_score = (p_report ->> 'niche_fit_score')::smallint,
            engagement_score = (p_report ->> 'engagement_score')::smallint, confidence_level = (p_report ->> 'confidence_level')::numeric,
            summary_text = p_report ->> 'summary_text', model_used = (SELECT c ->> 'model' FROM jsonb_array_elements(v_cost -> 'calls') c
                WHERE c ->> 'status' = 'success' AND c ->> 'call' IN ('core', 'psychographic') LIMIT 1),
            cost = v_cost, total_cost_micro_usd = (v_cost ->> 'total_micro_usd')::bigint, last_step_at = clock_timestamp()
        WHERE run_id = p_run_id;
        t[3] := clock_timestamp();
        UPDATE analyses SET status = 'completed', completed_at = t[3], processing_duration_ms = extract(epoch FROM t[3] - created_at) * 1000,
            steps = p_steps || jsonb_build_array(step_timing('upsert_lead', t[1], t[2]), step_timing('save_results', t[2], t[3]),
                                                 step_timing('complete', t[3], clock_timestamp()))
        WHERE run_id = p_run_id RETURNING * INTO run;
    END IF;
    RETURN jsonb_build_object('status', run.status, 'error_code', run.error_code, 'lead_id', run.lead_id, 'analysis_id', run.id,
                              'total_cost_micro_usd', run.total_cost_micro_usd, 'steps', run.steps);
END
$$;

-- Cancels a run of the caller's and refunds it. p_seed (what the progress item knows) serves for a run that was accepted but not
-- admitted yet: it is recorded as cancelled, and its admission will find that.
CREATE OR REPLACE FUNCTION cancel_analysis(p_run_id text, p_seed jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    run analyses;
    refunded integer := 0;
    v_cost jsonb;
    spenders CONSTANT uuid[] := ARRAY(SELECT m.account_id FROM account_members m
        WHERE m.user_id = (SELECT auth.uid()) AND m.role <> 'viewer' AND m.account_id IN (SELECT user_account_ids()));
    was text;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id AND account_id IN (SELECT user_account_ids()) AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND AND (p_seed ->> 'account_id')::uuid = ANY (spenders) THEN
        PERFORM record_ended_run(p_run_id, p_seed, 'cancelled', NULL, NULL, NULL);
        -- Its admission may have committed in between: then the row is there now, and is cancelled like any other.
        SELECT * INTO run FROM analyses WHERE run_id = p_run_id AND account_id = ANY (spenders) AND deleted_at IS NULL FOR UPDATE;
        was := CASE WHEN run.status = 'cancelled' THEN 'pending' END;
    END IF;
    IF run.id IS NULL THEN
        RETURN jsonb_build_object('outcome', 'not_found');
    ELSIF NOT run.account_id = ANY (spenders) THEN
        RETURN jsonb_build_object('outcome', 'forbidden');
    END IF;
    was := coalesce(was, run.status);
    IF run.status IN ('pending', 'processing') THEN
        refunded := refund_run(p_run_id);
        v_cost := run_cost(p_run_id);
        UPDATE analyses SET status = 'cancelled', completed_at = clock_timestamp(), cost = v_cost,
            total_cost_micro_usd = (v_cost ->> 'total_micro_usd')::bigint,
            processing_duration_ms = extract(epoch FROM clock_timestamp() - coalesce(started_at, created_at)) * 1000
        WHERE run_id = p_run_id RETURNING * INTO run;
    END IF;
    RETURN jsonb_build_object('outcome', run.status, 'was', was, 'account_id', run.account_id, 'credits_refunded',
        CASE WHEN run.status = 'cancelled' THEN run.credits_charged ELSE 0 END, 'newly', refunded > 0 OR was IN ('pending', 'processing'));
END
$$;

-- Nobody runs anything here by default (Supabase would let every API role run every new function).
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
             AND p.proowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
             AND p.proname NOT IN ('user_account_ids', 'caller_account') LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, anon, authenticated, service_role', f);
    END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION analysis_credits(text) TO authenticated, service_role;
GRANT EXECUTE ON FUNCTION run_is_stuck(text, text, timestamptz) TO authenticated, service_role;
GRANT EXECUTE ON FUNCTION cancel_analysis(text, jsonb) TO authenticated;
GRANT EXECUTE ON FUNCTION admit_analysis(text, jsonb), begin_task(text), begin_call(text, text), record_scrape_run(text, text, text),
    record_vendor_calls(text, jsonb, text, jsonb), complete_analysis(text, jsonb, jsonb, jsonb, boolean, jsonb),
    fail_run(text, text, jsonb, jsonb, jsonb), refund_run(text), deduct_credits_atomic(uuid, integer, text, text),
    grant_credits(uuid, integer, text, text, text, jsonb, uuid), chargeback_credits(uuid, integer, text, text) TO service_role;
