-- What an account works with: the businesses it sells for, the leads it judged, and the runs that judged them.
-- A row of `analyses` is a run from its admission on; a terminal run never changes again.

CREATE TABLE IF NOT EXISTS business_profiles (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    business_name text NOT NULL CHECK (char_length(business_name) BETWEEN 1 AND 200),
    website text,
    business_one_liner text,
    business_context_pack jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(business_context_pack) = 'object'),
    context_version text NOT NULL DEFAULT 'v1.0',
    context_generated_at timestamptz,
    context_manually_edited boolean NOT NULL DEFAULT false,
    context_updated_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (id, account_id)
);
CREATE INDEX IF NOT EXISTS business_profiles_account ON business_profiles (account_id, created_at DESC) WHERE deleted_at IS NULL;

CREATE TABLE IF NOT EXISTS leads (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    business_profile_id uuid NOT NULL,
    username text NOT NULL CHECK (username ~ '^[a-z0-9_]([a-z0-9._]{0,28}[a-z0-9_])?$' AND username NOT LIKE '%..%'),
    platform text NOT NULL DEFAULT 'instagram' CHECK (platform = 'instagram'),
    display_name text,
    profile_pic_url text,
    profile_url text NOT NULL GENERATED ALWAYS AS ('https://www.instagram.com/' || username || '/') STORED,
    follower_count bigint CHECK (follower_count >= 0),
    following_count bigint CHECK (following_count >= 0),
    post_count bigint CHECK (post_count >= 0),
    bio text,
    external_url text,
    is_verified boolean NOT NULL DEFAULT false,
    is_private boolean NOT NULL DEFAULT false,
    is_business_account boolean NOT NULL DEFAULT false,
    first_analyzed_at timestamptz,
    last_analyzed_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (id, account_id),
    -- A lead of one account under a business profile of another cannot be written, whatever the code does.
    FOREIGN KEY (business_profile_id, account_id) REFERENCES business_profiles (id, account_id) ON DELETE RESTRICT
);
CREATE UNIQUE INDEX IF NOT EXISTS one_live_lead ON leads (account_id, business_profile_id, username) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS leads_account ON leads (account_id, last_analyzed_at DESC NULLS LAST) WHERE deleted_at IS NULL;

