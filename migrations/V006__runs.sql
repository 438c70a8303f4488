-- The life of a run, one function a transaction: admitted and charged, or rejected; completed with its lead; failed or cancelled with its
-- refund. Each function locks the run first and the balance last, may be called twice, and returns the state that it found.

-- How long a run may pause between two steps before another of the same handle may replace it, and the hourly schedule ends it. Longer than
-- the retries of a throttled function or a full database last (infra/analysis.asl.json: up to eleven minutes).
CREATE OR REPLACE FUNCTION run_is_stuck(p_status text, p_batch_id text, p_last_step_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT p_status IN ('pending', 'processing') AND p_last_step_at < clock_timestamp()
        - CASE WHEN p_status = 'pending' AND p_batch_id IS NOT NULL THEN interval '1 hour' ELSE interval '15 minutes' END
$$;

CREATE OR REPLACE FUNCTION step_timing(p_step text, p_start timestamptz, p_end timestamptz) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('step', p_step, 'started_at_ms', floor(extract(epoch FROM p_start) * 1000)::bigint,
                              'duration_us', floor(extract(epoch FROM p_end - p_start) * 1000000)::bigint)
$$;

-- The time at which a run id was made: it is a UUIDv7, whose first 48 bits are milliseconds. Null for any other id.
CREATE OR REPLACE FUNCTION run_id_time(p_run_id text) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE WHEN p_run_id ~ '^run_[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}$'
        THEN to_timestamp(('x' || substr(p_run_id, 5, 12))::bit(48)::bigint / 1000.0) END
$$;

-- What vendors charged for a run so far, by provider and call. `unknown_calls` counts the calls whose cost is not known and not in the sums.
CREATE OR REPLACE FUNCTION run_cost(p_run_id text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT jsonb_build_object(
        'total_micro_usd', coalesce(sum(cost_micro_usd), 0),
        'apify_micro_usd', coalesce(sum(cost_micro_usd) FILTER (WHERE provider = 'apify'), 0),
        'openai_micro_usd', coalesce(sum(cost_micro_usd) FILTER (WHERE provider = 'openai'), 0),
        'anthropic_micro_usd', coalesce(sum(cost_micro_usd) FILTER (WHERE provider = 'anthropic'), 0),
        'unknown_calls', count(*) FILTER (WHERE NOT cost_known),
        'calls', coalesce(jsonb_agg(jsonb_build_object(
            'call', api_call_type, 'provider', provider, 'model', model, 'status', status, 'input_tokens', input_tokens,
            'cached_input_tokens', cached_input_tokens, 'output_tokens', output_tokens, 'reasoning_tokens', reasoning_tokens,
            'cost_micro_usd', CASE WHEN cost_known THEN cost_micro_usd END, 'duration_ms', duration_ms) ORDER BY started_at), '[]'))
    FROM ai_usage_logs WHERE run_id = p_run_id
$$;

-- --- Ends without a result ---------------------------------------------------------------------------------------------------

-- Ends a live run without a result, with its refund (unless p_keep) and its costs; a run that has ended stays as it is. The caller holds its
-- lock.
CREATE OR REPLACE FUNCTION end_run(p_run analyses, p_status text, p_code text DEFAULT NULL, p_details jsonb DEFAULT NULL, p_steps jsonb DEFAULT '[]',
                                   p_keep boolean DEFAULT false)
RETURNS analyses
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_cost jsonb;
BEGIN
    IF p_run.status IN ('pending', 'processing') THEN
        IF NOT p_keep THEN
            PERFORM refund_run(p_run.run_id);
        END IF;
        v_cost := run_cost(p_run.run_id);
        UPDATE analyses SET status = p_status, error_code = p_code, error_details = p_details, completed_at = clock_timestamp(), charge_kept = p_keep,
            steps = CASE WHEN p_steps = '[]' THEN steps ELSE p_steps END, cost = v_cost, total_cost_micro_usd = (v_cost ->> 'total_micro_usd')::bigint,
            processing_duration_ms = extract(epoch FROM clock_timestamp() - coalesce(started_at, created_at)) * 1000
        WHERE run_id = p_run.run_id RETURNING * INTO p_run;
    END IF;
    RETURN p_run;
END
$$;

-- Ends a run without a result and refunds it. A run whose row does not exist (its admission never committed) gets a failed row if its
-- input is given, so that its user can read the reason. A terminal run stays as it is. Returns the status that holds.
CREATE OR REPLACE FUNCTION fail_run(p_run_id text, p_code text, p_details jsonb DEFAULT NULL, p_steps jsonb DEFAULT '[]', p_input jsonb DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    run analyses;
    was_live boolean;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    IF NOT FOUND AND p_input IS NOT NULL THEN
        PERFORM record_ended_run(p_run_id, p_input, 'failed', p_code, p_details, NULL);
        -- Its admission may have committed in between: then the row exists now, charged, and fails like any other.
        SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    END IF;
    IF run.account_id <> (p_input ->> 'account_id')::uuid THEN
        -- An execution may name another account's run id, if its client chose it. That run stays as it is.
        RETURN jsonb_build_object('status', NULL, 'error_code', NULL, 'account_id', NULL, 'credits_refunded', 0);
    END IF;
    was_live := run.status IN ('pending', 'processing');
    run := end_run(run, 'failed', p_code, p_details, p_steps);
    RETURN jsonb_build_object('status', run.status, 'error_code', run.error_code, 'account_id', run.account_id,
        'credits_refunded', CASE WHEN was_live THEN run.credits_charged ELSE 0 END);
END
$$;

-- Inserts a row for a run that ended before it was admitted: nothing was charged. p_input is the run's input.
CREATE OR REPLACE FUNCTION record_ended_run(p_run_id text, p_input jsonb, p_status text, p_code text, p_details jsonb, p_batch_id text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO analyses (run_id, batch_id, account_id, business_profile_id, requested_by, username, analysis_type, status,
                          error_code, error_details, completed_at, processing_duration_ms)
    SELECT p_run_id, p_batch_id, (p_input ->> 'account_id')::uuid,
           (SELECT id FROM business_profiles WHERE id = (p_input ->> 'business_profile_id')::uuid AND account_id = (p_input ->> 'account_id')::uuid),
           (SELECT id FROM users WHERE id = (p_input ->> 'requested_by')::uuid),
           p_input ->> 'username', p_input ->> 'tier', p_status, p_code, p_details, clock_timestamp(), 0
    ON CONFLICT (run_id) DO NOTHING
$$;

-- --- Admission ---------------------------------------------------------------------------------------------------------------

-- Steps 2 to 5 in one transaction: the record, the duplicate check, the credit check, the charge. `outcome` is admitted, or the status that
-- the run ended with; `error_code` is the reason for a rejection. A rejected run keeps its row, failed and uncharged, so that its user can read the reason. The result of a rejection
-- before the admission is read from the row, because a cancellation may have recorded the run as cancelled in the meantime.
CREATE OR REPLACE FUNCTION admit_analysis(p_run_id text, p_input jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_account CONSTANT uuid := (p_input ->> 'account_id')::uuid;
    v_profile CONSTANT uuid := (p_input ->> 'business_profile_id')::uuid;
    v_username CONSTANT text := p_input ->> 'username';
    v_type CONSTANT text := p_input ->> 'tier';
    v_price CONSTANT integer := analysis_credits(v_type);
    t timestamptz[] := ARRAY[clock_timestamp()];
    run analyses;
    other analyses;
    available integer;
    disputed boolean;
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
            PERFORM record_ended_run(p_run_id, p_input, 'failed', 'BUSINESS_PROFILE_NOT_FOUND', NULL, NULL);
            CONTINUE; -- the result is read from the row, which a cancellation may have inserted first
        END IF;
        -- The insert is the duplicate check: the unique index waits for the other run's transaction, so there is no gap between
        -- check and write.
        INSERT INTO analyses (run_id, account_id, business_profile_id, requested_by, username, analysis_type, status, created_at)
        VALUES (p_run_id, v_account, v_profile, (SELECT id FROM users WHERE id = (p_input ->> 'requested_by')::uuid), v_username, v_type,
                'pending', coalesce(to_timestamp((p_input ->> 'requested_at_ms')::bigint / 1000.0), now()))
        ON CONFLICT DO NOTHING RETURNING * INTO run;
        EXIT WHEN FOUND;
        t[2] := clock_timestamp();
        SELECT * INTO other FROM analyses
        WHERE account_id = v_account AND business_profile_id = v_profile AND username = v_username
          AND status IN ('pending', 'processing') AND run_id <> p_run_id;
        IF FOUND AND NOT run_is_stuck(other.status, other.batch_id, other.last_step_at) THEN
            PERFORM record_ended_run(p_run_id, p_input, 'failed', 'DUPLICATE_ANALYSIS', jsonb_build_object('run_id', other.run_id), NULL);
            CONTINUE;
        ELSIF FOUND THEN
            PERFORM fail_run(other.run_id, 'TIMED_OUT', jsonb_build_object('replaced_by', p_run_id));
        END IF;
    END LOOP;
    t[2] := coalesce(t[2], clock_timestamp());
    t[3] := clock_timestamp();
    SELECT current_balance, disputed_since IS NOT NULL INTO available, disputed FROM credit_balances WHERE account_id = v_account FOR UPDATE;
    t[4] := clock_timestamp();
    IF disputed OR coalesce(available, 0) < v_price THEN
        UPDATE analyses SET status = 'failed', error_code = CASE WHEN disputed THEN 'SPENDING_SUSPENDED' ELSE 'INSUFFICIENT_CREDITS' END,
            error_details = CASE WHEN disputed THEN NULL ELSE jsonb_build_object('available', coalesce(available, 0), 'required', v_price) END,
            completed_at = clock_timestamp(), processing_duration_ms = 0
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

-- --- Tasks -------------------------------------------------------------------------------------------------------------------

-- Returns a run at the start of a task, and notes that it moves if it is still in progress. No row if there is no such run. The row is locked
-- before it is read, so that a task that waited for a cancellation sees it.
CREATE OR REPLACE FUNCTION begin_step(p_run_id text, p_percent smallint) RETURNS SETOF analyses
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    run analyses;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    IF FOUND THEN
        UPDATE analyses SET last_step_at = clock_timestamp(), percent = greatest(percent, p_percent)
        WHERE run_id = p_run_id AND status = 'processing';
        RETURN NEXT run;
    END IF;
END
$$;

-- Called at the start of a task: returns whether the run is still in progress, and the Actor run to wait for.
CREATE OR REPLACE FUNCTION begin_task(p_run_id text) RETURNS TABLE (status text, error_code text, scrape_run_id text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT run.status, run.error_code, run.scrape_run_id FROM begin_step(p_run_id, 20::smallint) run
$$;

-- Records the Actor run that fetches the profile. The first one wins: a concurrent attempt of the task learns which one to wait for.
CREATE OR REPLACE FUNCTION record_scrape_run(p_run_id text, p_scrape_run_id text, p_replaces text DEFAULT NULL) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE analyses
    SET scrape_run_id = CASE WHEN scrape_run_id IS NOT DISTINCT FROM p_replaces THEN p_scrape_run_id ELSE scrape_run_id END,
        last_step_at = clock_timestamp(), percent = greatest(percent, 30)
    WHERE run_id = p_run_id AND status = 'processing'
    RETURNING scrape_run_id
$$;

-- How far each answer moves the percentage from 50 to 80, by the number of a tier's questions. A test compares it with `domain`.
CREATE OR REPLACE FUNCTION answered_percent(p_type text, p_answers jsonb) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (50 + 30 * least(count(*), calls) / calls)::smallint
    FROM jsonb_object_keys(p_answers), (SELECT CASE p_type WHEN 'light' THEN 1 WHEN 'deep' THEN 3 WHEN 'xray' THEN 4 END AS calls) c
    GROUP BY calls
$$;

-- Adds up the costs of runs again that have ended: a call that ends after its run is recorded later, and some costs are known later still.
CREATE OR REPLACE FUNCTION update_costs(p_run_ids text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM 1 FROM analyses WHERE run_id = ANY (p_run_ids) AND cost IS NOT NULL ORDER BY run_id FOR UPDATE;
    UPDATE analyses a SET cost = c.cost, total_cost_micro_usd = (c.cost ->> 'total_micro_usd')::bigint
    FROM (SELECT run_id, run_cost(run_id) AS cost FROM unnest(p_run_ids) run_id) c
    WHERE a.run_id = c.run_id AND a.cost IS NOT NULL;
END
$$;

-- Records vendor calls, each once, and stores the first answer to a question. Calls are recorded even if the run has ended in the
-- meantime: they were paid. Returns the run's status.
CREATE OR REPLACE FUNCTION record_vendor_calls(p_run_id text, p_calls jsonb, p_call text DEFAULT NULL, p_output jsonb DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    run analyses;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    INSERT INTO ai_usage_logs (id, account_id, run_id, provider, model, api_call_type, status, error_message, response_id, input_tokens,
        cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_micro_usd, cost_known, duration_ms, started_at)
    SELECT c.id, run.account_id, p_run_id, c.provider, c.model, c.api_call_type, c.status, c.error_message, c.response_id,
        coalesce(c.input_tokens, 0), coalesce(c.cached_input_tokens, 0), coalesce(c.cache_write_tokens, 0), coalesce(c.output_tokens, 0),
        coalesce(c.reasoning_tokens, 0), coalesce(c.cost_micro_usd, 0), coalesce(c.cost_known, true), coalesce(c.duration_ms, 0), to_timestamp(c.started_at_ms / 1000.0)
    FROM jsonb_to_recordset(p_calls) AS c (id uuid, provider text, model text, api_call_type text, status text, error_message text,
        response_id text, input_tokens bigint, cached_input_tokens bigint, cache_write_tokens bigint, output_tokens bigint,
        reasoning_tokens bigint, cost_micro_usd bigint, cost_known boolean, duration_ms integer, started_at_ms bigint)
    WHERE run.account_id IS NOT NULL
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM update_costs(ARRAY[p_run_id]);
    END IF;
    IF p_output IS NOT NULL AND run.status = 'processing' THEN
        run.ai_answers := jsonb_build_object(p_call, p_output) || run.ai_answers;
        UPDATE analyses SET last_step_at = clock_timestamp(), ai_answers = run.ai_answers,
            percent = greatest(percent, answered_percent(run.analysis_type, run.ai_answers))
        WHERE run_id = p_run_id;
    END IF;
    RETURN run.status;
END
$$;

-- Records a vendor call that belongs to an account but to no run: the scrape of a refresh check. Each call has one row, however often it
-- is recorded.
CREATE OR REPLACE FUNCTION record_account_call(p_account_id uuid, p_call jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO ai_usage_logs (id, account_id, provider, model, api_call_type, status, error_message, response_id, cost_micro_usd, cost_known,
        duration_ms, started_at)
    SELECT c.id, p_account_id, c.provider, c.model, c.api_call_type, c.status, c.error_message, c.response_id, coalesce(c.cost_micro_usd, 0),
        coalesce(c.cost_known, true), coalesce(c.duration_ms, 0), to_timestamp(c.started_at_ms / 1000.0)
    FROM jsonb_to_record(p_call) AS c (id uuid, provider text, model text, api_call_type text, status text, error_message text, response_id text,
        cost_micro_usd bigint, cost_known boolean, duration_ms integer, started_at_ms bigint)
    ON CONFLICT DO NOTHING
$$;

-- Some Actor runs whose cost is to be read again, those first that were not read for longest, so that one that stays unknown does not keep
-- others waiting. Apify settles a cost within seconds, and keeps Actor runs for some days.
CREATE OR REPLACE FUNCTION take_unsettled_scrapes(p_limit integer) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH taken AS (
        UPDATE ai_usage_logs SET cost_read_at = now() WHERE id IN (
            SELECT id FROM ai_usage_logs
            WHERE NOT cost_known AND provider = 'apify' AND position(':' IN response_id) = 0 AND created_at > now() - interval '3 days'
              AND coalesce(cost_read_at, created_at) < now() - interval '15 seconds'
            ORDER BY coalesce(cost_read_at, created_at) LIMIT p_limit FOR UPDATE SKIP LOCKED)
        RETURNING response_id
    )
    SELECT coalesce(jsonb_agg(response_id), '[]') FROM taken
$$;

-- Records what an Actor run cost that was recorded without: in its one row, or in the shares of a group (`record_group_scrape_cost`), and in
-- the costs of the runs that have ended since. Returns how many rows were settled; none if another call was faster.
CREATE OR REPLACE FUNCTION settle_scrape_cost(p_actor_run_id text, p_cost bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_runs text[];
    v_settled integer;
BEGIN
    SELECT array_agg(run_id) INTO v_runs FROM ai_usage_logs
    WHERE NOT cost_known AND provider = 'apify' AND split_part(response_id, ':', 1) = p_actor_run_id;
    -- A run that ends now either counts the new cost itself or is seen here.
    PERFORM 1 FROM analyses WHERE run_id = ANY (v_runs) ORDER BY run_id FOR UPDATE;
    WITH unsettled AS (
        SELECT id, run_id FROM ai_usage_logs
        WHERE NOT cost_known AND provider = 'apify' AND split_part(response_id, ':', 1) = p_actor_run_id ORDER BY id FOR UPDATE
    ), shares AS (
        SELECT id, row_number() OVER (ORDER BY run_id) - 1 AS no, count(*) OVER () AS shares FROM unsettled
    )
    UPDATE ai_usage_logs l
    SET cost_known = true, cost_micro_usd = p_cost / s.shares + CASE WHEN s.no < p_cost % s.shares THEN 1 ELSE 0 END
    FROM shares s WHERE l.id = s.id;
    GET DIAGNOSTICS v_settled = ROW_COUNT;
    IF v_settled > 0 THEN
        PERFORM update_costs(v_runs);
    END IF;
    RETURN v_settled;
END
$$;

-- What the questions to models need, which of them have been answered already, and when the first of those was asked. Records that the run
-- moves.
CREATE OR REPLACE FUNCTION begin_analysis(p_run_id text)
RETURNS TABLE (status text, error_code text, answered text[], first_asked_at_ms bigint,
               business_name text, website text, business_one_liner text, business_context_pack jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    run analyses;
BEGIN
    SELECT * INTO run FROM begin_step(p_run_id, 50::smallint);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT run.status, run.error_code, ARRAY(SELECT jsonb_object_keys(run.ai_answers)),
            (SELECT floor(extract(epoch FROM min(l.started_at)) * 1000)::bigint FROM ai_usage_logs l
             WHERE l.run_id = p_run_id AND l.status = 'success' AND run.ai_answers ? l.api_call_type),
            p.business_name, p.website, p.business_one_liner, p.business_context_pack
        FROM (SELECT 1) one LEFT JOIN business_profiles p ON p.id = run.business_profile_id;
END
$$;

-- Steps 10 to 12 in one transaction: the lead, the results, the end. A second call changes nothing and returns the same.
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
        -- Of an entry that another account's analysis stored, the account does not learn that it existed. An entry lives seven days
        -- (`LIFETIME` in shared/domain/src/cache.rs).
        UPDATE analyses SET lead_id = v_lead, metrics = p_metrics,
            cache_hit = p_cache_hit AND EXISTS (SELECT 1 FROM analyses a WHERE a.account_id = run.account_id AND a.username = run.username
                AND a.status = 'completed' AND a.completed_at > now() - interval '7 days'),
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

-- --- Cancellation ------------------------------------------------------------------------------------------------------------
-- What vendors charge for a run is ours to pay, also if its account cancels it and gets its credits back. So an account may cost us a bounded
-- amount in any 24 hours. Beyond it a cancellation keeps the charge, if it comes after the questions to the models have begun (step 9).

-- The bound, in micro-USD.
CREATE OR REPLACE FUNCTION refunded_cost_limit() RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT 500000::bigint $$;

-- What a run costs us if it is cancelled, in micro-USD: what is recorded, and at least about what its tier's questions cost once they have
-- begun, because what they cost is recorded only when they are answered, after the cancellation. A test compares it with what is billed.
CREATE OR REPLACE FUNCTION cancelled_run_cost(p_run analyses) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT greatest((SELECT coalesce(sum(l.cost_micro_usd), 0) FROM ai_usage_logs l WHERE l.run_id = p_run.run_id),
        CASE WHEN p_run.percent < 50 THEN 0 ELSE CASE p_run.analysis_type WHEN 'light' THEN 3000 WHEN 'deep' THEN 20000 ELSE 40000 END END)::bigint
$$;

-- What the runs cost us that an account has cancelled and was refunded for within 24 hours, in micro-USD.
CREATE OR REPLACE FUNCTION refunded_cost(p_account_id uuid) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce(sum(cancelled_run_cost(a)), 0)::bigint FROM analyses a
    WHERE a.account_id = p_account_id AND a.status = 'cancelled' AND a.credits_charged > 0 AND NOT a.charge_kept
      AND a.completed_at > clock_timestamp() - interval '24 hours'
$$;

-- Whether the cancellation of a run keeps its charge. The caller holds the lock of the account, so that concurrent cancellations count each
-- other.
CREATE OR REPLACE FUNCTION cancellation_keeps_charge(p_run analyses) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT p_run.status = 'processing' AND p_run.percent >= 50 AND refunded_cost(p_run.account_id) + cancelled_run_cost(p_run) > refunded_cost_limit()
$$;

-- Whether the caller may have a run recorded that has no row yet: one of the caller's own, made within the hour, with an input that the
-- API would accept, and no more of them than the API starts in an hour. The function checks this itself and does not rely on its caller.
CREATE OR REPLACE FUNCTION caller_may_record_run(p_run_id text, p_input jsonb) RETURNS boolean
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
        FROM jsonb_to_record(p_input) AS s (account_id uuid, business_profile_id uuid, requested_by uuid, username text, tier text, requested_at_ms bigint)
        WHERE jsonb_typeof(p_input) = 'object'), false)
$$;

-- Cancels a run of the caller's and refunds it, or keeps its charge (cancellation_keeps_charge). p_input (what the progress item knows) serves
-- for a run that was accepted but not admitted yet: it is recorded as cancelled, and its admission will find that. With p_account_id the run of
-- another account is not found.
CREATE OR REPLACE FUNCTION cancel_analysis(p_run_id text, p_input jsonb DEFAULT NULL, p_account_id uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    run analyses;
    was text;
    may_spend boolean;
    v_accounts CONSTANT uuid[] := ARRAY(SELECT id FROM user_account_ids() id WHERE p_account_id IS NULL OR id = p_account_id);
BEGIN
    PERFORM 1 FROM accounts WHERE id = (SELECT account_id FROM analyses WHERE run_id = p_run_id AND account_id = ANY (v_accounts))
    FOR NO KEY UPDATE;
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id AND account_id = ANY (v_accounts) AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND AND (p_account_id IS NULL OR p_input ->> 'account_id' = p_account_id::text) AND caller_may_record_run(p_run_id, p_input) THEN
        PERFORM record_ended_run(p_run_id, p_input, 'cancelled', NULL, NULL, NULL);
        -- Its admission may have committed in between: then the row exists now, and is cancelled like any other.
        SELECT * INTO run FROM analyses WHERE run_id = p_run_id AND account_id = ANY (v_accounts) AND deleted_at IS NULL FOR UPDATE;
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
    run := end_run(run, 'cancelled', p_keep => cancellation_keeps_charge(run));
    RETURN jsonb_build_object('outcome', run.status, 'was', was, 'account_id', run.account_id, 'newly', was IN ('pending', 'processing'),
        'credits_refunded', CASE WHEN run.status = 'cancelled' AND NOT run.charge_kept THEN run.credits_charged ELSE 0 END,
        'credits_kept', CASE WHEN run.charge_kept THEN run.credits_charged ELSE 0 END,
        'refunded_cost', jsonb_build_object('used_micro_usd', refunded_cost(run.account_id), 'limit_micro_usd', refunded_cost_limit()));
END
$$;
