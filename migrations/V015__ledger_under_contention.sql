-- What the ledger's model found in V004 to V009, asked by many at once: an answer that nothing in the database bears out, a deadlock, and
-- a ledger that is read from one end to the other whenever a run ends.

-- Every end of a run adds up its entries (guard_run_money), by an index rather than by reading the whole ledger: the unique ones hold one
-- type of entries each.
CREATE INDEX IF NOT EXISTS ledger_by_run ON credit_ledger (run_id) WHERE run_id IS NOT NULL;

-- A run that is refused before it is admitted is answered from its row. Between the look for the row and the refusal a cancellation can
-- record the run as cancelled: the admission then told of a failure that stands nowhere.
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
            CONTINUE; -- and is answered from its row, which a cancellation may have made first
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
            CONTINUE;
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

-- A refund locks the balance, and then its foreign key holds the account's row; an event locked the account's row as if to delete it, and
-- then the balance. Each could wait for the other.
CREATE OR REPLACE FUNCTION apply_stripe_event(p_event jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    e CONSTANT jsonb := p_event -> 'effect';
    v_kind CONSTANT text := e ->> 'kind';
    v_type CONSTANT text := p_event ->> 'event_type';
    v_created CONSTANT bigint := (p_event ->> 'created')::bigint;
    v_account uuid := stripe_account(e ->> 'customer', e ->> 'subscription_id', (e ->> 'account_id')::uuid);
    -- An invoice that is paid stays paid; one that is not leaves its subscription past due.
    v_version CONSTANT text := stripe_version(coalesce((e ->> 'deleted')::boolean, (e ->> 'paid')::boolean, false), v_created, v_type,
        (e ->> 'period_start')::bigint, coalesce(e ->> 'status', 'past_due'), p_event ->> 'event_id');
    v_outcome text := CASE v_kind WHEN 'ignored' THEN 'ignored' ELSE 'applied' END;
BEGIN
    IF v_kind = 'reversal' THEN
        SELECT account_id INTO v_account FROM stripe_payments WHERE source = e ->> 'source';
    ELSIF v_kind IN ('payment', 'customer') THEN
        v_account := (SELECT id FROM accounts WHERE id = (e ->> 'account_id')::uuid);
    END IF;
    IF v_account IS NULL AND (v_kind = 'customer' OR v_kind IN ('subscription', 'invoice') AND NOT EXISTS (
        SELECT 1 FROM plans WHERE stripe_price_id = e ->> 'price_id' OR stripe_price_id IN (SELECT l ->> 'price_id' FROM jsonb_array_elements(e -> 'lines') l))) THEN
        v_outcome := 'ignored'; -- about something else that the Stripe account is used for
    ELSIF v_account IS NULL AND v_kind NOT IN ('ignored', 'reversal') THEN
        RAISE EXCEPTION 'no account for customer %', coalesce(e ->> 'customer', '(none)') USING ERRCODE = 'OS404';
    END IF;
    -- The events of one account take turns; those of different accounts do not wait for each other. Nor do they wait for those who hold the
    -- account's row by their foreign keys.
    PERFORM 1 FROM accounts WHERE id = v_account FOR NO KEY UPDATE;
    PERFORM 1 FROM credit_balances WHERE account_id = v_account FOR UPDATE;
    INSERT INTO webhook_events (stripe_event_id, event_type, api_version, event_created, effect, account_id, outcome)
    VALUES (p_event ->> 'event_id', v_type, p_event ->> 'api_version', to_timestamp(v_created), e, v_account, v_outcome)
    ON CONFLICT (stripe_event_id) DO NOTHING;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'duplicate', 'account_id', v_account);
    END IF;
    IF v_outcome = 'applied' THEN
        CASE v_kind
            WHEN 'customer' THEN PERFORM apply_customer(v_account, e ->> 'customer', (e ->> 'made_by_us')::boolean, (e ->> 'deleted')::boolean);
            WHEN 'payment' THEN PERFORM apply_payment(v_account, e);
            WHEN 'subscription' THEN PERFORM apply_subscription(v_account, e, v_version);
            WHEN 'invoice' THEN PERFORM apply_invoice(v_account, e, v_version);
            WHEN 'reversal' THEN PERFORM apply_reversal(e);
            ELSE RAISE EXCEPTION 'unknown effect %', v_kind USING ERRCODE = 'OS400';
        END CASE;
    END IF;
    RETURN jsonb_build_object('outcome', v_outcome, 'account_id', v_account);
END
$$;
