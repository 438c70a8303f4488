-- What a review of bulk requests and renewals found: limits that could be passed by calling the database directly, scrapes that no balance
-- pays for, an answer too long to be kept, and a month of free credits lost to a schedule that came an hour late.

-- The answer to a hundred handles, each with its reason, in the longest form that a request of 64 KB can ask for.
ALTER TABLE idempotency_keys DROP CONSTRAINT IF EXISTS idempotency_keys_answer_check;
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_answer_check CHECK (octet_length(answer) <= 131072);

-- As in V012, but: batches of an account one after the other, at most 200 an hour; the batch that a key names is looked at like any other;
-- stuck runs are locked before any balance.
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
    v_may boolean;
    v_batch text := p_batch_id;
    v_available integer;
    v_claim jsonb;
    v_refusal text;
    v_stuck text[];
    v_runs jsonb;
    v_running jsonb;
BEGIN
    SELECT account_id, can_spend INTO v_account, v_may FROM caller_account(p_account_id);
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'no_account');
    ELSIF NOT v_may THEN
        RETURN jsonb_build_object('outcome', 'forbidden');
    END IF;
    IF v_price IS NULL OR v_count NOT BETWEEN 1 AND 100 OR p_batch_id !~ '^batch_[0-9a-f]{32}$'
       OR (run_id_time('run_' || substr(p_batch_id, 7)) BETWEEN v_earliest AND v_latest) IS NOT TRUE
       OR EXISTS (SELECT 1 FROM jsonb_to_recordset(p_runs) AS r (run_id text, username text)
                  WHERE (run_id_time(r.run_id) BETWEEN v_earliest AND v_latest) IS NOT TRUE
                     OR (r.username ~ '^[a-z0-9_]([a-z0-9._]{0,28}[a-z0-9_])?$' AND r.username NOT LIKE '%..%') IS NOT TRUE)
       OR EXISTS (SELECT 1 FROM analyses WHERE batch_id = p_batch_id AND account_id <> v_account) THEN
        RAISE EXCEPTION 'not a batch that the API would make' USING ERRCODE = 'OS400';
    END IF;
    v_handles := ARRAY(SELECT r ->> 'username' FROM jsonb_array_elements(p_runs) r);
    -- A statement that was sent again after its connection broke finds its own key.
    IF p_key IS NOT NULL AND NOT EXISTS (SELECT 1 FROM idempotency_keys
                                         WHERE account_id = v_account AND user_id = v_user AND key = p_key AND work_id = p_batch_id) THEN
        v_claim := claim_idempotency_key(v_account, p_key, p_hash, p_batch_id);
        IF v_claim ->> 'outcome' <> 'claimed' THEN
            RETURN v_claim;
        END IF;
        v_batch := v_claim ->> 'work_id';
        -- Users claim keys directly too, for whatever work they like.
        IF v_batch !~ '^batch_[0-9a-f]{32}$' OR EXISTS (SELECT 1 FROM analyses WHERE batch_id = v_batch AND account_id <> v_account) THEN
            RAISE EXCEPTION 'not a batch that the API would make' USING ERRCODE = 'OS400';
        END IF;
    END IF;
    -- One batch of an account after the other: each counts those before it.
    PERFORM 1 FROM accounts WHERE id = v_account FOR NO KEY UPDATE;

    SELECT coalesce(current_balance, 0) INTO v_available FROM credit_balances WHERE account_id = v_account;
    IF NOT EXISTS (SELECT 1 FROM analyses WHERE batch_id = v_batch AND account_id = v_account) THEN
        v_refusal := CASE
            WHEN NOT EXISTS (SELECT 1 FROM business_profiles WHERE id = p_profile_id AND account_id = v_account AND deleted_at IS NULL) THEN 'no_profile'
            WHEN coalesce(v_available, 0) < v_price THEN 'insufficient'
            -- As many as the API's limit lets through in any hour (its windows of an hour meet): for whoever calls this directly.
            WHEN (SELECT count(*) FROM analyses WHERE account_id = v_account AND created_at > v_earliest AND batch_id IS NOT NULL
                  AND deleted_at IS NULL) + v_count > 200 THEN 'too_many' END;
        IF v_refusal IS NULL THEN
            -- All runs before any balance, and in one order.
            v_stuck := ARRAY(SELECT a.run_id FROM analyses a
                WHERE a.account_id = v_account AND a.business_profile_id = p_profile_id AND a.username = ANY (v_handles)
                  AND run_is_stuck(a.status, a.batch_id, a.last_step_at)
                ORDER BY a.run_id FOR UPDATE);
            PERFORM fail_run(s.run_id, 'TIMED_OUT', jsonb_build_object('replaced_by', v_batch)) FROM unnest(v_stuck) AS s (run_id);
            -- In the order of handles: two batches that share some wait for each other in one direction only.
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
        -- A request that was refused leaves its key unused.
        DELETE FROM idempotency_keys WHERE account_id = v_account AND user_id = v_user AND key = p_key AND work_id = v_batch AND answer IS NULL;
    END IF;
    RETURN jsonb_build_object('outcome', coalesce(v_refusal, 'created'), 'account_id', v_account, 'batch_id', v_batch,
        'available', coalesce(v_available, 0), 'runs', coalesce(v_runs, '[]'), 'running', coalesce(v_running, '{}'));
