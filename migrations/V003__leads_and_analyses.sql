-- The businesses that an account sells for, its leads, the runs that analyze them, and what vendors charged.
-- A row of `analyses` is a run: a run of a batch from the request on, any other one from its admission on. A terminal run never changes again.
-- Reads go through row-level security. Writes go through the functions, which require a membership that may write: no role has INSERT,
-- UPDATE or DELETE on these tables.

-- Whether a context pack has only the API's fields, each of its type and within its bounds (functions/business_profiles/src/fields.rs). Prompts
-- and responses read the pack: a number that no client can hold, or a value nested too deeply to be parsed, would make each of them fail.
-- The text of a number is bounded too: the smallest double has 340 decimals.
CREATE OR REPLACE FUNCTION context_pack_is_valid(p_pack jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_typeof(p_pack) = 'object' AND NOT EXISTS (
        SELECT 1 FROM jsonb_each(CASE WHEN jsonb_typeof(p_pack) = 'object' THEN p_pack ELSE '{}' END) AS f (name, value)
        WHERE CASE
            WHEN f.name IN ('target_audience', 'offering', 'outreach_goals')
                THEN jsonb_typeof(f.value) = 'string' AND char_length(f.value #>> '{}') BETWEEN 1 AND 600
            WHEN f.name IN ('industry', 'icp_geographic_focus', 'icp_industry_niche', 'brand_voice')
                THEN jsonb_typeof(f.value) = 'string' AND char_length(f.value #>> '{}') BETWEEN 1 AND 200
            WHEN f.name IN ('icp_content_themes', 'selling_points')
                THEN CASE WHEN jsonb_typeof(f.value) = 'array' THEN jsonb_array_length(f.value) <= 10 AND NOT EXISTS (
                    SELECT 1 FROM jsonb_array_elements(f.value) AS entry
                    WHERE jsonb_typeof(entry) <> 'string' OR char_length(entry #>> '{}') NOT BETWEEN 1 AND 200) ELSE false END
            WHEN f.name IN ('icp_min_followers', 'icp_max_followers')
                THEN CASE WHEN jsonb_typeof(f.value) = 'number' THEN f.value::text ~ '^[0-9]{1,10}$' AND f.value::numeric <= 2000000000 ELSE false END
            WHEN f.name = 'icp_min_engagement_rate'
                THEN CASE WHEN jsonb_typeof(f.value) = 'number' THEN f.value::numeric BETWEEN 0 AND 100 AND octet_length(f.value::text) <= 400 ELSE false END
            ELSE false END IS NOT TRUE)
$$;

CREATE TABLE IF NOT EXISTS business_profiles (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    business_name text NOT NULL CHECK (char_length(business_name) BETWEEN 1 AND 200),
    website text,
    business_one_liner text,
    business_context_pack jsonb NOT NULL DEFAULT '{}' CONSTRAINT business_profiles_context_pack CHECK (context_pack_is_valid(business_context_pack)),
    context_version text NOT NULL DEFAULT 'v1.0',
    context_generated_at timestamptz,
    context_manually_edited boolean NOT NULL DEFAULT false,
    context_updated_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (id, account_id),
    CONSTRAINT business_profiles_follower_range CHECK (
        CASE WHEN jsonb_typeof(business_context_pack -> 'icp_min_followers') = 'number' AND jsonb_typeof(business_context_pack -> 'icp_max_followers') = 'number'
             THEN (business_context_pack ->> 'icp_min_followers')::numeric <= (business_context_pack ->> 'icp_max_followers')::numeric ELSE true END),
    CONSTRAINT business_profiles_bounded CHECK (
        char_length(website) <= 2048 AND website ~* '^https?://' AND char_length(business_one_liner) <= 500 AND octet_length(business_context_pack::text) <= 65536)
);
CREATE INDEX IF NOT EXISTS business_profiles_account ON business_profiles (account_id, created_at DESC) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS business_profiles_deleted ON business_profiles (deleted_at) WHERE deleted_at IS NOT NULL;

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
-- One index for each order of the list; the id makes an order total, so that pages neither repeat nor skip. Leads without the value come
-- last in both directions, and an index read backwards would return them first: the two orders with nulls have an index for each direction.
CREATE INDEX IF NOT EXISTS leads_by_analysis ON leads (account_id, last_analyzed_at DESC NULLS LAST, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS leads_by_analysis_ascending ON leads (account_id, last_analyzed_at, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS leads_by_followers ON leads (account_id, follower_count DESC NULLS LAST, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS leads_by_followers_ascending ON leads (account_id, follower_count, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS leads_by_creation ON leads (account_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
-- For the cleanup, and for the foreign keys of rows that it removes.
CREATE INDEX IF NOT EXISTS leads_deleted ON leads (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS leads_of_profile ON leads (business_profile_id);

-- What a run costs its account, in credits. The one place in the database that knows prices.
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
    charge_kept boolean NOT NULL DEFAULT false,
    total_cost_micro_usd bigint CHECK (total_cost_micro_usd >= 0),
    cost jsonb,
    steps jsonb NOT NULL DEFAULT '[]',
    percent smallint NOT NULL DEFAULT 0 CHECK (percent BETWEEN 0 AND 100),
    processing_duration_ms bigint,
    started_at timestamptz,
    last_step_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (lead_id, account_id) REFERENCES leads (id, account_id) ON DELETE CASCADE,
    CONSTRAINT analyses_username CHECK (username ~ '^[a-z0-9_]([a-z0-9._]{0,28}[a-z0-9_])?$' AND username NOT LIKE '%..%'),
    CONSTRAINT analyses_price CHECK (credits_charged IN (0, analysis_credits(analysis_type))),
    CONSTRAINT analyses_completed CHECK (status <> 'completed' OR (lead_id IS NOT NULL AND overall_score IS NOT NULL AND completed_at IS NOT NULL)),
    CONSTRAINT analyses_failed CHECK ((status = 'failed') = (error_code IS NOT NULL)),
    CONSTRAINT analyses_charge_kept CHECK (NOT charge_kept OR status = 'cancelled' AND credits_charged > 0 AND percent >= 50),
    CONSTRAINT analyses_ended CHECK ((status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL))
);
COMMENT ON COLUMN analyses.ai_answers IS 'the models'' answers so far, by question; users may not read it: they could read the answers and cancel';
COMMENT ON COLUMN analyses.credits_charged IS 'what the ledger debited for this run, also if it was refunded later';
COMMENT ON COLUMN analyses.charge_kept IS 'whether the run was cancelled without a refund (cancellation_keeps_charge)';
COMMENT ON COLUMN analyses.scrape_run_id IS 'the Actor run that fetches the profile: a retried task waits for it instead of paying for another';
COMMENT ON COLUMN analyses.percent IS 'how far the run came, for when its progress item has expired';
-- The duplicate check: two live runs of one handle cannot exist.
CREATE UNIQUE INDEX IF NOT EXISTS one_live_run ON analyses (account_id, business_profile_id, username) WHERE status IN ('pending', 'processing');
CREATE INDEX IF NOT EXISTS analyses_lead ON analyses (lead_id, completed_at DESC) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS analyses_account ON analyses (account_id, created_at DESC) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS analyses_of_account ON analyses (account_id, username);
CREATE INDEX IF NOT EXISTS analyses_batch ON analyses (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS analyses_live ON analyses (last_step_at) WHERE status IN ('pending', 'processing');
CREATE INDEX IF NOT EXISTS analyses_cancelled ON analyses (account_id, completed_at) WHERE status = 'cancelled' AND credits_charged > 0;
CREATE INDEX IF NOT EXISTS analyses_deleted ON analyses (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS analyses_of_lead ON analyses (lead_id) WHERE lead_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS analyses_of_profile ON analyses (business_profile_id) WHERE business_profile_id IS NOT NULL;

-- Allows legal transitions only. A run's identity (id, account, handle, tier) never changes; a terminal run changes only in its retention.
CREATE OR REPLACE FUNCTION guard_analysis() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    retention CONSTANT text[] := ARRAY['deleted_at', 'updated_at', 'business_profile_id', 'requested_by']
        -- The costs follow the recorded calls: a call that ends after its run is recorded later, and its cost may settle later still.
        || CASE WHEN NEW.cost IS DISTINCT FROM OLD.cost AND NEW.cost = run_cost(OLD.run_id) THEN ARRAY['cost', 'total_cost_micro_usd'] ELSE '{}' END;
BEGIN
    IF (NEW.run_id, NEW.account_id, NEW.username, NEW.analysis_type) IS DISTINCT FROM (OLD.run_id, OLD.account_id, OLD.username, OLD.analysis_type) THEN
        RAISE EXCEPTION 'the identity of a run cannot change' USING ERRCODE = 'OS409';
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

-- A run that ends without a result belongs to the lead that its account already has of the handle, if any, as a completed one does.
CREATE OR REPLACE FUNCTION attach_lead() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    SELECT id INTO NEW.lead_id FROM leads
    WHERE account_id = NEW.account_id AND business_profile_id = NEW.business_profile_id AND username = NEW.username AND deleted_at IS NULL;
    RETURN NEW;
END
$$;
DROP TRIGGER IF EXISTS attach_lead_refused ON analyses;
CREATE TRIGGER attach_lead_refused BEFORE INSERT ON analyses FOR EACH ROW
    WHEN (NEW.status IN ('failed', 'cancelled') AND NEW.lead_id IS NULL) EXECUTE FUNCTION attach_lead();
DROP TRIGGER IF EXISTS attach_lead_ended ON analyses;
CREATE TRIGGER attach_lead_ended BEFORE UPDATE OF status ON analyses FOR EACH ROW
    WHEN (NEW.status IN ('failed', 'cancelled') AND OLD.status IN ('pending', 'processing') AND NEW.lead_id IS NULL) EXECUTE FUNCTION attach_lead();

-- What vendors cost us, one row a call that was paid or attempted. Kept for 90 days.
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
    cost_known boolean NOT NULL DEFAULT true,
    cost_read_at timestamptz,
    duration_ms integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- An Actor run has one row, whichever of our runs waited for it. A model call has one by our own id: some servers give the same response id to
-- different calls.
CREATE UNIQUE INDEX IF NOT EXISTS one_row_an_actor_run ON ai_usage_logs (response_id) WHERE provider = 'apify' AND response_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS ai_usage_logs_run ON ai_usage_logs (run_id);
CREATE INDEX IF NOT EXISTS ai_usage_logs_age ON ai_usage_logs (created_at);
CREATE INDEX IF NOT EXISTS ai_usage_logs_unsettled ON ai_usage_logs (created_at) WHERE NOT cost_known;
COMMENT ON COLUMN ai_usage_logs.cost_read_at IS 'when a cost that was not known was read again last';
COMMENT ON COLUMN ai_usage_logs.cost_known IS 'false while the vendor has not settled the cost: then it is at least cost_micro_usd';

-- --- Leads -------------------------------------------------------------------------------------------------------------

-- Soft-deletes a lead and its analyses with one time stamp, by which a restoration finds the analyses that were deleted with it.
-- Returns deleted, not_found or forbidden. A second deletion finds nothing.
CREATE OR REPLACE FUNCTION delete_lead(p_lead_id uuid, p_account_id uuid DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    lead leads;
    t CONSTANT timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO lead FROM leads
    WHERE id = p_lead_id AND deleted_at IS NULL AND account_id IN (SELECT user_account_ids()) AND (p_account_id IS NULL OR account_id = p_account_id)
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'not_found';
    ELSIF NOT caller_may_write(lead.account_id) THEN
        RETURN 'forbidden';
    END IF;
    UPDATE leads SET deleted_at = t, updated_at = t WHERE id = lead.id;
    UPDATE analyses SET deleted_at = t, updated_at = t WHERE lead_id = lead.id AND deleted_at IS NULL;
    RETURN 'deleted';
END
$$;

-- Restores a lead deleted within 30 days, with the analyses that were deleted with it. `outcome` is restored (also if it is live
-- already), not_found, forbidden, or conflict with the live lead of the same handle that replaced it.
CREATE OR REPLACE FUNCTION restore_lead(p_lead_id uuid, p_account_id uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    lead leads;
    live uuid;
    restored integer := 0;
BEGIN
    SELECT * INTO lead FROM leads
    WHERE id = p_lead_id AND account_id IN (SELECT user_account_ids()) AND (p_account_id IS NULL OR account_id = p_account_id)
      AND (deleted_at IS NULL OR deleted_at > clock_timestamp() - interval '30 days')
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'not_found');
    ELSIF NOT caller_may_write(lead.account_id) THEN
        RETURN jsonb_build_object('outcome', 'forbidden');
    END IF;
    IF lead.deleted_at IS NOT NULL THEN
        BEGIN
            UPDATE leads SET deleted_at = NULL, updated_at = clock_timestamp() WHERE id = lead.id;
        EXCEPTION WHEN unique_violation THEN
            SELECT id INTO live FROM leads WHERE account_id = lead.account_id AND business_profile_id = lead.business_profile_id
                AND username = lead.username AND deleted_at IS NULL;
            RETURN jsonb_build_object('outcome', 'conflict', 'lead_id', live, 'username', lead.username);
        END;
        UPDATE analyses SET deleted_at = NULL, updated_at = clock_timestamp() WHERE lead_id = lead.id AND deleted_at = lead.deleted_at;
        GET DIAGNOSTICS restored = ROW_COUNT;
    END IF;
    RETURN jsonb_build_object('outcome', 'restored', 'lead_id', lead.id, 'username', lead.username, 'analyses_restored', restored);
END
$$;

-- --- Business profiles ---------------------------------------------------------------------------------------------------

-- A profile as the API returns it, with the number of its leads and analyses.
CREATE OR REPLACE FUNCTION business_profile_view(p business_profiles) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT to_jsonb(p) - 'deleted_at' || jsonb_build_object(
        'leads_count', (SELECT count(*) FROM leads l WHERE l.account_id = p.account_id AND l.business_profile_id = p.id AND l.deleted_at IS NULL),
        'analyses_count', (SELECT count(*) FROM analyses a WHERE a.business_profile_id = p.id AND a.deleted_at IS NULL))
$$;

-- Creates a profile if the plan allows another. p_fields holds valid fields. Concurrent creations wait for each other on the account's
-- row, so they cannot exceed the limit together. `outcome` is created, no_account, forbidden or plan_limit.
CREATE OR REPLACE FUNCTION create_business_profile(p_account_id uuid, p_fields jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_account uuid;
    v_refusal jsonb;
    v_plan plans;
    v_count bigint;
    profile business_profiles;
BEGIN
    SELECT account_id, refusal INTO v_account, v_refusal FROM caller_writable_account(p_account_id);
    IF v_refusal IS NOT NULL THEN
        RETURN v_refusal;
    END IF;
    IF NOT context_pack_is_valid(jsonb_strip_nulls(p_fields -> 'business_context_pack')) THEN
        RAISE EXCEPTION 'not a context pack that the API writes' USING ERRCODE = 'OS400';
    END IF;
    PERFORM 1 FROM accounts WHERE id = v_account FOR NO KEY UPDATE;
    SELECT * INTO v_plan FROM account_plan(v_account);
    SELECT count(*) INTO v_count FROM business_profiles WHERE account_id = v_account AND deleted_at IS NULL;
    IF v_count >= v_plan.max_businesses OR v_plan.id IS NULL THEN
        RETURN jsonb_build_object('outcome', 'plan_limit', 'plan', v_plan.id, 'limit', coalesce(v_plan.max_businesses, 0), 'count', v_count);
    END IF;
    INSERT INTO business_profiles (account_id, business_name, website, business_one_liner, business_context_pack, context_manually_edited, context_updated_at)
    VALUES (v_account, p_fields ->> 'business_name', p_fields ->> 'website', p_fields ->> 'business_one_liner',
            jsonb_strip_nulls(p_fields -> 'business_context_pack'), true, now())
    RETURNING * INTO profile;
    RETURN jsonb_build_object('outcome', 'created', 'profile', business_profile_view(profile));
END
$$;

-- Changes the fields that p_patch names and merges its pack into the existing one, key by key, in one statement: two writers of different
-- keys both take effect. A null clears. `outcome` is updated, not_found, forbidden or follower_range.
CREATE OR REPLACE FUNCTION update_business_profile(p_id uuid, p_account_id uuid, p_patch jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    profile business_profiles;
    v_constraint text;
BEGIN
    SELECT * INTO profile FROM business_profiles
    WHERE id = p_id AND deleted_at IS NULL AND account_id IN (SELECT user_account_ids()) AND (p_account_id IS NULL OR account_id = p_account_id)
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'not_found');
    ELSIF NOT caller_may_write(profile.account_id) THEN
        RETURN jsonb_build_object('outcome', 'forbidden');
    END IF;
    UPDATE business_profiles SET
        business_name = coalesce(p_patch ->> 'business_name', business_name),
        website = CASE WHEN p_patch ? 'website' THEN p_patch ->> 'website' ELSE website END,
        business_one_liner = CASE WHEN p_patch ? 'business_one_liner' THEN p_patch ->> 'business_one_liner' ELSE business_one_liner END,
        business_context_pack = jsonb_strip_nulls(business_context_pack || coalesce(p_patch -> 'business_context_pack', '{}')),
        context_manually_edited = context_manually_edited OR p_patch ? 'business_context_pack',
        context_updated_at = CASE WHEN p_patch ? 'business_context_pack' THEN clock_timestamp() ELSE context_updated_at END,
        updated_at = clock_timestamp()
    WHERE id = profile.id RETURNING * INTO profile;
    RETURN jsonb_build_object('outcome', 'updated', 'profile', business_profile_view(profile));
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS v_constraint = CONSTRAINT_NAME;
    IF v_constraint <> 'business_profiles_follower_range' THEN
        -- Without the row, which the server's log would show.
        RAISE EXCEPTION 'the constraint % allows no such business profile', v_constraint USING ERRCODE = 'OS400';
    END IF;
    RETURN jsonb_build_object('outcome', 'follower_range');
END
$$;
