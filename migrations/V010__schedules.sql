-- What runs by the clock: renewals, the daily cleanup, and the end of runs that are stuck. Each function takes one bounded batch in one
-- transaction and skips what another holds, so a schedule may run twice, twice at once, or be killed, and the next one goes on from there.

-- --- Renewals ------------------------------------------------------------------------------------------------------------
-- Free subscriptions are renewed by the schedule alone. Stripe's are renewed by their paid invoices; here they are only looked after.
ALTER TABLE subscriptions ADD COLUMN IF NOT EXISTS period_anchor timestamptz;
COMMENT ON COLUMN subscriptions.period_anchor IS
    'the start of the first period: its day of the month is every later period''s. Null before the first renewal, when it is current_period_start';
CREATE INDEX IF NOT EXISTS subscriptions_free_due ON subscriptions (current_period_end) WHERE stripe_subscription_id IS NULL AND status = 'active';
CREATE INDEX IF NOT EXISTS subscription_periods_owed ON subscription_periods (stripe_subscription_id, period_start) WHERE paid AND level > granted;

-- The calendar month that p_at lies in, counted from p_anchor in UTC. A month without the anchor's day uses its last one, and the next
-- returns to the anchor's: 31 January, 28 or 29 February, 31 March.
CREATE OR REPLACE FUNCTION calendar_period(p_anchor timestamptz, p_at timestamptz, OUT period_start timestamptz, OUT period_end timestamptz)
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_anchor CONSTANT timestamp := p_anchor AT TIME ZONE 'UTC';
    v_at CONSTANT timestamp := p_at AT TIME ZONE 'UTC';
    months integer := (extract(year FROM v_at) - extract(year FROM v_anchor)) * 12 + extract(month FROM v_at) - extract(month FROM v_anchor);
BEGIN
    IF v_anchor + make_interval(months => months) > v_at THEN
        months := months - 1;
    END IF;
    period_start := (v_anchor + make_interval(months => months)) AT TIME ZONE 'UTC';
    period_end := (v_anchor + make_interval(months => months + 1)) AT TIME ZONE 'UTC';
END
$$;

