-- What operations see: every run that ended and every entry of the ledger becomes a metric, whoever caused it; and the books are compared
-- every night, account by account, so that the comparison stays within a statement's time however large they grow.

-- --- The outbox of metrics -------------------------------------------------------------------------------------------------
-- Filled by triggers in the transaction of the fact itself, so nothing is told that was rolled back, and nothing is missed that a task, a
-- user, a webhook or an operator did. Emptied by the schedule report_usage.
CREATE TABLE IF NOT EXISTS metric_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('run', 'entry')),
    subject uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN metric_outbox.subject IS 'analyses.id of a run that ended, or credit_ledger.id';
ALTER TABLE metric_outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE metric_outbox FORCE ROW LEVEL SECURITY;
REVOKE ALL ON metric_outbox FROM PUBLIC, anon, authenticated, service_role;

CREATE OR REPLACE FUNCTION remember_metric() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO metric_outbox (kind, subject) VALUES (TG_ARGV[0], NEW.id);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION remember_metric() FROM PUBLIC, anon, authenticated, service_role;

DROP TRIGGER IF EXISTS analyses_ended_metric ON analyses;
CREATE TRIGGER analyses_ended_metric AFTER UPDATE OF status ON analyses FOR EACH ROW
    WHEN (NEW.status IN ('completed', 'failed', 'cancelled') AND OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION remember_metric('run');
-- Refused before it was admitted.
DROP TRIGGER IF EXISTS analyses_refused_metric ON analyses;
CREATE TRIGGER analyses_refused_metric AFTER INSERT ON analyses FOR EACH ROW
    WHEN (NEW.status IN ('completed', 'failed', 'cancelled')) EXECUTE FUNCTION remember_metric('run');
DROP TRIGGER IF EXISTS credit_ledger_metric ON credit_ledger;
CREATE TRIGGER credit_ledger_metric AFTER INSERT ON credit_ledger FOR EACH ROW EXECUTE FUNCTION remember_metric('entry');

-- Takes the next of them, oldest first, with what is to be told. Whoever takes them tells them; CloudWatch refuses what is two weeks old.
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
            'credits_kept', CASE WHEN a.status = 'completed' THEN a.credits_charged ELSE 0 END,
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

CREATE OR REPLACE FUNCTION count_metrics() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT count(*) FROM metric_outbox
$$;

-- --- Reconciliation ----------------------------------------------------------------------------------------------------------
CREATE INDEX IF NOT EXISTS analyses_of_account ON analyses (account_id);
CREATE INDEX IF NOT EXISTS subscription_periods_account ON subscription_periods (account_id);

-- Everything that must never be, of these accounts: ledger against balance, entry against entry, run against charge and refund, and what is
-- known of Stripe against what it gave and took.
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
        SELECT coalesce((SELECT -l.amount FROM credit_ledger l WHERE l.run_id = a.run_id AND l.transaction_type = 'analysis'), 0) AS charged,
               coalesce((SELECT l.amount FROM credit_ledger l WHERE l.run_id = a.run_id AND l.transaction_type = 'refund'), 0) AS refunded) m
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
$$;

-- Of everybody, for tests and for operators.
CREATE OR REPLACE VIEW ledger_faults AS SELECT f.fault, f.subject FROM account_faults(ARRAY(SELECT id FROM accounts)) f;

-- The faults of the next accounts by id, and where to go on: null when there are no more.
CREATE OR REPLACE FUNCTION reconcile(p_after uuid, p_limit integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_accounts CONSTANT uuid[] := ARRAY(SELECT id FROM accounts WHERE p_after IS NULL OR id > p_after ORDER BY id LIMIT p_limit);
BEGIN
    RETURN jsonb_build_object('accounts', cardinality(v_accounts),
        'next', CASE WHEN cardinality(v_accounts) = p_limit THEN v_accounts[p_limit] END,
        'faults', (SELECT coalesce(jsonb_agg(jsonb_build_object('fault', f.fault, 'subject', f.subject)), '[]') FROM account_faults(v_accounts) f));
END
$$;

REVOKE ALL ON FUNCTION take_metrics(integer), count_metrics(), account_faults(uuid[]), reconcile(uuid, integer) FROM PUBLIC, anon, authenticated, service_role;
REVOKE ALL ON ledger_faults FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON ledger_faults TO service_role;
GRANT EXECUTE ON FUNCTION take_metrics(integer), count_metrics(), account_faults(uuid[]), reconcile(uuid, integer) TO service_role;
