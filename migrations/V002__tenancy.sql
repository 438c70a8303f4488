-- Users, the accounts that own everything, memberships, plans and subscriptions; and the functions through which policies and requests
-- learn what the caller may access.

CREATE TABLE IF NOT EXISTS users (
    id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
    -- A copy of Supabase's, which keeps emails unique. It is not unique here: an outdated copy must not block another user's signup.
    -- Users who sign up by phone have none.
    email text,
    full_name text,
    avatar_url text,
    is_suspended boolean NOT NULL DEFAULT false,
    suspended_at timestamptz,
    suspended_reason text,
    last_seen_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_lengths CHECK (char_length(full_name) <= 200 AND char_length(avatar_url) <= 2000)
);

CREATE TABLE IF NOT EXISTS accounts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid REFERENCES users (id) ON DELETE RESTRICT,
    name text NOT NULL,
    slug text NOT NULL UNIQUE,
    stripe_customer_id text CHECK (stripe_customer_id LIKE 'cus\_%'),
    is_suspended boolean NOT NULL DEFAULT false,
    suspended_at timestamptz,
    suspended_reason text,
    deleted_at timestamptz,
    anonymized_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accounts_lengths CHECK (char_length(name) BETWEEN 1 AND 220 AND char_length(slug) <= 60),
    CONSTRAINT accounts_owned CHECK (owner_id IS NOT NULL OR deleted_at IS NOT NULL),
    CONSTRAINT accounts_emptied CHECK (anonymized_at IS NULL OR owner_id IS NULL)
);
COMMENT ON COLUMN accounts.anonymized_at IS 'when a deleted account was emptied: only its ledger and payments are left';
CREATE INDEX IF NOT EXISTS accounts_owner ON accounts (owner_id);
-- A partial index, not a UNIQUE constraint. A foreign key could reference the constraint, so setting the column would lock the row against
-- every transaction that references the account: an admission held that lock and waited for the balance, which a Stripe event held.
CREATE UNIQUE INDEX IF NOT EXISTS accounts_stripe_customer ON accounts (stripe_customer_id) WHERE stripe_customer_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS accounts_deleted ON accounts (deleted_at) WHERE deleted_at IS NOT NULL AND anonymized_at IS NULL;

CREATE TABLE IF NOT EXISTS account_members (
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role text NOT NULL DEFAULT 'member' CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    invited_by uuid REFERENCES users (id) ON DELETE SET NULL,
    joined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, user_id)
);
CREATE INDEX IF NOT EXISTS account_members_user ON account_members (user_id, joined_at, account_id);

-- A user may be deleted at Supabase Auth at any time (its dashboard, auth.admin.deleteUser). Each account of that user goes to its next owner
-- or admin, the one who joined first; one without any is deleted, and emptied 30 days later as every deleted account is. The ledger stays.
CREATE OR REPLACE FUNCTION leave_owned_accounts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_account uuid;
    v_successor uuid;
BEGIN
    FOR v_account IN SELECT id FROM accounts WHERE owner_id = OLD.id ORDER BY id FOR UPDATE LOOP
        SELECT user_id INTO v_successor FROM account_members
        WHERE account_id = v_account AND user_id <> OLD.id AND role IN ('owner', 'admin')
        ORDER BY role = 'owner' DESC, joined_at, user_id LIMIT 1 FOR UPDATE;
        UPDATE account_members SET role = 'owner' WHERE account_id = v_account AND user_id = v_successor;
        UPDATE accounts SET owner_id = v_successor, deleted_at = CASE WHEN v_successor IS NULL THEN coalesce(deleted_at, now()) ELSE deleted_at END, updated_at = now()
        WHERE id = v_account;
    END LOOP;
    RETURN OLD;
END
$$;
DROP TRIGGER IF EXISTS users_leave_owned_accounts ON users;
CREATE TRIGGER users_leave_owned_accounts BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION leave_owned_accounts();

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

