-- What the schedules run: renewals, the daily cleanup, the end of stuck runs, the outbox of metrics, and the comparison of ledger and
-- balances. Each function takes one bounded batch in one transaction and skips what another holds. So a schedule may run twice, twice at
-- once, or be killed, and the next one continues from there.

-- --- Renewals ------------------------------------------------------------------------------------------------------------
-- Free subscriptions are renewed by the schedule alone. Stripe's are renewed by their paid invoices; the schedule only checks them.

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

-- The free subscriptions that are due: their period is over, and their accounts are live, not suspended, on no paid plan, and the one account
-- of a confirmed address (signup_addresses).
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
      AND EXISTS (SELECT 1 FROM public.signup_addresses confirmed WHERE confirmed.account_id = s.account_id)
      AND NOT EXISTS (SELECT 1 FROM public.subscriptions paid WHERE paid.account_id = s.account_id AND paid.stripe_subscription_id IS NOT NULL
                      AND paid.status IN ('active', 'trialing', 'past_due'))
      AND NOT EXISTS (SELECT 1 FROM public.credit_ledger l WHERE l.account_id = s.account_id AND l.transaction_type = 'subscription_renewal'
                      AND l.created_at > now() - interval '23 hours')
$$;

-- Renews up to p_limit of them: grants the plan's credits for the next period, once, under the key of that period, and moves the
-- subscription there. A schedule that runs late skips no period; periods that were missed altogether (no schedule ran, the
-- account was suspended or on a paid plan) are not made up for.
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
        -- Read again under the lock that Stripe's events take too: one of them may have moved the account to a paid plan just now.
        SELECT * INTO due FROM get_renewable_subscriptions() r WHERE r.subscription_id = v_id;
        CONTINUE WHEN NOT FOUND;
        -- The period after the last one, even if it ended a moment ago because this schedule ran late: the next schedule renews the next one.
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

-- The periods of Stripe's subscriptions that are paid for and not fully granted. There are none unless the tables were edited by hand.
CREATE OR REPLACE FUNCTION owed_periods() RETURNS SETOF subscription_periods
LANGUAGE sql STABLE AS $$
    SELECT p.* FROM public.subscription_periods p JOIN public.accounts a ON a.id = p.account_id
    WHERE p.paid AND p.level > p.granted AND a.deleted_at IS NULL AND NOT a.is_suspended
$$;

-- Grants up to p_limit of them what they lack. Never makes a period paid: only an invoice does.
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
        -- Locks the balance first, then the period, as Stripe's events do.
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
-- Accounts may be deleted for good after 30 days. The ledger and Stripe's payments are kept forever and refer to their account, so its row
-- stays; everything that identifies its owner is removed, and so is its owner, whom Supabase Auth can then delete. `webhook_events` stay as
-- well: they hold identifiers and amounts only, prove that an event was applied (Stripe, or a redrive, may deliver one again at any time),
-- and explain ledger entries that are kept forever.

-- The condition for rows of a table that have outlived their retention, on its alias t. $1 is when deletions become final, $2 the accounts
-- whose own deletion did: everything that they still have is removed with them.
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
        -- A run that is still live is ended, and refunded, by another schedule.
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

-- Removes up to p_limit expired rows of a table, and returns how many. Call it for analyses, leads, business_profiles and accounts in
-- this order; a row that others still refer to stays for the next time.
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

-- The next runs, by id, that have paused too long between two steps.
CREATE OR REPLACE FUNCTION stuck_runs(p_after text, p_limit integer) RETURNS SETOF text
LANGUAGE sql STABLE AS $$
    SELECT a.run_id FROM public.analyses a
    WHERE a.status IN ('pending', 'processing') AND a.last_step_at < now() - interval '15 minutes'
      AND public.run_is_stuck(a.status, a.batch_id, a.last_step_at) AND a.run_id > p_after
    ORDER BY a.run_id LIMIT p_limit
$$;

-- Fails and refunds a run that is still stuck once its row is locked; null for one that has moved or ended in the meantime.
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

-- --- The outbox of metrics -------------------------------------------------------------------------------------------------
-- Every run that ends and every ledger entry becomes a metric. Triggers fill the outbox in the fact's own transaction, so nothing is
-- published that was rolled back, and nothing is missed that a task, a user, a webhook or an operator did. The schedule report_usage
-- empties it.
CREATE TABLE IF NOT EXISTS metric_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('run', 'entry')),
    subject uuid NOT NULL,
    taken_by uuid,
    taken_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN metric_outbox.subject IS 'analyses.id of a run that ended, or credit_ledger.id';
CREATE INDEX IF NOT EXISTS metric_outbox_open ON metric_outbox (id) WHERE taken_by IS NULL;
CREATE INDEX IF NOT EXISTS metric_outbox_taken ON metric_outbox (taken_by) WHERE taken_by IS NOT NULL;

