-- Bulk analyses: many runs that were requested together. A batch is nothing but its runs, which share a `batch_id`; what the API reports
-- about it is counted from them. The Actor run that fetches a group's profiles is recorded with each of the group's runs, in the column in
-- which a single run records its own: a redelivered message resumes it, and a run whose profile has left the cache reads it from there.

-- --- For the API -------------------------------------------------------------------------------------------------------

-- Records the runs of a batch as pending, in one transaction with the claim of the request's idempotency key, if it has one. The function
-- checks everything itself. p_runs is [{"run_id", "username"}], at most a hundred. Batches of an account run one after the other, at most
-- 200 runs an hour. `outcome` is created (also for the runs that an earlier request with the same key recorded before it died),
-- no_account, forbidden, no_profile, suspended (by a dispute), insufficient, too_many, duplicates if every handle is being analyzed already, or key_claimed with the
-- claim of claim_idempotency_key.
CREATE OR REPLACE FUNCTION create_bulk_analyses(p_account_id uuid, p_profile_id uuid, p_type text, p_batch_id text, p_runs jsonb,
    p_key text DEFAULT NULL, p_hash text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_user CONSTANT uuid := (SELECT auth.uid());
    v_price CONSTANT integer := analysis_credits(p_type);
    v_earliest CONSTANT timestamptz := clock_timestamp() - interval '1 hour';
    v_latest CONSTANT timestamptz := clock_timestamp() + interval '1 minute';
    v_count CONSTANT integer := CASE WHEN jsonb_typeof(p_runs) = 'array' THEN jsonb_array_length(p_runs) ELSE 0 END;
    v_handles text[];
    v_account uuid;
    v_refused jsonb;
    v_batch text := p_batch_id;
    v_available integer;
    v_disputed boolean;
    v_claim jsonb;
    v_refusal text;
    v_stuck text[];
    v_runs jsonb;
    v_running jsonb;
BEGIN
    SELECT account_id, refusal INTO v_account, v_refused FROM caller_writable_account(p_account_id);
    IF v_refused IS NOT NULL THEN
        RETURN v_refused;
    END IF;
    IF v_price IS NULL OR v_count NOT BETWEEN 1 AND 100 OR p_batch_id !~ '^batch_[0-9a-f]{32}$'
       OR (run_id_time('run_' || substr(p_batch_id, 7)) BETWEEN v_earliest AND v_latest) IS NOT TRUE
       OR EXISTS (SELECT 1 FROM jsonb_to_recordset(p_runs) AS r (run_id text, username text)
                  WHERE (run_id_time(r.run_id) BETWEEN v_earliest AND v_latest) IS NOT TRUE
                     OR (r.username ~ '^[a-z0-9_]([a-z0-9._]{0,28}[a-z0-9_])?$' AND r.username NOT LIKE '%..%') IS NOT TRUE)
       OR EXISTS (SELECT 1 FROM analyses WHERE batch_id = p_batch_id AND account_id <> v_account) THEN
        RAISE EXCEPTION 'not a batch that the API creates' USING ERRCODE = 'OS400';
    END IF;
    v_handles := ARRAY(SELECT r ->> 'username' FROM jsonb_array_elements(p_runs) r);
    -- Before anything is claimed or counted: batches of an account run one after the other, and each counts those before it.
    PERFORM 1 FROM accounts WHERE id = v_account FOR NO KEY UPDATE;
    -- A statement that is retried after its connection broke finds its own key.
    IF p_key IS NOT NULL AND NOT EXISTS (SELECT 1 FROM idempotency_keys
                                         WHERE account_id = v_account AND user_id = v_user AND key = p_key AND work_id = p_batch_id) THEN
        v_claim := claim_idempotency_key(v_account, p_key, p_hash, p_batch_id);
        IF v_claim ->> 'outcome' <> 'claimed' THEN
            RETURN jsonb_build_object('outcome', 'key_claimed', 'claim', v_claim);
        END IF;
        v_batch := v_claim ->> 'work_id';
        -- The key may have been claimed for something other than a batch.
        IF v_batch !~ '^batch_[0-9a-f]{32}$' OR EXISTS (SELECT 1 FROM analyses WHERE batch_id = v_batch AND account_id <> v_account) THEN
            RAISE EXCEPTION 'not a batch that the API creates' USING ERRCODE = 'OS400';
        END IF;
    END IF;
    SELECT current_balance, disputed_since IS NOT NULL INTO v_available, v_disputed FROM credit_balances WHERE account_id = v_account;
    IF NOT EXISTS (SELECT 1 FROM analyses WHERE batch_id = v_batch AND account_id = v_account) THEN
        v_refusal := CASE
            WHEN NOT EXISTS (SELECT 1 FROM business_profiles WHERE id = p_profile_id AND account_id = v_account AND deleted_at IS NULL) THEN 'no_profile'
            WHEN v_disputed THEN 'suspended'
            WHEN coalesce(v_available, 0) < v_price THEN 'insufficient'
            -- As many as the API's limit allows in any hour: two of its windows may fall into one. Runs of deleted leads count: they
            -- were analyzed, whatever became of their leads.
            WHEN (SELECT count(*) FROM analyses WHERE account_id = v_account AND created_at > v_earliest AND batch_id IS NOT NULL)
                 + v_count > 200 THEN 'too_many' END;
        IF v_refusal IS NULL THEN
            -- Locks all runs before any balance, and in one order.
            v_stuck := ARRAY(SELECT a.run_id FROM analyses a
                WHERE a.account_id = v_account AND a.business_profile_id = p_profile_id AND a.username = ANY (v_handles)
                  AND run_is_stuck(a.status, a.batch_id, a.last_step_at)
                ORDER BY a.run_id FOR UPDATE);
            PERFORM fail_run(s.run_id, 'TIMED_OUT', jsonb_build_object('replaced_by', v_batch)) FROM unnest(v_stuck) AS s (run_id);
            -- In the order of handles: two batches that share handles wait for each other in one direction only.
            INSERT INTO analyses (run_id, batch_id, account_id, business_profile_id, requested_by, username, analysis_type, status)
            SELECT r.run_id, v_batch, v_account, p_profile_id, v_user, r.username, p_type, 'pending'
            FROM jsonb_to_recordset(p_runs) AS r (run_id text, username text) ORDER BY r.username
            ON CONFLICT DO NOTHING;
        END IF;
    END IF;
    SELECT jsonb_agg(jsonb_build_object('run_id', a.run_id, 'username', a.username, 'status', a.status) ORDER BY a.run_id) INTO v_runs
    FROM analyses a WHERE a.batch_id = v_batch AND a.account_id = v_account;
    SELECT jsonb_object_agg(a.username, a.run_id) INTO v_running
    FROM analyses a WHERE a.account_id = v_account AND a.business_profile_id = p_profile_id AND a.username = ANY (v_handles)
      AND a.status IN ('pending', 'processing') AND a.batch_id IS DISTINCT FROM v_batch;
    IF v_runs IS NULL THEN
        v_refusal := coalesce(v_refusal, 'duplicates');
        -- A rejected request leaves its key unused.
        DELETE FROM idempotency_keys WHERE account_id = v_account AND user_id = v_user AND key = p_key AND work_id = v_batch AND answer IS NULL;
    END IF;
    RETURN jsonb_build_object('outcome', coalesce(v_refusal, 'created'), 'account_id', v_account, 'batch_id', v_batch,
        'available', coalesce(v_available, 0), 'runs', coalesce(v_runs, '[]'), 'running', coalesce(v_running, '{}'));
END
$$;

-- Cancels what has not ended of a batch and refunds it or keeps its charge (cancellation_keeps_charge), in one transaction. What has ended
-- stays as it is; a second call returns the same.
CREATE OR REPLACE FUNCTION cancel_batch(p_batch_id text, p_account_id uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_runs analyses[];
    run analyses;
    v_accounts CONSTANT uuid[] := ARRAY(SELECT DISTINCT a.account_id FROM analyses a
        WHERE a.batch_id = p_batch_id AND a.account_id IN (SELECT user_account_ids()) AND (p_account_id IS NULL OR a.account_id = p_account_id));
    newly integer := 0;
    refunded integer := 0;
BEGIN
    PERFORM 1 FROM accounts WHERE id = ANY (v_accounts) ORDER BY id FOR NO KEY UPDATE;
    -- Locks all runs before any balance, and in one order.
    v_runs := ARRAY(SELECT a FROM analyses a
        WHERE a.batch_id = p_batch_id AND a.account_id IN (SELECT user_account_ids()) AND a.deleted_at IS NULL
          AND (p_account_id IS NULL OR a.account_id = p_account_id)
        ORDER BY a.run_id FOR UPDATE);
    IF cardinality(v_runs) = 0 THEN
        RETURN jsonb_build_object('outcome', 'not_found');
    ELSIF EXISTS (SELECT 1 FROM unnest(v_runs) r WHERE NOT caller_may_write(r.account_id)) THEN
        RETURN jsonb_build_object('outcome', 'forbidden');
    END IF;
    FOREACH run IN ARRAY v_runs LOOP
        IF run.status IN ('pending', 'processing') THEN
            newly := newly + 1;
            run := end_run(run, 'cancelled', p_keep => cancellation_keeps_charge(run));
            refunded := refunded + CASE WHEN run.charge_kept THEN 0 ELSE run.credits_charged END;
        END IF;
    END LOOP;
    RETURN (SELECT jsonb_build_object('outcome', 'cancelled', 'newly', newly, 'newly_refunded', refunded, 'total', count(*),
            'cancelled', count(*) FILTER (WHERE a.status = 'cancelled'), 'completed', count(*) FILTER (WHERE a.status = 'completed'),
            'failed', count(*) FILTER (WHERE a.status = 'failed'),
            'credits_refunded', coalesce(sum(a.credits_charged) FILTER (WHERE a.status = 'cancelled' AND NOT a.charge_kept), 0),
            'credits_kept', coalesce(sum(a.credits_charged) FILTER (WHERE a.charge_kept), 0),
            'refunded_cost', jsonb_build_object('used_micro_usd', (SELECT sum(refunded_cost(id)) FROM unnest(v_accounts) id),
                                                'limit_micro_usd', refunded_cost_limit()),
            -- Those whose execution may be running.
            'begun', coalesce(jsonb_agg(a.run_id ORDER BY a.run_id) FILTER (WHERE a.status = 'cancelled' AND a.started_at IS NOT NULL), '[]'))
        FROM analyses a WHERE a.run_id IN (SELECT r.run_id FROM unnest(v_runs) r));
END
$$;

-- --- For the queue's consumers -------------------------------------------------------------------------------------------

-- The runs of a group that still wait to be started. First ends those that cannot be: of a business profile or an account that is gone,
-- that may not spend, or that the balance, generously estimated, cannot pay for. Notes that the others move.
CREATE OR REPLACE FUNCTION begin_bulk_group(p_batch_id text, p_run_ids text[]) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_runs CONSTANT analyses[] := ARRAY(SELECT a FROM analyses a
        WHERE a.batch_id = p_batch_id AND a.run_id = ANY (p_run_ids) AND a.status = 'pending' ORDER BY a.run_id FOR UPDATE);
    run analyses;
    v_available integer;
    v_disputed boolean;
    v_before bigint;
BEGIN
    FOREACH run IN ARRAY v_runs LOOP
        IF NOT EXISTS (SELECT 1 FROM business_profiles p JOIN accounts a ON a.id = p.account_id
                       WHERE p.id = run.business_profile_id AND p.account_id = run.account_id AND p.deleted_at IS NULL
                         AND a.deleted_at IS NULL AND NOT a.is_suspended) THEN
            PERFORM end_run(run, 'failed', 'BUSINESS_PROFILE_NOT_FOUND');
            CONTINUE;
        END IF;
        SELECT current_balance, disputed_since IS NOT NULL INTO v_available, v_disputed FROM credit_balances WHERE account_id = run.account_id;
        IF v_disputed THEN
            PERFORM end_run(run, 'failed', 'SPENDING_SUSPENDED');
            CONTINUE;
        END IF;
        -- How many of its batch wait before it. Twice as many as the balance pays for, and a group more, are attempted, since some will
        -- turn out to be private or gone; a scrape of the rest would cost us without a result.
        SELECT count(*) INTO v_before FROM analyses a
        WHERE a.batch_id = p_batch_id AND a.account_id = run.account_id AND a.status = 'pending' AND a.run_id < run.run_id;
        IF coalesce(v_available, 0) < analysis_credits(run.analysis_type)
           OR v_before >= 2 * (coalesce(v_available, 0) / analysis_credits(run.analysis_type)) + 10 THEN
            PERFORM end_run(run, 'failed', 'INSUFFICIENT_CREDITS',
                jsonb_build_object('available', coalesce(v_available, 0), 'required', analysis_credits(run.analysis_type)));
        END IF;
    END LOOP;
    UPDATE analyses SET last_step_at = clock_timestamp() WHERE run_id IN (SELECT r.run_id FROM unnest(v_runs) r) AND status = 'pending';
    RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('scrape_run_id', a.scrape_run_id, 'run', jsonb_build_object(
            'run_id', a.run_id, 'account_id', a.account_id, 'business_profile_id', a.business_profile_id, 'username', a.username,
            'requested_by', coalesce(a.requested_by, '00000000-0000-0000-0000-000000000000'), 'tier', a.analysis_type,
            'requested_at_ms', floor(extract(epoch FROM a.created_at) * 1000)::bigint)) ORDER BY a.run_id), '[]')
        FROM analyses a WHERE a.run_id IN (SELECT r.run_id FROM unnest(v_runs) r) AND a.status = 'pending');