-- The free subscriptions whose period is over and that shall go on: of live accounts that are not suspended and are on no paid plan.
-- An account that was renewed within 23 hours, in whatever way, waits for the next schedule.
CREATE OR REPLACE FUNCTION get_renewable_subscriptions()
RETURNS TABLE (subscription_id uuid, account_id uuid, plan_id text, credits integer, anchor timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT s.id, s.account_id, p.id, p.credits_per_month, coalesce(s.period_anchor, s.current_period_start)
    FROM public.subscriptions s
    JOIN public.plans p ON p.id = s.plan_id
    JOIN public.accounts a ON a.id = s.account_id
    WHERE s.stripe_subscription_id IS NULL AND s.status = 'active' AND s.current_period_end <= now()
      AND a.deleted_at IS NULL AND NOT a.is_suspended
      AND NOT EXISTS (SELECT 1 FROM public.subscriptions paid WHERE paid.account_id = s.account_id AND paid.stripe_subscription_id IS NOT NULL
                      AND paid.status IN ('active', 'trialing', 'past_due'))
      AND NOT EXISTS (SELECT 1 FROM public.credit_ledger l WHERE l.account_id = s.account_id AND l.transaction_type = 'subscription_renewal'
                      AND l.created_at > now() - interval '23 hours')
$$;

-- Renews some of them: the plan's credits for the period that it is now, once, under the key of that period; and the subscription moves
-- there. Periods that were missed meanwhile (no schedule ran, the account was suspended or on a paid plan) are not made up for.
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
        period := calendar_period(due.anchor, now());
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

-- The periods of Stripe's subscriptions that are paid for and not fully granted. There are none unless somebody mended the tables by hand.
CREATE OR REPLACE FUNCTION owed_periods() RETURNS SETOF subscription_periods
LANGUAGE sql STABLE AS $$
    SELECT p.* FROM public.subscription_periods p JOIN public.accounts a ON a.id = p.account_id
    WHERE p.paid AND p.level > p.granted AND a.deleted_at IS NULL AND NOT a.is_suspended
$$;

-- Grants some of them what they lack. Never makes a period paid: only an invoice does.
CREATE OR REPLACE FUNCTION settle_owed_periods(p_limit integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_picked CONSTANT subscription_periods[] := ARRAY(SELECT p FROM owed_periods() p ORDER BY account_id, period_start LIMIT p_limit);
    v_period subscription_periods;
    v_owed integer;
    settled integer := 0;
    given integer := 0;
BEGIN
    FOREACH v_period IN ARRAY v_picked LOOP
        -- The balance first, then the period: as Stripe's events do.
        PERFORM 1 FROM credit_balances WHERE account_id = v_period.account_id FOR UPDATE;
        SELECT p.level - p.granted INTO v_owed FROM owed_periods() p
        WHERE p.stripe_subscription_id = v_period.stripe_subscription_id AND p.period_start = v_period.period_start;
        CONTINUE WHEN NOT FOUND;
        PERFORM settle_period(v_period.stripe_subscription_id, v_period.account_id, v_period.period_start, 0, false);
        settled := settled + 1;
        given := given + v_owed;
    END LOOP;
    RETURN jsonb_build_object('picked', cardinality(v_picked), 'settled', settled, 'credits', given);
END
$$;

-- Stripe's subscriptions that should have been renewed, or ended, more than three days ago: events were lost, and an operator must look.
CREATE OR REPLACE FUNCTION overdue_subscriptions() RETURNS SETOF text
LANGUAGE sql STABLE AS $$
    SELECT s.stripe_subscription_id FROM public.subscriptions s
    WHERE s.stripe_subscription_id IS NOT NULL AND s.status IN ('active', 'trialing', 'past_due') AND s.current_period_end < now() - interval '3 days'
    ORDER BY s.current_period_end, s.stripe_subscription_id
$$;

-- --- Cleanup -------------------------------------------------------------------------------------------------------------
-- DESIGN lets accounts be deleted for good after 30 days. The ledger and Stripe's payments are kept for ever and refer to their account, so
-- its row stays as well; everything that tells whose it was goes, its owner too, whom Supabase Auth can then delete. `webhook_events` stay as
-- well: they hold identifiers and amounts only, prove that an event was taken (Stripe, or a redrive, may bring one again at any time), and
-- explain ledger entries that are kept for ever.
ALTER TABLE accounts ADD COLUMN IF NOT EXISTS anonymized_at timestamptz;
COMMENT ON COLUMN accounts.anonymized_at IS 'when nothing was left of a deleted account but its books';
ALTER TABLE accounts ALTER COLUMN owner_id DROP NOT NULL;
ALTER TABLE accounts DROP CONSTRAINT IF EXISTS accounts_owned;
ALTER TABLE accounts ADD CONSTRAINT accounts_owned CHECK ((owner_id IS NULL) = (anonymized_at IS NOT NULL)) NOT VALID;
ALTER TABLE accounts VALIDATE CONSTRAINT accounts_owned;

-- For what has expired, and for the foreign keys of what is deleted for good.
CREATE INDEX IF NOT EXISTS accounts_deleted ON accounts (deleted_at) WHERE deleted_at IS NOT NULL AND anonymized_at IS NULL;
CREATE INDEX IF NOT EXISTS analyses_deleted ON analyses (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS business_profiles_deleted ON business_profiles (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS analyses_of_lead ON analyses (lead_id) WHERE lead_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS analyses_of_profile ON analyses (business_profile_id) WHERE business_profile_id IS NOT NULL;
DROP INDEX IF EXISTS analyses_profile;
CREATE INDEX IF NOT EXISTS leads_of_profile ON leads (business_profile_id);

-- Which rows of a table have outlived their retention, as a condition on its alias t. $1 is when deletions become final, $2 the accounts
-- whose own deletion did: whatever they still have goes with them.
CREATE OR REPLACE FUNCTION expired(p_table text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    -- Three parts for three indexes.
    v_deleted CONSTANT text := '(t.deleted_at < $1 OR t.deleted_at >= $1 AND t.account_id = ANY ($2) OR t.deleted_at IS NULL AND t.account_id = ANY ($2))';
BEGIN
    RETURN CASE p_table
        WHEN 'ai_usage_logs' THEN 't.created_at < now() - interval ''90 days'''
        WHEN 'idempotency_keys' THEN 't.created_at < now() - interval ''24 hours'''
        WHEN 'accounts' THEN 't.id = ANY ($2)'
        WHEN 'leads' THEN v_deleted
        WHEN 'business_profiles' THEN v_deleted
        -- A run that is still under way is ended, and refunded, by another schedule.
        WHEN 'analyses' THEN v_deleted || ' AND t.status IN (''completed'', ''failed'', ''cancelled'')'
    END;
END
$$;

-- How many rows of a table would be removed, or, of accounts, emptied.
CREATE OR REPLACE FUNCTION count_expired(p_table text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_cutoff CONSTANT timestamptz := now() - interval '30 days';
    v_accounts CONSTANT uuid[] := ARRAY(SELECT id FROM accounts WHERE deleted_at < v_cutoff AND anonymized_at IS NULL);
    -- A profile stays for as long as one of its leads does.
    v_kept CONSTANT text := CASE p_table WHEN 'business_profiles'
        THEN ' AND NOT EXISTS (SELECT 1 FROM leads l WHERE l.business_profile_id = t.id AND (l.deleted_at IS NULL OR l.deleted_at >= $1) AND l.account_id <> ALL ($2))'
        ELSE '' END;
    v_count bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %I t WHERE ', p_table) || expired(p_table) || v_kept INTO v_count USING v_cutoff, v_accounts;
    RETURN v_count;
END
$$;

-- Removes up to p_limit expired rows of a table, and answers how many. To be called for analyses, leads, business_profiles and accounts in
-- this order; what still refers to a row keeps it for the next time.
CREATE OR REPLACE FUNCTION remove_expired(p_table text, p_limit integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_cutoff CONSTANT timestamptz := now() - interval '30 days';
    v_accounts CONSTANT uuid[] := ARRAY(SELECT id FROM accounts WHERE deleted_at < v_cutoff AND anonymized_at IS NULL);
    v_kept CONSTANT text := CASE p_table
        WHEN 'business_profiles' THEN ' AND NOT EXISTS (SELECT 1 FROM leads l WHERE l.business_profile_id = t.id)'
        WHEN 'accounts' THEN ' AND NOT EXISTS (SELECT 1 FROM analyses a WHERE a.account_id = t.id) AND NOT EXISTS (SELECT 1 FROM leads l WHERE l.account_id = t.id)
                               AND NOT EXISTS (SELECT 1 FROM business_profiles p WHERE p.account_id = t.id)'
        ELSE '' END;
    v_rows tid[];
    v_gone uuid[];
    v_count bigint;
BEGIN
    EXECUTE format('SELECT ARRAY(SELECT t.ctid FROM %I t WHERE ', p_table) || expired(p_table) || v_kept || ' LIMIT $3 FOR UPDATE SKIP LOCKED)'
        INTO v_rows USING v_cutoff, v_accounts, p_limit;
    IF p_table <> 'accounts' THEN
        EXECUTE format('DELETE FROM %I WHERE ctid = ANY ($1)', p_table) USING v_rows;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        RETURN v_count;
    END IF;
    WITH gone AS (
        UPDATE accounts SET anonymized_at = now(), owner_id = NULL, name = 'Deleted account', slug = 'deleted-' || id, suspended_reason = NULL, updated_at = now()
        WHERE ctid = ANY (v_rows) RETURNING id)
    SELECT coalesce(array_agg(id), '{}') INTO v_gone FROM gone;
    DELETE FROM account_members WHERE account_id = ANY (v_gone);
    DELETE FROM idempotency_keys WHERE account_id = ANY (v_gone);
    UPDATE subscriptions SET status = 'canceled', canceled_at = now(), updated_at = now()
    WHERE account_id = ANY (v_gone) AND stripe_subscription_id IS NULL AND status = 'active';
    RETURN cardinality(v_gone);
END
$$;

-- --- Stuck runs ------------------------------------------------------------------------------------------------------------
-- The next runs, by id, that have rested too long between two steps.
CREATE OR REPLACE FUNCTION stuck_runs(p_after text, p_limit integer) RETURNS SETOF text
LANGUAGE sql STABLE AS $$
    SELECT a.run_id FROM public.analyses a
    WHERE a.status IN ('pending', 'processing') AND a.last_step_at < now() - interval '5 minutes'
      AND public.run_is_stuck(a.status, a.batch_id, a.last_step_at) AND a.run_id > p_after
    ORDER BY a.run_id LIMIT p_limit
$$;

-- Fails and refunds a run that is still stuck once its row is locked; null for one that has moved or ended meanwhile.
CREATE OR REPLACE FUNCTION end_stuck_run(p_run_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    run analyses;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = p_run_id FOR UPDATE;
    IF FOUND AND run_is_stuck(run.status, run.batch_id, run.last_step_at) THEN
        RETURN fail_run(p_run_id, 'TIMED_OUT');
    END IF;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION calendar_period(timestamptz, timestamptz), get_renewable_subscriptions(), renew_subscriptions(integer), owed_periods(),
    settle_owed_periods(integer), overdue_subscriptions(), expired(text), count_expired(text), remove_expired(text, integer),
    stuck_runs(text, integer), end_stuck_run(text) FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION get_renewable_subscriptions(), renew_subscriptions(integer), owed_periods(), settle_owed_periods(integer),
    overdue_subscriptions(), count_expired(text), remove_expired(text, integer), stuck_runs(text, integer), end_stuck_run(text) TO service_role;