CREATE OR REPLACE FUNCTION record_metric() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO metric_outbox (kind, subject) VALUES (TG_ARGV[0], NEW.id);
    RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS analyses_ended_metric ON analyses;
CREATE TRIGGER analyses_ended_metric AFTER UPDATE OF status ON analyses FOR EACH ROW
    WHEN (NEW.status IN ('completed', 'failed', 'cancelled') AND OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION record_metric('run');
-- Rejected before it was admitted.
DROP TRIGGER IF EXISTS analyses_refused_metric ON analyses;
CREATE TRIGGER analyses_refused_metric AFTER INSERT ON analyses FOR EACH ROW
    WHEN (NEW.status IN ('completed', 'failed', 'cancelled')) EXECUTE FUNCTION record_metric('run');
DROP TRIGGER IF EXISTS credit_ledger_metric ON credit_ledger;
CREATE TRIGGER credit_ledger_metric AFTER INSERT ON credit_ledger FOR EACH ROW EXECUTE FUNCTION record_metric('entry');

-- Takes the next facts for p_taker, oldest first, with what a metric needs. Facts are marked by their taker and removed later: if p_taker
-- has some already (its first call's answer was lost), it gets the same ones. After five minutes no taker retries. The duration of a
-- batch's run begins with its own start: the wait before it is the batch's. CloudWatch rejects what is two weeks old.
CREATE OR REPLACE FUNCTION take_metrics(p_limit integer, p_taker uuid) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_document jsonb;
BEGIN
    -- The first statement of this taker may still be running.
    PERFORM pg_advisory_xact_lock(hashtextextended(p_taker::text, 0));
    DELETE FROM metric_outbox WHERE taken_by IS NOT NULL AND taken_by <> p_taker AND taken_at < clock_timestamp() - interval '5 minutes';
    IF NOT EXISTS (SELECT 1 FROM metric_outbox WHERE taken_by = p_taker) THEN
        UPDATE metric_outbox SET taken_by = p_taker, taken_at = clock_timestamp()
        WHERE id IN (SELECT o.id FROM metric_outbox o WHERE o.taken_by IS NULL ORDER BY o.id LIMIT p_limit FOR UPDATE SKIP LOCKED);
    END IF;
    WITH taken AS (SELECT kind, subject, created_at FROM metric_outbox WHERE taken_by = p_taker),
    recent AS (SELECT kind, subject FROM taken WHERE created_at > now() - interval '13 days')
    SELECT jsonb_build_object(
        'taken', (SELECT count(*) FROM taken),
        'runs', (SELECT coalesce(jsonb_agg(jsonb_build_object('run_id', a.run_id, 'account_id', a.account_id, 'business_profile_id', a.business_profile_id,
            'analysis_type', a.analysis_type, 'status', a.status, 'error_code', a.error_code, 'cache_hit', a.status = 'completed' AND NOT coalesce(jsonb_path_exists(a.cost, '$.calls[*] ? (@.provider == "apify")'), false),
            'credits_charged', a.credits_charged, 'credits_kept', CASE WHEN a.status = 'completed' OR a.charge_kept THEN a.credits_charged ELSE 0 END,
            'total_micro_usd', coalesce(a.total_cost_micro_usd, 0), 'apify_micro_usd', coalesce((a.cost ->> 'apify_micro_usd')::bigint, 0),
            'openai_micro_usd', coalesce((a.cost ->> 'openai_micro_usd')::bigint, 0),
            'anthropic_micro_usd', coalesce((a.cost ->> 'anthropic_micro_usd')::bigint, 0),
            'duration_ms', CASE WHEN a.batch_id IS NULL THEN coalesce(a.processing_duration_ms, 0)
                ELSE coalesce(floor(extract(epoch FROM a.completed_at - a.started_at) * 1000)::bigint, 0) END,
            'steps', a.steps, 'at_ms', floor(extract(epoch FROM a.completed_at) * 1000)::bigint)), '[]')
            FROM recent r JOIN analyses a ON a.id = r.subject WHERE r.kind = 'run'),
        'entries', (SELECT coalesce(jsonb_agg(jsonb_build_object('account_id', l.account_id, 'run_id', l.run_id, 'transaction_type', l.transaction_type,
            'amount', l.amount, 'balance_after', l.balance_after, 'analysis_type', a.analysis_type,
            'at_ms', floor(extract(epoch FROM l.created_at) * 1000)::bigint)), '[]')
            FROM recent r JOIN credit_ledger l ON l.id = r.subject LEFT JOIN analyses a ON a.run_id = l.run_id WHERE r.kind = 'entry'))
    INTO v_document;
    RETURN v_document;
END
$$;

CREATE OR REPLACE FUNCTION count_metrics() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT count(*) FROM metric_outbox WHERE taken_by IS NULL
$$;

-- --- Reconciliation ----------------------------------------------------------------------------------------------------------
-- Ledger and balances are compared every night, account by account, so that the comparison stays within a statement's time.

-- Every inconsistency of these accounts: ledger against balance, entry against entry, run against charge and refund, what
-- Stripe's tables say against what the ledger gave and took, what is owed against what was collected, spending against disputes, and what
-- payments gave. For the last: every purchase in the ledger has its
-- payment and the other way round, every paid invoice of a subscription is a payment, and what a subscription's invoices are worth is in
-- its periods or is a change of plans in the ledger. A run's entries are summed up, so that one too many is a fault rather than an error.
CREATE OR REPLACE FUNCTION account_faults(p_accounts uuid[]) RETURNS TABLE (fault text, subject text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT 'balance is not the sum of the ledger', b.account_id::text
    FROM credit_balances b
    WHERE b.account_id = ANY (p_accounts)
      AND b.current_balance <> (SELECT coalesce(sum(l.amount), 0) FROM credit_ledger l WHERE l.account_id = b.account_id)
UNION ALL
    SELECT 'entries are not chained', l.account_id || ' ' || l.entry_no
    FROM (SELECT account_id, entry_no, balance_after, amount,
                 lag(balance_after, 1, 0) OVER w AS previous, lag(entry_no, 1, 0::bigint) OVER w AS previous_no
          FROM credit_ledger WHERE account_id = ANY (p_accounts) WINDOW w AS (PARTITION BY account_id ORDER BY entry_no)) l
    WHERE l.balance_after <> l.previous + l.amount OR l.entry_no <> l.previous_no + 1
UNION ALL
    SELECT 'ledger of an account without a balance', l.account_id::text
    FROM (SELECT DISTINCT account_id FROM credit_ledger WHERE account_id = ANY (p_accounts)) l
    WHERE NOT EXISTS (SELECT 1 FROM credit_balances b WHERE b.account_id = l.account_id)
UNION ALL
    SELECT 'run is ' || a.status || ' with ' || m.charged || ' charged and ' || m.refunded || ' refunded', a.run_id
    FROM analyses a
    CROSS JOIN LATERAL (
        SELECT coalesce(-sum(l.amount) FILTER (WHERE l.transaction_type = 'analysis'), 0) AS charged,
               coalesce(sum(l.amount) FILTER (WHERE l.transaction_type = 'refund'), 0) AS refunded
        FROM credit_ledger l WHERE l.run_id = a.run_id) m
    WHERE a.account_id = ANY (p_accounts) AND (m.charged <> a.credits_charged
       OR a.status = 'pending' AND m.charged <> 0
       OR a.status IN ('processing', 'completed') AND (m.charged = 0 OR m.refunded <> 0)
       OR a.status IN ('failed', 'cancelled') AND m.refunded <> CASE WHEN a.charge_kept THEN 0 ELSE m.charged END)
UNION ALL
    SELECT 'period is entitled to ' || CASE WHEN p.paid THEN p.level ELSE 0 END || ', granted ' || p.granted || ', in the ledger ' || m.given,
           p.stripe_subscription_id || ' ' || p.period_start
    FROM subscription_periods p
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(l.amount), 0) AS given FROM credit_ledger l
        WHERE l.account_id = p.account_id AND l.transaction_type = 'subscription_renewal'
          AND starts_with(l.idempotency_key || ':', 'renewal:' || p.stripe_subscription_id || ':' || extract(epoch FROM p.period_start)::bigint || ':')) m
    WHERE p.account_id = ANY (p_accounts) AND (p.granted <> CASE WHEN p.paid THEN p.level ELSE 0 END OR p.granted <> m.given)
UNION ALL
    SELECT 'payment is charged back ' || p.taken || ', in the ledger ' || m.taken, p.source
    FROM stripe_payments p
    CROSS JOIN LATERAL (
        SELECT coalesce(-sum(l.amount), 0) AS taken FROM credit_ledger l
        WHERE l.account_id = p.account_id AND l.transaction_type IN ('chargeback', 'admin_grant')
          AND (starts_with(l.idempotency_key, 'reversal:' || p.source || ':') OR starts_with(l.idempotency_key, 'reinstated:' || p.source || ':'))) m
    WHERE p.account_id = ANY (p_accounts) AND p.taken <> m.taken
UNION ALL
    SELECT 'payment owes ' || o.owed || ', of which ' || p.taken || ' is taken and ' || p.shortfall || ' open', p.source
    FROM stripe_payments p CROSS JOIN LATERAL (SELECT owed_credits(p) AS owed) o
    WHERE p.account_id = ANY (p_accounts) AND o.owed <> p.taken + p.shortfall
UNION ALL
    SELECT 'balance of ' || b.current_balance || ' with a shortfall of ' || m.shortfall, b.account_id::text
    FROM credit_balances b
    CROSS JOIN LATERAL (SELECT coalesce(sum(p.shortfall), 0) AS shortfall FROM stripe_payments p WHERE p.account_id = b.account_id) m
    WHERE b.account_id = ANY (p_accounts) AND b.current_balance > 0 AND m.shortfall > 0
UNION ALL
    SELECT 'balance knows a shortfall of ' || b.open_shortfall || ', its payments one of ' || m.shortfall
               || CASE WHEN m.disputed_since IS DISTINCT FROM b.disputed_since THEN ', and another dispute' ELSE '' END, b.account_id::text
    FROM credit_balances b
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(p.shortfall), 0) AS shortfall,
               min(p.disputed_since) FILTER (WHERE jsonb_path_exists(p.disputes, '$.* ? (@.state == "open")')) AS disputed_since
        FROM stripe_payments p WHERE p.account_id = b.account_id) m
    WHERE b.account_id = ANY (p_accounts) AND (b.open_shortfall <> m.shortfall OR b.disputed_since IS DISTINCT FROM m.disputed_since)
