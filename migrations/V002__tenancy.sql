-- Who there is: users, the accounts that own everything, memberships, plans and subscriptions; and the two functions
-- through which every policy and every request learns what the caller may touch.

CREATE TABLE IF NOT EXISTS users (
    id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
    email text UNIQUE, -- none for people who sign up by phone
    full_name text,
    avatar_url text,
    is_suspended boolean NOT NULL DEFAULT false,
    suspended_at timestamptz,
    suspended_reason text,
    last_seen_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS accounts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    name text NOT NULL,
    slug text NOT NULL UNIQUE,
    stripe_customer_id text UNIQUE CHECK (stripe_customer_id LIKE 'cus\_%'),
    is_suspended boolean NOT NULL DEFAULT false,
    suspended_at timestamptz,
    suspended_reason text,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS accounts_owner ON accounts (owner_id);

CREATE TABLE IF NOT EXISTS account_members (
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role text NOT NULL DEFAULT 'member' CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    invited_by uuid REFERENCES users (id) ON DELETE SET NULL,
    joined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, user_id)
);
CREATE INDEX IF NOT EXISTS account_members_user ON account_members (user_id, joined_at, account_id);

CREATE TABLE IF NOT EXISTS plans (
    id text PRIMARY KEY,
    name text NOT NULL,
    credits_per_month integer NOT NULL CHECK (credits_per_month >= 0),
    price_cents integer NOT NULL CHECK (price_cents >= 0),
    stripe_price_id text UNIQUE,
    max_businesses integer CHECK (max_businesses > 0),
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN plans.max_businesses IS 'how many live business profiles an account may have; null is unlimited';
INSERT INTO plans (id, name, credits_per_month, price_cents, max_businesses) VALUES
    ('free', 'Free', 25, 0, 1), ('pro', 'Pro', 100, 3000, 3), ('agency', 'Agency', 300, 8000, 10), ('enterprise', 'Enterprise', 1500, 30000, NULL)
ON CONFLICT (id) DO NOTHING;

CREATE TABLE IF NOT EXISTS subscriptions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    plan_id text NOT NULL REFERENCES plans (id),
    stripe_subscription_id text UNIQUE,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'trialing', 'past_due', 'unpaid', 'paused', 'incomplete', 'incomplete_expired', 'canceled')),
    current_period_start timestamptz NOT NULL,
    current_period_end timestamptz NOT NULL CHECK (current_period_end > current_period_start),
    canceled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX IF NOT EXISTS one_active_subscription ON subscriptions (account_id) WHERE status = 'active';

-- The accounts that the caller may see: live memberships of live accounts. Policies call it as
-- `account_id = ANY (ARRAY(SELECT user_account_ids()))`: evaluated once a statement, and usable by an index.
CREATE OR REPLACE FUNCTION user_account_ids() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT m.account_id
    FROM account_members m
    JOIN accounts a ON a.id = m.account_id
    JOIN users u ON u.id = m.user_id
    WHERE m.user_id = (SELECT auth.uid()) AND a.deleted_at IS NULL AND NOT a.is_suspended AND NOT u.is_suspended
$$;

-- The account that a request works on: the one asked for if the caller is a member, else the oldest membership.
-- No row means no such account, or none at all: a caller is never moved to another account than the one named.
CREATE OR REPLACE FUNCTION caller_account(p_requested uuid) RETURNS TABLE (account_id uuid, can_spend boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT m.account_id, m.role <> 'viewer'
    FROM account_members m
    WHERE m.user_id = (SELECT auth.uid())
      AND m.account_id IN (SELECT user_account_ids())
      AND (p_requested IS NULL OR m.account_id = p_requested)
    ORDER BY m.joined_at, m.account_id
    LIMIT 1
$$;

DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['users', 'accounts', 'account_members', 'plans', 'subscriptions'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
        -- Supabase grants everything on new tables by default; here nothing is granted that is not written down.
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC, anon, authenticated, service_role', table_name);
        EXECUTE format('GRANT SELECT ON %I TO authenticated, service_role', table_name);
    END LOOP;
END
$$;
GRANT SELECT ON plans TO anon;

DROP POLICY IF EXISTS users_read ON users;
CREATE POLICY users_read ON users FOR SELECT TO authenticated USING (id = (SELECT auth.uid()));
DROP POLICY IF EXISTS accounts_read ON accounts;
CREATE POLICY accounts_read ON accounts FOR SELECT TO authenticated USING (id = ANY (ARRAY(SELECT user_account_ids())));
DROP POLICY IF EXISTS account_members_read ON account_members;
CREATE POLICY account_members_read ON account_members FOR SELECT TO authenticated
    USING (account_id = ANY (ARRAY(SELECT user_account_ids())));
DROP POLICY IF EXISTS plans_read ON plans;
CREATE POLICY plans_read ON plans FOR SELECT TO anon, authenticated USING (is_active);
DROP POLICY IF EXISTS subscriptions_read ON subscriptions;
CREATE POLICY subscriptions_read ON subscriptions FOR SELECT TO authenticated
    USING (account_id = ANY (ARRAY(SELECT user_account_ids())));

REVOKE ALL ON FUNCTION user_account_ids(), caller_account(uuid) FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION user_account_ids(), caller_account(uuid) TO authenticated;
