-- What a review of the money's paths found: a sequence that a login could turn back, answers without a bound on their sum, a comparison of
-- the books that looked at what payments took and not at what they gave, and a lock that first purchases and admissions could each wait for.

-- --- Sequences ---------------------------------------------------------------------------------------------------------------
-- Supabase gives its API's roles every new sequence. Whoever sets the outbox's makes every charge and refund fail; nobody needs it: the
-- trigger that draws from it runs as its owner.
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, anon, authenticated, service_role;

-- --- Idempotency keys --------------------------------------------------------------------------------------------------------
-- Supabase offers these functions to its users directly: nobody may fill the disk with answers, as they are stored (compressed). A day of
-- the API's own, at its limits, stays far below.
CREATE OR REPLACE FUNCTION idempotency_answers_are_full(p_account_id uuid, p_user_id uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce(sum(pg_column_size(answer)), 0) > 16 * 1024 * 1024 FROM idempotency_keys WHERE account_id = p_account_id AND user_id = p_user_id
$$;
REVOKE ALL ON FUNCTION idempotency_answers_are_full(uuid, uuid) FROM PUBLIC, anon, authenticated, service_role;

-- As in V008, with that bound.
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
    ELSIF idempotency_answers_are_full(p_account_id, v_user) THEN
        RAISE EXCEPTION 'too many answers kept in a day' USING ERRCODE = 'OS429';
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

-- As in V008; beyond the bound the answer is not kept, and a repetition goes on with the same work.
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

-- --- Customers ---------------------------------------------------------------------------------------------------------------
-- A foreign key could refer to a unique column, so setting it locked the account against every transaction that refers to the account:
-- an admission held that and waited for the balance, which the event held. No key can refer to a partial index.
CREATE UNIQUE INDEX IF NOT EXISTS accounts_stripe_customer ON accounts (stripe_customer_id) WHERE stripe_customer_id IS NOT NULL;
ALTER TABLE accounts DROP CONSTRAINT IF EXISTS accounts_stripe_customer_id_key;

-- --- Invoices ----------------------------------------------------------------------------------------------------------------
-- As in V009, but an invoice that owes the customer money gives nothing: what it exchanges may be worth more at the one plan's rate than at
-- the other's.
CREATE OR REPLACE FUNCTION invoice_credits(e jsonb) RETURNS integer
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_line jsonb;
    v_plan plans;
    v_worth numeric := 0;
BEGIN
    IF e ->> 'currency' <> 'usd' THEN
        RAISE EXCEPTION 'invoice % is not in US dollars', e ->> 'invoice_id' USING ERRCODE = 'OS400';
    END IF;
    FOR v_line IN SELECT * FROM jsonb_array_elements(e -> 'lines') LOOP
        v_plan := plan_of_price(v_line ->> 'price_id');
        IF v_plan.price_cents > 0 THEN
            v_worth := v_worth + (v_line ->> 'amount')::numeric * v_plan.credits_per_month / v_plan.price_cents;
        END IF;
    END LOOP;
    IF (e ->> 'total')::numeric < 0 THEN
        RETURN 0; -- money that went to the customer's balance, whatever was exchanged for what
    ELSIF (e ->> 'total')::numeric > 0 THEN
        v_worth := v_worth * least(1, (e ->> 'amount_paid')::numeric / (e ->> 'total')::numeric);
    END IF;
    RETURN greatest(0, round(v_worth));
END
$$;

-- --- Metrics -----------------------------------------------------------------------------------------------------------------
-- As in V013, with what was charged: a failure that cost nobody a credit is no refund.
CREATE OR REPLACE FUNCTION take_metrics(p_limit integer) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH taken AS (
        DELETE FROM metric_outbox WHERE id IN (SELECT o.id FROM metric_outbox o ORDER BY o.id LIMIT p_limit FOR UPDATE SKIP LOCKED)
        RETURNING kind, subject, created_at),
    recent AS (SELECT kind, subject FROM taken WHERE created_at > now() - interval '13 days')
    SELECT jsonb_build_object(
        'taken', (SELECT count(*) FROM taken),
        'runs', (SELECT coalesce(jsonb_agg(jsonb_build_object('run_id', a.run_id, 'account_id', a.account_id, 'business_profile_id', a.business_profile_id,
            'analysis_type', a.analysis_type, 'status', a.status, 'error_code', a.error_code, 'cache_hit', coalesce(a.cache_hit, false),
            'credits_charged', a.credits_charged, 'credits_kept', CASE WHEN a.status = 'completed' THEN a.credits_charged ELSE 0 END,
            'total_micro_usd', coalesce(a.total_cost_micro_usd, 0), 'apify_micro_usd', coalesce((a.cost ->> 'apify_micro_usd')::bigint, 0),
            'openai_micro_usd', coalesce((a.cost ->> 'openai_micro_usd')::bigint, 0),
            'anthropic_micro_usd', coalesce((a.cost ->> 'anthropic_micro_usd')::bigint, 0),
            'duration_ms', coalesce(a.processing_duration_ms, 0), 'steps', a.steps,
            'at_ms', floor(extract(epoch FROM a.completed_at) * 1000)::bigint)), '[]')
            FROM recent r JOIN analyses a ON a.id = r.subject WHERE r.kind = 'run'),
        'entries', (SELECT coalesce(jsonb_agg(jsonb_build_object('account_id', l.account_id, 'run_id', l.run_id, 'transaction_type', l.transaction_type,
            'amount', l.amount, 'balance_after', l.balance_after, 'analysis_type', a.analysis_type,
            'at_ms', floor(extract(epoch FROM l.created_at) * 1000)::bigint)), '[]')
            FROM recent r JOIN credit_ledger l ON l.id = r.subject LEFT JOIN analyses a ON a.run_id = l.run_id WHERE r.kind = 'entry'))
$$;

-- --- Reconciliation ----------------------------------------------------------------------------------------------------------
CREATE INDEX IF NOT EXISTS stripe_invoices_subscription ON stripe_invoices (stripe_subscription_id) WHERE stripe_subscription_id IS NOT NULL;

-- As in V013, and also what payments gave: every purchase in the ledger has its payment and the other way round, every paid invoice of a
-- subscription is a payment, and what a subscription's invoices are worth is in its periods or is a change of plans in the ledger. A run's
-- entries are added up, so that one too many is told rather than an error.
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
       OR a.status IN ('failed', 'cancelled') AND m.charged <> m.refunded)
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