UNION ALL
    SELECT 'charged while a payment is disputed', l.run_id
    FROM credit_balances b JOIN credit_ledger l ON l.account_id = b.account_id AND l.transaction_type = 'analysis' AND l.created_at > b.disputed_since
    WHERE b.account_id = ANY (p_accounts)
UNION ALL
    SELECT 'payment is worth ' || coalesce(p.credits, 0) || ', in the ledger ' || coalesce(l.given, 0), source
    FROM (SELECT source, credits FROM stripe_payments
          WHERE account_id = ANY (p_accounts) AND NOT EXISTS (SELECT 1 FROM stripe_invoices i WHERE i.stripe_invoice_id = source)) p
    FULL JOIN (SELECT coalesce(metadata ->> 'payment_intent', metadata ->> 'session', idempotency_key) AS source, sum(amount) AS given
               FROM credit_ledger WHERE account_id = ANY (p_accounts) AND transaction_type = 'purchase' GROUP BY 1) l USING (source)
    WHERE p.credits IS DISTINCT FROM l.given
UNION ALL
    SELECT 'invoice is paid and gave nothing', i.stripe_invoice_id
    FROM stripe_invoices i
    WHERE i.account_id = ANY (p_accounts) AND i.status = 'paid' AND i.stripe_subscription_id IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM stripe_payments p WHERE p.source = i.stripe_invoice_id AND p.credits IS NOT NULL)
