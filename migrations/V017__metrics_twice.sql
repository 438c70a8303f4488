-- What a review of operations found: a statement whose answer was lost on its way took its metrics with it when it was sent again; the
-- durations of a batch's runs told how long they had waited for their turn; and a comparison of the books answered every fault at once.

-- --- Metrics -----------------------------------------------------------------------------------------------------------------
-- Facts are marked by whoever takes them and removed later: the same taker, asking again, gets the same ones.
ALTER TABLE metric_outbox ADD COLUMN IF NOT EXISTS taken_by uuid;
ALTER TABLE metric_outbox ADD COLUMN IF NOT EXISTS taken_at timestamptz;
CREATE INDEX IF NOT EXISTS metric_outbox_untold ON metric_outbox (id) WHERE taken_by IS NULL;
CREATE INDEX IF NOT EXISTS metric_outbox_told ON metric_outbox (taken_by) WHERE taken_by IS NOT NULL;

-- Takes the next facts for p_taker, oldest first, with what is to be told; if it has some already, those. As in V016, but for a batch's runs,
-- whose duration begins with their own start: the wait for their turn is the batch's. Nobody asks a second time after minutes.
CREATE OR REPLACE FUNCTION take_metrics(p_limit integer, p_taker uuid) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_document jsonb;
BEGIN
    -- The first statement of this taker may still be at work.
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
            'analysis_type', a.analysis_type, 'status', a.status, 'error_code', a.error_code, 'cache_hit', coalesce(a.cache_hit, false),
            'credits_charged', a.credits_charged, 'credits_kept', CASE WHEN a.status = 'completed' THEN a.credits_charged ELSE 0 END,
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

-- For the code before this version, which asks without saying who it is.
CREATE OR REPLACE FUNCTION take_metrics(p_limit integer) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT take_metrics(p_limit, gen_random_uuid())
$$;

CREATE OR REPLACE FUNCTION count_metrics() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT count(*) FROM metric_outbox WHERE taken_by IS NULL
$$;

REVOKE ALL ON FUNCTION take_metrics(integer, uuid) FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION take_metrics(integer, uuid) TO service_role;

-- --- Reconciliation ----------------------------------------------------------------------------------------------------------
-- As in V013, with the number of faults and twenty of them: a mistake in every account is still one alarm, and must not be too long to be told.
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