END
$$;

-- As in V012, but no more runs go on than the balance, generously read, can pay for.
CREATE OR REPLACE FUNCTION begin_bulk_group(p_batch_id text, p_run_ids text[]) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_runs CONSTANT analyses[] := ARRAY(SELECT a FROM analyses a
        WHERE a.batch_id = p_batch_id AND a.run_id = ANY (p_run_ids) AND a.status = 'pending' ORDER BY a.run_id FOR UPDATE);
    run analyses;
    v_available integer;
    v_before bigint;
BEGIN
    FOREACH run IN ARRAY v_runs LOOP
        IF NOT EXISTS (SELECT 1 FROM business_profiles p JOIN accounts a ON a.id = p.account_id
                       WHERE p.id = run.business_profile_id AND p.account_id = run.account_id AND p.deleted_at IS NULL
                         AND a.deleted_at IS NULL AND NOT a.is_suspended) THEN
            PERFORM end_run(run, 'failed', 'BUSINESS_PROFILE_NOT_FOUND');
            CONTINUE;
        END IF;
        SELECT coalesce(current_balance, 0) INTO v_available FROM credit_balances WHERE account_id = run.account_id;
        -- How many of its batch wait before it. Twice as many as the balance pays for, and a group more, are tried, since some will turn
        -- out to be private or gone; for the rest a scrape would cost us and bring nobody anything.
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

-- As in V010, but a schedule that comes late loses nobody a period.
CREATE OR REPLACE FUNCTION renew_subscriptions(p_limit integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_picked CONSTANT uuid[] := ARRAY(
        SELECT s.id FROM subscriptions s
        WHERE s.stripe_subscription_id IS NULL AND s.status = 'active' AND s.current_period_end <= now()
          AND s.id IN (SELECT r.subscription_id FROM get_renewable_subscriptions() r)
        ORDER BY s.current_period_end, s.id LIMIT p_limit FOR UPDATE SKIP LOCKED);
    v_id uuid;
    due record;
    period record;
    v_granted boolean;
    renewed integer := 0;
    given integer := 0;
BEGIN
    FOREACH v_id IN ARRAY v_picked LOOP
        PERFORM 1 FROM credit_balances b JOIN subscriptions s USING (account_id) WHERE s.id = v_id FOR UPDATE OF b;
        -- Asked again under the lock that Stripe's events take too: one of them may have made this a paid account just now.
        SELECT * INTO due FROM get_renewable_subscriptions() r WHERE r.subscription_id = v_id;
        CONTINUE WHEN NOT FOUND;
        -- The period after the last one, even if it ended a moment ago because this schedule came late: the next one is for next time.
        -- Only what was missed altogether is not made up for.
        SELECT p.period_start, p.period_end INTO period FROM subscriptions s, calendar_period(due.anchor, s.current_period_end) p WHERE s.id = v_id;
        IF period.period_end < now() - interval '1 day' THEN
            period := calendar_period(due.anchor, now());
        END IF;
        IF due.credits > 0 THEN
            SELECT granted INTO v_granted FROM grant_credits(due.account_id, due.credits, 'subscription_renewal',
                'renewal:' || v_id || ':' || floor(extract(epoch FROM period.period_start))::bigint, 'Monthly credits',
                jsonb_build_object('subscription', v_id, 'plan', due.plan_id, 'period_start', period.period_start));
            given := given + CASE WHEN v_granted THEN due.credits ELSE 0 END;
        END IF;
        UPDATE subscriptions SET period_anchor = due.anchor, current_period_start = period.period_start, current_period_end = period.period_end,
            updated_at = clock_timestamp()
        WHERE id = v_id;
        renewed := renewed + 1;
    END LOOP;
    RETURN jsonb_build_object('picked', cardinality(v_picked), 'settled', renewed, 'credits', given);
END
$$;
