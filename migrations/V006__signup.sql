-- Signup: when Supabase Auth creates a person, the person gets an account, its ownership, a free subscription, a balance and
-- 25 credits, once. The trigger makes it part of Supabase's own transaction; the function may be called again by hand.

CREATE OR REPLACE FUNCTION generate_slug(p_text text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    base text := coalesce(nullif(trim(BOTH '-' FROM left(regexp_replace(lower(p_text), '[^a-z0-9]+', '-', 'g'), 44)), ''), 'account');
    slug_text text := base;
    suffix integer := 1;
BEGIN
    WHILE EXISTS (SELECT 1 FROM accounts WHERE slug = slug_text) LOOP
        suffix := suffix + 1;
        slug_text := base || '-' || suffix;
    END LOOP;
    RETURN slug_text;
END
$$;

CREATE OR REPLACE FUNCTION create_account_atomic(p_user_id uuid, p_email text DEFAULT NULL, p_full_name text DEFAULT NULL, p_avatar_url text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_name CONSTANT text := coalesce(nullif(trim(p_full_name), ''), nullif(split_part(p_email, '@', 1), ''), 'New');
    v_account uuid;
    is_new boolean;
BEGIN
    INSERT INTO users (id, email, full_name, avatar_url) VALUES (p_user_id, p_email, p_full_name, p_avatar_url)
    ON CONFLICT (id) DO UPDATE SET email = excluded.email, full_name = coalesce(excluded.full_name, users.full_name),
        avatar_url = coalesce(excluded.avatar_url, users.avatar_url), updated_at = now();
    -- The upsert above holds the user's row: two signups of one person take turns here. Two people whose names make the
    -- same slug take turns too.
    PERFORM pg_advisory_xact_lock(hashtextextended('oslira.account.slug', 0));
    SELECT id INTO v_account FROM accounts WHERE owner_id = p_user_id ORDER BY created_at LIMIT 1;
    is_new := NOT FOUND;
    IF is_new THEN
        INSERT INTO accounts (owner_id, name, slug) VALUES (p_user_id, v_name || '''s Account', generate_slug(v_name)) RETURNING id INTO v_account;
        INSERT INTO account_members (account_id, user_id, role) VALUES (v_account, p_user_id, 'owner');
        INSERT INTO subscriptions (account_id, plan_id, current_period_start, current_period_end) VALUES (v_account, 'free', now(), now() + interval '1 month');
    END IF;
    PERFORM grant_credits(v_account, 25, 'signup_bonus', 'signup', 'Welcome to Oslira');
    RETURN jsonb_build_object('user_id', p_user_id, 'account_id', v_account, 'email', p_email, 'is_new_user', is_new,
        'credit_balance', (SELECT current_balance FROM credit_balances WHERE account_id = v_account));
END
$$;

CREATE OR REPLACE FUNCTION on_auth_user_created() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM create_account_atomic(NEW.id, NEW.email, NEW.raw_user_meta_data ->> 'full_name', NEW.raw_user_meta_data ->> 'avatar_url');
    RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS oslira_on_auth_user_created ON auth.users;
CREATE TRIGGER oslira_on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION on_auth_user_created();

REVOKE ALL ON FUNCTION generate_slug(text), create_account_atomic(uuid, text, text, text), on_auth_user_created()
    FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION create_account_atomic(uuid, text, text, text) TO service_role;