UNION ALL
    SELECT 'subscription''s invoices are worth ' || m.worth || ', its periods ' || m.periods || ', its changes in the ledger ' || m.changes, s.id
    FROM (SELECT DISTINCT stripe_subscription_id AS id FROM stripe_invoices
          WHERE account_id = ANY (p_accounts) AND status = 'paid' AND stripe_subscription_id IS NOT NULL) s
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(p.credits), 0) AS worth, coalesce(sum(l.amount), 0) AS changes,
               (SELECT coalesce(sum(t.level), 0) FROM subscription_periods t WHERE t.stripe_subscription_id = s.id) AS periods
        FROM stripe_invoices i
        JOIN stripe_payments p ON p.source = i.stripe_invoice_id
        LEFT JOIN credit_ledger l ON l.account_id = p.account_id AND l.idempotency_key = 'invoice:' || p.source
        WHERE i.stripe_subscription_id = s.id) m
    WHERE m.worth <> m.periods + m.changes
$$;

-- The same of all accounts, for tests and for operators.
CREATE OR REPLACE VIEW ledger_faults AS SELECT f.fault, f.subject FROM account_faults(ARRAY(SELECT id FROM accounts)) f;

-- The number of faults of the next accounts by id and twenty of them, and where to continue: null when there are no more accounts. A
-- mistake in every account is still one alarm, and must not be too long to be logged.
CREATE OR REPLACE FUNCTION reconcile(p_after uuid, p_limit integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_accounts CONSTANT uuid[] := ARRAY(SELECT id FROM accounts WHERE p_after IS NULL OR id > p_after ORDER BY id LIMIT p_limit);
BEGIN
    RETURN (
        WITH found AS (SELECT f.fault, f.subject, row_number() OVER () AS number FROM account_faults(v_accounts) f)
        SELECT jsonb_build_object('accounts', cardinality(v_accounts),
            'next', CASE WHEN cardinality(v_accounts) = p_limit THEN v_accounts[p_limit] END,
            'mismatches', count(*),
            'faults', coalesce(jsonb_agg(jsonb_build_object('fault', fault, 'subject', subject)) FILTER (WHERE number <= 20), '[]'))
        FROM found);
END
$$;