END
$$;

-- Records the Actor run that fetches these profiles (or removes it, with null) if the recorded one is p_replaces. Returns the one to wait
-- for, which is the first if several were started; null if none of the runs waits any longer.
CREATE OR REPLACE FUNCTION record_group_scrape_run(p_batch_id text, p_run_ids text[], p_scrape_run_id text, p_replaces text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM 1 FROM analyses WHERE batch_id = p_batch_id AND run_id = ANY (p_run_ids) AND status = 'pending' ORDER BY run_id FOR UPDATE;
    UPDATE analyses SET scrape_run_id = p_scrape_run_id, last_step_at = clock_timestamp()
    WHERE batch_id = p_batch_id AND run_id = ANY (p_run_ids) AND status = 'pending' AND scrape_run_id IS NOT DISTINCT FROM p_replaces;
    RETURN (SELECT min(scrape_run_id) FROM analyses WHERE batch_id = p_batch_id AND run_id = ANY (p_run_ids) AND status = 'pending');
END
$$;

-- Records the cost of a group's Actor run, once, in shares that add up to it to the millionth. The first share has the Actor run's own id,
-- under which a single run would record it: a run that reads from it later adds nothing.
CREATE OR REPLACE FUNCTION record_group_scrape_cost(p_batch_id text, p_run_ids text[], p_call jsonb) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_id CONSTANT text := p_call ->> 'response_id';
    v_cost CONSTANT bigint := coalesce((p_call ->> 'cost_micro_usd')::bigint, 0);
    v_shares integer;
BEGIN
    IF EXISTS (SELECT 1 FROM ai_usage_logs WHERE provider = 'apify' AND response_id = v_id) THEN
        RETURN 0;
    END IF;
    INSERT INTO ai_usage_logs (id, account_id, run_id, provider, api_call_type, status, error_message, response_id, cost_micro_usd, cost_known, duration_ms,
        started_at)
    SELECT gen_random_uuid(), r.account_id, r.run_id, 'apify', 'scrape', p_call ->> 'status', p_call ->> 'error_message',
        CASE r.no WHEN 0 THEN v_id ELSE v_id || ':' || r.run_id END, v_cost / r.shares + CASE WHEN r.no < v_cost % r.shares THEN 1 ELSE 0 END,
        coalesce((p_call ->> 'cost_known')::boolean, true), (p_call ->> 'duration_ms')::integer, to_timestamp((p_call ->> 'started_at_ms')::bigint / 1000.0)
    FROM (SELECT a.account_id, a.run_id, row_number() OVER (ORDER BY a.run_id) - 1 AS no, count(*) OVER () AS shares
          FROM analyses a WHERE a.batch_id = p_batch_id AND a.run_id = ANY (p_run_ids)) r
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_shares = ROW_COUNT;
    PERFORM update_costs(p_run_ids);
    RETURN v_shares;
END
$$;

-- Fails those of the runs that were not admitted, which costs no account anything. Returns how many.
CREATE OR REPLACE FUNCTION fail_pending_runs(p_batch_id text, p_run_ids text[], p_code text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_runs CONSTANT analyses[] := ARRAY(SELECT a FROM analyses a
        WHERE a.batch_id = p_batch_id AND a.run_id = ANY (p_run_ids) AND a.status = 'pending' ORDER BY a.run_id FOR UPDATE);
    run analyses;
BEGIN
    FOREACH run IN ARRAY v_runs LOOP
        PERFORM end_run(run, 'failed', p_code);
    END LOOP;
    RETURN cardinality(v_runs);
END
$$;