-- What a run costs its account. The one place in the database that knows prices.
CREATE OR REPLACE FUNCTION analysis_credits(p_type text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE p_type WHEN 'light' THEN 1 WHEN 'deep' THEN 3 WHEN 'xray' THEN 5 END
$$;

CREATE TABLE IF NOT EXISTS analyses (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    run_id text NOT NULL UNIQUE CHECK (run_id ~ '^run_[0-9a-f]{32}$'),
    batch_id text,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    business_profile_id uuid REFERENCES business_profiles (id) ON DELETE SET NULL,
    lead_id uuid,
    requested_by uuid REFERENCES users (id) ON DELETE SET NULL,
    username text NOT NULL,
    analysis_type text NOT NULL CHECK (analysis_type IN ('light', 'deep', 'xray')),
    status text NOT NULL CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    error_code text,
    error_details jsonb,
    ai_answers jsonb NOT NULL DEFAULT '{}',
    ai_response jsonb NOT NULL DEFAULT '{}',
    metrics jsonb,
    overall_score smallint CHECK (overall_score BETWEEN 0 AND 100),
    niche_fit_score smallint CHECK (niche_fit_score BETWEEN 0 AND 100),
    engagement_score smallint CHECK (engagement_score BETWEEN 0 AND 100),
    confidence_level numeric(4, 3) CHECK (confidence_level BETWEEN 0 AND 1),
    summary_text text,
    model_used text,
    cache_hit boolean,
    scrape_run_id text,
    credits_charged integer NOT NULL DEFAULT 0,
    total_cost_micro_usd bigint CHECK (total_cost_micro_usd >= 0),
    cost jsonb,
    steps jsonb NOT NULL DEFAULT '[]',
    processing_duration_ms bigint,
    started_at timestamptz,
    last_step_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (lead_id, account_id) REFERENCES leads (id, account_id) ON DELETE CASCADE,
    CONSTRAINT analyses_price CHECK (credits_charged IN (0, analysis_credits(analysis_type))),
    CONSTRAINT analyses_completed CHECK (status <> 'completed' OR (lead_id IS NOT NULL AND overall_score IS NOT NULL AND completed_at IS NOT NULL)),
    CONSTRAINT analyses_failed CHECK ((status = 'failed') = (error_code IS NOT NULL)),
    CONSTRAINT analyses_ended CHECK ((status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL))
);
COMMENT ON COLUMN analyses.ai_answers IS 'what models said so far, by call: not readable by users, who could read it and cancel';
COMMENT ON COLUMN analyses.credits_charged IS 'what the ledger debited for this run, also if it was refunded later';
COMMENT ON COLUMN analyses.scrape_run_id IS 'the Apify run that fetches the profile: a repeated task waits for it instead of paying for another';
-- The duplicate check: two live runs of one handle cannot exist.
CREATE UNIQUE INDEX IF NOT EXISTS one_live_run ON analyses (account_id, business_profile_id, username) WHERE status IN ('pending', 'processing');
CREATE INDEX IF NOT EXISTS analyses_lead ON analyses (lead_id, completed_at DESC) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS analyses_account ON analyses (account_id, created_at DESC) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS analyses_batch ON analyses (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS analyses_live ON analyses (last_step_at) WHERE status IN ('pending', 'processing');

-- Legal transitions only; what a run is about never changes; a terminal run changes in nothing but its retention.
CREATE OR REPLACE FUNCTION guard_analysis() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    retention CONSTANT text[] := ARRAY['deleted_at', 'updated_at', 'business_profile_id', 'requested_by'];
BEGIN
    IF (NEW.run_id, NEW.account_id, NEW.username, NEW.analysis_type) IS DISTINCT FROM (OLD.run_id, OLD.account_id, OLD.username, OLD.analysis_type) THEN
        RAISE EXCEPTION 'what a run is about cannot change' USING ERRCODE = 'OS409';
    END IF;
    IF OLD.status IN ('completed', 'failed', 'cancelled') THEN
        IF to_jsonb(NEW) - retention IS DISTINCT FROM to_jsonb(OLD) - retention
           OR (NEW.business_profile_id IS NOT NULL AND NEW.business_profile_id IS DISTINCT FROM OLD.business_profile_id)
           OR (NEW.requested_by IS NOT NULL AND NEW.requested_by IS DISTINCT FROM OLD.requested_by) THEN
            RAISE EXCEPTION 'run % is % and cannot change', OLD.run_id, OLD.status USING ERRCODE = 'OS409';
        END IF;
    ELSIF OLD.status = 'processing' AND NEW.status = 'pending' OR OLD.status = 'pending' AND NEW.status = 'completed' THEN
        RAISE EXCEPTION 'a run cannot go from % to %', OLD.status, NEW.status USING ERRCODE = 'OS409';
    END IF;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;
DROP TRIGGER IF EXISTS guard_analysis ON analyses;
CREATE TRIGGER guard_analysis BEFORE UPDATE ON analyses FOR EACH ROW EXECUTE FUNCTION guard_analysis();

-- What vendors cost us, one row a call that was paid or tried. Kept for 90 days.
CREATE TABLE IF NOT EXISTS ai_usage_logs (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    run_id text,
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'apify')),
    model text,
    api_call_type text NOT NULL,
    status text NOT NULL CHECK (status IN ('success', 'error', 'timeout')),
    error_message text,
    response_id text,
    input_tokens bigint NOT NULL DEFAULT 0 CHECK (input_tokens >= 0),
    cached_input_tokens bigint NOT NULL DEFAULT 0 CHECK (cached_input_tokens >= 0),
    cache_write_tokens bigint NOT NULL DEFAULT 0 CHECK (cache_write_tokens >= 0),
    output_tokens bigint NOT NULL DEFAULT 0 CHECK (output_tokens >= 0),
    reasoning_tokens bigint NOT NULL DEFAULT 0 CHECK (reasoning_tokens >= 0),
    cost_micro_usd bigint NOT NULL DEFAULT 0 CHECK (cost_micro_usd >= 0),
    duration_ms integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- A vendor's own id of a call: recording the same call twice, as a repeated task may, counts it once.
CREATE UNIQUE INDEX IF NOT EXISTS one_row_a_vendor_call ON ai_usage_logs (provider, response_id) WHERE response_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS ai_usage_logs_run ON ai_usage_logs (run_id);
CREATE INDEX IF NOT EXISTS ai_usage_logs_age ON ai_usage_logs (created_at);

DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['business_profiles', 'leads', 'analyses', 'ai_usage_logs'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC, anon, authenticated, service_role', table_name);
        EXECUTE format('GRANT SELECT ON %I TO service_role', table_name);
    END LOOP;
    FOREACH table_name IN ARRAY ARRAY['business_profiles', 'leads', 'analyses'] LOOP
        EXECUTE format('GRANT SELECT ON %I TO authenticated', table_name);
        EXECUTE format('DROP POLICY IF EXISTS %I ON %I', table_name || '_read', table_name);
        EXECUTE format('CREATE POLICY %I ON %I FOR SELECT TO authenticated '
            'USING (deleted_at IS NULL AND account_id = ANY (ARRAY(SELECT user_account_ids())))', table_name || '_read', table_name);
    END LOOP;
END
$$;

-- Of a run its users see everything but the answers that come in before it is paid for good: whoever could read those would
-- cancel afterwards. Supabase serves this table to its users directly.
REVOKE SELECT ON analyses FROM authenticated;
GRANT SELECT (id, run_id, batch_id, account_id, business_profile_id, lead_id, requested_by, username, analysis_type, status, error_code,
    error_details, ai_response, metrics, overall_score, niche_fit_score, engagement_score, confidence_level, summary_text, model_used, cache_hit,
    credits_charged, total_cost_micro_usd, cost, steps, processing_duration_ms, started_at, last_step_at, completed_at, deleted_at, created_at,
    updated_at) ON analyses TO authenticated;
