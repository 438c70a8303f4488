-- Every privilege on the schema, in one list. What is not granted here, no role but the owner may do.
--
-- Supabase's Data API serves `public` to everyone: as `anon` without a token, as `authenticated` with one. Tables are at /rest/v1, and a
-- function that a role may execute is at /rest/v1/rpc. Hence:
--   anon           nothing;
--   authenticated  reads under row-level security, and executes only what policies call;
--   oslira_api     is a member of `authenticated`, and executes the API's functions as well;
--   service_role   reads everything (it bypasses RLS), and executes what tasks, consumers and schedules call.
-- No role has INSERT, UPDATE, DELETE or TRUNCATE on any table, nor any privilege on a sequence: a login that could set back the outbox's
-- would make every charge and refund fail.
-- tests/privileges.rs holds the same list and fails on anything new.

-- --- Row-level security --------------------------------------------------------------------------------------------------
-- On every table, and FORCEd, so that it binds the owner too unless its role bypasses RLS.
DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['users', 'accounts', 'account_members', 'plans', 'subscriptions', 'business_profiles', 'leads', 'analyses',
        'ai_usage_logs', 'credit_balances', 'credit_ledger', 'idempotency_keys', 'webhook_events', 'subscription_periods', 'stripe_invoices',
        'stripe_payments', 'stripe_customers', 'signup_addresses', 'metric_outbox'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
    END LOOP;
END
$$;

DROP POLICY IF EXISTS users_read ON users;
CREATE POLICY users_read ON users FOR SELECT TO authenticated USING (id = (SELECT auth.uid()));
DROP POLICY IF EXISTS accounts_read ON accounts;
CREATE POLICY accounts_read ON accounts FOR SELECT TO authenticated USING (id = ANY (ARRAY(SELECT user_account_ids())));
DROP POLICY IF EXISTS account_members_read ON account_members;
CREATE POLICY account_members_read ON account_members FOR SELECT TO authenticated USING (account_id = ANY (ARRAY(SELECT user_account_ids())));
DROP POLICY IF EXISTS plans_read ON plans;
CREATE POLICY plans_read ON plans FOR SELECT TO authenticated USING (is_active);
DROP POLICY IF EXISTS subscriptions_read ON subscriptions;
CREATE POLICY subscriptions_read ON subscriptions FOR SELECT TO authenticated USING (account_id = ANY (ARRAY(SELECT user_account_ids())));
DROP POLICY IF EXISTS business_profiles_read ON business_profiles;
CREATE POLICY business_profiles_read ON business_profiles FOR SELECT TO authenticated
    USING (deleted_at IS NULL AND account_id = ANY (ARRAY(SELECT user_account_ids())));
DROP POLICY IF EXISTS leads_read ON leads;
CREATE POLICY leads_read ON leads FOR SELECT TO authenticated
    USING (deleted_at IS NULL AND account_id = ANY (ARRAY(SELECT user_account_ids())));
DROP POLICY IF EXISTS analyses_read ON analyses;
CREATE POLICY analyses_read ON analyses FOR SELECT TO authenticated
    USING (deleted_at IS NULL AND account_id = ANY (ARRAY(SELECT user_account_ids())));
DROP POLICY IF EXISTS credit_balances_read ON credit_balances;
CREATE POLICY credit_balances_read ON credit_balances FOR SELECT TO authenticated USING (account_id = ANY (ARRAY(SELECT user_account_ids())));
DROP POLICY IF EXISTS credit_ledger_read ON credit_ledger;
CREATE POLICY credit_ledger_read ON credit_ledger FOR SELECT TO authenticated USING (account_id = ANY (ARRAY(SELECT user_account_ids())));
DROP POLICY IF EXISTS idempotency_keys_read ON idempotency_keys;
CREATE POLICY idempotency_keys_read ON idempotency_keys FOR SELECT TO authenticated
    USING (user_id = (SELECT auth.uid()) AND account_id = ANY (ARRAY(SELECT user_account_ids())));
DROP POLICY IF EXISTS stripe_invoices_read ON stripe_invoices;
CREATE POLICY stripe_invoices_read ON stripe_invoices FOR SELECT TO authenticated USING (account_id = ANY (ARRAY(SELECT user_account_ids())));

-- --- Closed first --------------------------------------------------------------------------------------------------------
-- Every object of ours. Those of other owners in `public`, such as an extension's, are not ours to change.
DO $$
DECLARE
    object text;
BEGIN
    FOR object IN
        SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || oid::regclass FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relowner = current_user::regrole AND relkind IN ('r', 'p', 'v', 'm', 'S')
        UNION ALL
        SELECT 'ROUTINE ' || oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proowner = current_user::regrole
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, anon, authenticated, service_role, oslira_api', object);
    END LOOP;
END
$$;

-- --- Tables --------------------------------------------------------------------------------------------------------------
GRANT SELECT ON account_members, plans, subscriptions, business_profiles, leads, credit_balances, credit_ledger, idempotency_keys, stripe_invoices
    TO authenticated;
-- All columns but `suspended_reason`, which an operator writes for operators: a suspended user still reads the own row.
GRANT SELECT (id, email, full_name, avatar_url, is_suspended, suspended_at, last_seen_at, created_at, updated_at) ON users TO authenticated;
GRANT SELECT (id, owner_id, name, slug, stripe_customer_id, is_suspended, suspended_at, deleted_at, anonymized_at, created_at, updated_at) ON accounts
    TO authenticated;
-- All columns of a run but `ai_answers`, `scrape_run_id`: a user who could read the answers before the run is completed would cancel
-- afterwards.
GRANT SELECT (id, run_id, batch_id, account_id, business_profile_id, lead_id, requested_by, username, analysis_type, status, error_code,
    error_details, ai_response, metrics, overall_score, niche_fit_score, engagement_score, confidence_level, summary_text, model_used, cache_hit,
    credits_charged, charge_kept, total_cost_micro_usd, cost, steps, percent, processing_duration_ms, started_at, last_step_at, completed_at, deleted_at,
    created_at, updated_at) ON analyses TO authenticated;
GRANT SELECT ON users, accounts, account_members, plans, subscriptions, business_profiles, leads, analyses, ai_usage_logs, credit_balances,
    credit_ledger, idempotency_keys, webhook_events, subscription_periods, stripe_invoices, stripe_payments, stripe_customers, signup_addresses,
    ledger_faults
    TO service_role;

-- --- Functions -----------------------------------------------------------------------------------------------------------
-- What policies call.
GRANT EXECUTE ON FUNCTION user_account_ids() TO authenticated;
-- The API.
GRANT EXECUTE ON FUNCTION
    caller_account(uuid),
    analysis_credits(text),
    run_is_stuck(text, text, timestamptz),
    cancel_analysis(text, jsonb, uuid),
    create_bulk_analyses(uuid, uuid, text, text, jsonb, text, text),
    cancel_batch(text, uuid),
    delete_lead(uuid, uuid),
    restore_lead(uuid, uuid),
    create_business_profile(uuid, jsonb),
    update_business_profile(uuid, uuid, jsonb),
    claim_idempotency_key(uuid, text, text, text, text),
    settle_idempotency_key(uuid, text, text),
    begin_purchase(uuid, text, text, text)
    TO oslira_api;
-- Tasks, consumers and schedules.
GRANT EXECUTE ON FUNCTION
    analysis_credits(text),
    run_is_stuck(text, text, timestamptz),
    create_account_atomic(uuid, text, text, text),
    grant_credits(uuid, integer, text, text, text, jsonb, text),
    chargeback_credits(uuid, integer, text, text),
    deduct_credits_atomic(uuid, integer, text, text),
    refund_run(text),
    admit_analysis(text, jsonb),
    begin_task(text),
    begin_analysis(text),
    record_scrape_run(text, text, text),
    record_vendor_calls(text, jsonb, text, jsonb),
    record_account_call(uuid, jsonb),
    take_unsettled_scrapes(integer),
    settle_scrape_cost(text, bigint),
    complete_analysis(text, jsonb, jsonb, jsonb, boolean, jsonb),
    fail_run(text, text, jsonb, jsonb, jsonb),
    begin_bulk_group(text, text[]),
    record_group_scrape_run(text, text[], text, text),
    record_group_scrape_cost(text, text[], jsonb),
    fail_pending_runs(text, text[], text),
    apply_stripe_event(jsonb),
    get_renewable_subscriptions(),
    renew_subscriptions(integer),
    owed_periods(),
    settle_owed_periods(integer),
    overdue_subscriptions(),
    count_expired(text),
    remove_expired(text, integer),
    stuck_runs(text, integer),
    end_stuck_run(text),
    take_metrics(integer, uuid),
    count_metrics(),
    account_faults(uuid[]),
    reconcile(uuid, integer)
    TO service_role;