-- One free subscription an account, and any number of Stripe's beside it. Which one applies is computed (account_plan), not stored.
CREATE TABLE IF NOT EXISTS subscriptions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    plan_id text NOT NULL REFERENCES plans (id),
    stripe_subscription_id text UNIQUE,
    stripe_price_id text,
    other_prices text[] NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'trialing', 'past_due', 'unpaid', 'paused', 'incomplete', 'incomplete_expired', 'canceled')),
    current_period_start timestamptz NOT NULL,
    current_period_end timestamptz NOT NULL,
    period_anchor timestamptz,
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    cancel_at timestamptz,
    canceled_at timestamptz,
    details_version text COLLATE "C" NOT NULL DEFAULT '',
    reported_status text,
    status_version text COLLATE "C" NOT NULL DEFAULT '',
    failed_version text COLLATE "C" NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT subscriptions_period CHECK (current_period_end >= current_period_start)
);
COMMENT ON COLUMN subscriptions.other_prices IS 'prices of other products that it has had beside a plan; another unknown price may be a plan''s';
COMMENT ON COLUMN subscriptions.cancel_at IS 'when it ends; null for one that continues. Stripe may set it without cancel_at_period_end (flexible billing)';
COMMENT ON COLUMN subscriptions.cancel_at_period_end IS 'whether it ends with the current period, however Stripe says so';
COMMENT ON COLUMN subscriptions.period_anchor IS
    'the start of the first period, whose day of the month is every later period''s; null before the first renewal, when it is current_period_start';
COMMENT ON COLUMN subscriptions.details_version IS 'version (stripe_version) of the event that plan and period come from: the greatest wins, in whatever order events arrive';
COMMENT ON COLUMN subscriptions.reported_status IS 'the last status that the subscription''s own events reported, as of status_version; null while only a failed payment is known';
COMMENT ON COLUMN subscriptions.failed_version IS 'version of the last failed payment: if it is after status_version, an active subscription is past due';
CREATE UNIQUE INDEX IF NOT EXISTS one_free_subscription ON subscriptions (account_id) WHERE stripe_subscription_id IS NULL;
CREATE INDEX IF NOT EXISTS subscriptions_account ON subscriptions (account_id);
CREATE INDEX IF NOT EXISTS subscriptions_free_due ON subscriptions (current_period_end) WHERE stripe_subscription_id IS NULL AND status = 'active';

-- --- What the caller may access -------------------------------------------------------------------------------------------

-- The accounts that the caller may read: live memberships of live accounts. Policies call it as
-- `account_id = ANY (ARRAY(SELECT user_account_ids()))`, which is evaluated once a statement and can use an index.
CREATE OR REPLACE FUNCTION user_account_ids() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT m.account_id
    FROM account_members m
    JOIN accounts a ON a.id = m.account_id
    JOIN users u ON u.id = m.user_id
    WHERE m.user_id = (SELECT auth.uid()) AND a.deleted_at IS NULL AND NOT a.is_suspended AND NOT u.is_suspended
$$;

-- The account that a request works on: the requested one if the caller is a member, else the oldest membership.
-- Returns no row if there is no such account, or none at all: a caller never gets another account than the one named.
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

-- The same for a request that writes. `refusal` is its outcome if it may not: no_account, or forbidden for a viewer.
CREATE OR REPLACE FUNCTION caller_writable_account(p_requested uuid, OUT account_id uuid, OUT refusal jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c.account_id, CASE WHEN c.account_id IS NULL THEN jsonb_build_object('outcome', 'no_account')
                              WHEN NOT c.can_spend THEN jsonb_build_object('outcome', 'forbidden') END
    FROM (SELECT 1) one LEFT JOIN caller_account(p_requested) c ON true
$$;

-- Whether the caller may change what the account owns: every member but a viewer.
CREATE OR REPLACE FUNCTION caller_may_write(p_account_id uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT 1 FROM account_members m WHERE m.account_id = p_account_id AND m.user_id = (SELECT auth.uid())
                   AND m.role <> 'viewer' AND m.account_id IN (SELECT user_account_ids()))
$$;

-- The plan that an account is on: its best paid subscription that is not over, else its free one.
CREATE OR REPLACE FUNCTION account_plan(p_account_id uuid) RETURNS SETOF plans
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT p.* FROM subscriptions s JOIN plans p ON p.id = s.plan_id
    WHERE s.account_id = p_account_id AND s.status IN ('active', 'trialing', 'past_due')
    ORDER BY p.credits_per_month DESC, p.id LIMIT 1
$$;
