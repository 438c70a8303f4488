-- Vendor calls that belong to an account but to no run: the scrape of a refresh check. The row of a call is written once, whoever
-- repeats it. Only the backend's own login may: what a vendor cost is not for users to say.
CREATE OR REPLACE FUNCTION record_account_call(p_account_id uuid, p_call jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO ai_usage_logs (id, account_id, provider, model, api_call_type, status, error_message, response_id, cost_micro_usd, duration_ms, started_at)
    SELECT c.id, p_account_id, c.provider, c.model, c.api_call_type, c.status, c.error_message, c.response_id, coalesce(c.cost_micro_usd, 0),
        coalesce(c.duration_ms, 0), to_timestamp(c.started_at_ms / 1000.0)
    FROM jsonb_to_record(p_call) AS c (id uuid, provider text, model text, api_call_type text, status text, error_message text, response_id text,
        cost_micro_usd bigint, duration_ms integer, started_at_ms bigint)
    ON CONFLICT DO NOTHING
$$;
REVOKE ALL ON FUNCTION record_account_call(uuid, jsonb) FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION record_account_call(uuid, jsonb) TO service_role;
