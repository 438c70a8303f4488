-- Credits: an append-only ledger that the database itself keeps true, and the signup, which grants the first ones.
--   Negative is a debit and positive a grant, everywhere.
--   No role writes a balance: it follows from the ledger entry that was just inserted, under the lock of the balance row.
--   No role changes a ledger entry: corrections are new entries.
--   Credits that a returned payment should have taken back, but that were spent (a shortfall), are collected from every later grant and refund
--   before anything can be spent. While a payment is disputed, nothing can be spent.

CREATE TABLE IF NOT EXISTS credit_balances (
    account_id uuid PRIMARY KEY REFERENCES accounts (id) ON DELETE RESTRICT,
    current_balance integer NOT NULL DEFAULT 0 CONSTRAINT balance_never_negative CHECK (current_balance >= 0),
    entry_count bigint NOT NULL DEFAULT 0,
    open_shortfall integer NOT NULL DEFAULT 0 CHECK (open_shortfall >= 0),
    disputed_since timestamptz,
    last_transaction_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN credit_balances.open_shortfall IS 'credits that returned payments still have to take back: the sum over stripe_payments';
COMMENT ON COLUMN credit_balances.disputed_since IS 'since when a payment is disputed that is not decided yet: nothing can be spent meanwhile';

CREATE TABLE IF NOT EXISTS credit_ledger (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    entry_no bigint NOT NULL,
    amount integer NOT NULL,
    balance_after integer NOT NULL CHECK (balance_after >= 0),
    transaction_type text NOT NULL CHECK (transaction_type IN
        ('signup_bonus', 'subscription_renewal', 'purchase', 'analysis', 'refund', 'admin_grant', 'chargeback')),
    run_id text,
    idempotency_key text CHECK (char_length(idempotency_key) BETWEEN 1 AND 255),
    description text,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_by text NOT NULL CHECK (created_by ~ '^(system|(user|stripe|operator):.{1,200})$'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ledger_sign CHECK (amount <> 0 AND (transaction_type IN ('analysis', 'chargeback')) = (amount < 0)),
    CONSTRAINT ledger_of_a_run CHECK ((transaction_type IN ('analysis', 'refund')) = (run_id IS NOT NULL)),
    CONSTRAINT ledger_of_a_payment CHECK ((transaction_type IN ('analysis', 'refund')) = (idempotency_key IS NULL)),
    CONSTRAINT ledger_gapless UNIQUE (account_id, entry_no)
);
COMMENT ON COLUMN credit_ledger.created_by IS 'who caused the entry: user:<id>, stripe:<event>, operator:<name>, or system (a task or a schedule)';
COMMENT ON COLUMN credit_ledger.entry_no IS 'counts an account''s entries from 1 without gaps, in the order in which they took effect';
CREATE UNIQUE INDEX IF NOT EXISTS one_charge_a_run ON credit_ledger (run_id) WHERE transaction_type = 'analysis';
CREATE UNIQUE INDEX IF NOT EXISTS one_refund_a_run ON credit_ledger (run_id) WHERE transaction_type = 'refund';
CREATE UNIQUE INDEX IF NOT EXISTS one_grant_a_key ON credit_ledger (account_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS ledger_by_type ON credit_ledger (account_id, transaction_type, entry_no);
-- Every end of a run sums up its entries (guard_run_money). The unique indexes hold one type of entries each, so neither serves for that.
CREATE INDEX IF NOT EXISTS ledger_by_run ON credit_ledger (run_id) WHERE run_id IS NOT NULL;

-- Decides an entry's number, balance, legality and cause under the balance's lock, whatever the statement said. The cause is the one that was
-- given, else the transaction's (`oslira.caused_by`, which Stripe's events set), else the member who requested the run or calls, else system.
-- Any session can set `oslira.caused_by`, so it does not count where a user calls.
CREATE OR REPLACE FUNCTION ledger_before_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    balance credit_balances;
    v_cause text := CASE WHEN auth.uid() IS NULL THEN nullif(current_setting('oslira.caused_by', true), '') END;
BEGIN
    INSERT INTO credit_balances (account_id) VALUES (NEW.account_id) ON CONFLICT (account_id) DO NOTHING;
    SELECT * INTO STRICT balance FROM credit_balances WHERE account_id = NEW.account_id FOR UPDATE;
    IF balance.current_balance + NEW.amount < 0 OR NEW.transaction_type = 'analysis' AND balance.open_shortfall > 0 THEN
        RAISE EXCEPTION 'insufficient credits: % available, % required', balance.current_balance, -NEW.amount USING ERRCODE = 'OS402';
    END IF;
    IF NEW.transaction_type = 'analysis' THEN
        IF balance.disputed_since IS NOT NULL THEN
            RAISE EXCEPTION 'nothing can be spent while a payment is disputed' USING ERRCODE = 'OS402';
        END IF;
        SELECT coalesce(v_cause, 'user:' || requested_by) INTO v_cause FROM analyses WHERE run_id = NEW.run_id AND account_id = NEW.account_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'a charge needs its run' USING ERRCODE = 'OS409';
        END IF;
    END IF;
    IF NEW.transaction_type = 'refund'
       AND NOT EXISTS (SELECT 1 FROM credit_ledger charge WHERE charge.run_id = NEW.run_id AND charge.transaction_type = 'analysis'
                       AND charge.account_id = NEW.account_id AND charge.amount = -NEW.amount) THEN
        RAISE EXCEPTION 'a refund needs its charge, of the same account and amount' USING ERRCODE = 'OS409';
    END IF;
    NEW.entry_no := balance.entry_count + 1;
    NEW.balance_after := balance.current_balance + NEW.amount;
    NEW.created_by := coalesce(NEW.created_by, v_cause, 'user:' || auth.uid(), 'system');
    NEW.created_at := clock_timestamp();
    RETURN NEW;
END
$$;

-- Sets the balance to the one that the entry records.
CREATE OR REPLACE FUNCTION ledger_after_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE credit_balances
    SET current_balance = NEW.balance_after, entry_count = NEW.entry_no, last_transaction_at = NEW.created_at, updated_at = NEW.created_at
    WHERE account_id = NEW.account_id;
    RETURN NULL;
END
$$;

-- A balance changes only to the one that the next ledger entry records; what is owed or disputed is what the payments say. This applies to the
-- owner of the tables too.
CREATE OR REPLACE FUNCTION guard_balance() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.current_balance = 0 AND NEW.entry_count = 0 AND NEW.open_shortfall = 0 AND NEW.disputed_since IS NULL THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.account_id = OLD.account_id AND NEW.entry_count = OLD.entry_count + 1
       AND (NEW.open_shortfall, NEW.disputed_since) IS NOT DISTINCT FROM (OLD.open_shortfall, OLD.disputed_since)
       AND EXISTS (SELECT 1 FROM credit_ledger
                   WHERE account_id = NEW.account_id AND entry_no = NEW.entry_count AND balance_after = NEW.current_balance) THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.account_id = OLD.account_id AND (NEW.entry_count, NEW.current_balance) = (OLD.entry_count, OLD.current_balance)
       AND EXISTS (SELECT 1 FROM stripe_payments p WHERE p.account_id = NEW.account_id
                   HAVING (coalesce(sum(p.shortfall), 0), min(p.disputed_since)) IS NOT DISTINCT FROM (NEW.open_shortfall, NEW.disputed_since)) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'balances follow the ledger and the payments, and nothing else' USING ERRCODE = 'OS403';
END
$$;

-- At commit: no account has credits to spend while it owes some.
CREATE OR REPLACE FUNCTION guard_shortfall() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM credit_balances WHERE account_id = NEW.account_id AND current_balance > 0 AND open_shortfall > 0) THEN
        RAISE EXCEPTION 'a shortfall is collected before anything can be spent' USING ERRCODE = 'OS409';
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are permanent', TG_TABLE_NAME USING ERRCODE = 'OS403';
END
$$;

-- At commit: a charged run is processing or completed, or it ended without a result and is refunded, unless a cancellation kept the charge.
CREATE OR REPLACE FUNCTION guard_run_money() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    run analyses;
    charged integer;
    refunded integer;
BEGIN
    SELECT * INTO run FROM analyses WHERE run_id = NEW.run_id;
    IF NOT FOUND THEN
        RETURN NULL; -- hard-deleted after its retention; its entries stay
    END IF;
    SELECT coalesce(-sum(amount) FILTER (WHERE transaction_type = 'analysis'), 0), coalesce(sum(amount) FILTER (WHERE transaction_type = 'refund'), 0)
    INTO charged, refunded FROM credit_ledger WHERE run_id = run.run_id;
    IF run.credits_charged <> charged
       OR run.status = 'pending' AND charged <> 0
       OR run.status IN ('processing', 'completed') AND (charged = 0 OR refunded <> 0)
       OR run.status IN ('failed', 'cancelled') AND refunded <> (CASE WHEN run.charge_kept THEN 0 ELSE charged END) THEN
        RAISE EXCEPTION 'run % is % with % charged and % refunded', run.run_id, run.status, charged, refunded USING ERRCODE = 'OS409';
    END IF;
    RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS ledger_before_insert ON credit_ledger;
CREATE TRIGGER ledger_before_insert BEFORE INSERT ON credit_ledger FOR EACH ROW EXECUTE FUNCTION ledger_before_insert();
DROP TRIGGER IF EXISTS ledger_after_insert ON credit_ledger;
CREATE TRIGGER ledger_after_insert AFTER INSERT ON credit_ledger FOR EACH ROW EXECUTE FUNCTION ledger_after_insert();
DROP TRIGGER IF EXISTS ledger_append_only ON credit_ledger;
CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE ON credit_ledger FOR EACH ROW EXECUTE FUNCTION refuse_change();
DROP TRIGGER IF EXISTS ledger_no_truncate ON credit_ledger;
CREATE TRIGGER ledger_no_truncate BEFORE TRUNCATE ON credit_ledger FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER IF EXISTS guard_balance ON credit_balances;
CREATE TRIGGER guard_balance BEFORE INSERT OR UPDATE ON credit_balances FOR EACH ROW EXECUTE FUNCTION guard_balance();
DROP TRIGGER IF EXISTS balance_kept ON credit_balances;
CREATE TRIGGER balance_kept BEFORE DELETE ON credit_balances FOR EACH ROW EXECUTE FUNCTION refuse_change();
DROP TRIGGER IF EXISTS balance_no_truncate ON credit_balances;
CREATE TRIGGER balance_no_truncate BEFORE TRUNCATE ON credit_balances FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER IF EXISTS guard_shortfall ON credit_balances;
CREATE CONSTRAINT TRIGGER guard_shortfall AFTER UPDATE ON credit_balances DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.current_balance > 0 AND NEW.open_shortfall > 0) EXECUTE FUNCTION guard_shortfall();
DROP TRIGGER IF EXISTS guard_run_money ON credit_ledger;
CREATE CONSTRAINT TRIGGER guard_run_money AFTER INSERT ON credit_ledger DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.run_id IS NOT NULL) EXECUTE FUNCTION guard_run_money();
DROP TRIGGER IF EXISTS guard_run_money ON analyses;
CREATE CONSTRAINT TRIGGER guard_run_money AFTER INSERT OR UPDATE OF status, credits_charged ON analyses DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION guard_run_money();

-- Grants credits once a key: a second call with the same key changes nothing and returns the first one's entry. `new_balance` is what is left
-- after an open shortfall was collected. An operator passes p_created_by as operator:<name>.
CREATE OR REPLACE FUNCTION grant_credits(p_account_id uuid, p_amount integer, p_type text, p_idempotency_key text,
                                         p_description text DEFAULT NULL, p_metadata jsonb DEFAULT '{}', p_created_by text DEFAULT NULL)
RETURNS TABLE (transaction_id uuid, new_balance integer, granted boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF p_amount IS NULL OR p_amount <= 0 OR p_type NOT IN ('signup_bonus', 'subscription_renewal', 'purchase', 'admin_grant') THEN
        RAISE EXCEPTION 'a grant has a positive amount and a type of its own' USING ERRCODE = 'OS400';
    END IF;
    INSERT INTO credit_ledger (account_id, amount, balance_after, entry_no, transaction_type, idempotency_key, description, metadata, created_by)
    VALUES (p_account_id, p_amount, 0, 0, p_type, p_idempotency_key, p_description, p_metadata, p_created_by)
    ON CONFLICT (account_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id INTO transaction_id;
    granted := FOUND;
    IF NOT granted THEN
        SELECT id INTO transaction_id FROM credit_ledger WHERE account_id = p_account_id AND idempotency_key = p_idempotency_key;
    END IF;
    SELECT current_balance INTO new_balance FROM credit_balances WHERE account_id = p_account_id;
    RETURN NEXT;
END
$$;

-- Takes back what is left of p_amount, never below zero. Returns what was taken.
CREATE OR REPLACE FUNCTION chargeback_credits(p_account_id uuid, p_amount integer, p_idempotency_key text, p_description text DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    taken integer;
BEGIN
    IF p_amount IS NULL OR p_amount <= 0 THEN
        RAISE EXCEPTION 'a chargeback has a positive amount' USING ERRCODE = 'OS400';
    END IF;
    SELECT least(current_balance, p_amount) INTO taken FROM credit_balances WHERE account_id = p_account_id FOR UPDATE;
    IF coalesce(taken, 0) = 0 THEN
        RETURN 0;
    END IF;
    INSERT INTO credit_ledger (account_id, amount, balance_after, entry_no, transaction_type, idempotency_key, description, metadata)
    VALUES (p_account_id, -taken, 0, 0, 'chargeback', p_idempotency_key, p_description, jsonb_build_object('shortfall', p_amount - taken))
    ON CONFLICT (account_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING;
    RETURN CASE WHEN FOUND THEN taken ELSE 0 END;
END
$$;

-- Charges a run once. A repetition returns the first charge; too few credits raise OS402.
CREATE OR REPLACE FUNCTION deduct_credits_atomic(p_account_id uuid, p_amount integer, p_run_id text, p_description text DEFAULT NULL)
RETURNS TABLE (transaction_id uuid, new_balance integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF p_amount IS NULL OR p_amount <= 0 THEN
        RAISE EXCEPTION 'a charge has a positive amount' USING ERRCODE = 'OS400';
    END IF;
    PERFORM 1 FROM credit_balances WHERE account_id = p_account_id FOR UPDATE;
    SELECT l.id, l.balance_after INTO transaction_id, new_balance
    FROM credit_ledger l WHERE l.run_id = p_run_id AND l.transaction_type = 'analysis' AND l.account_id = p_account_id AND l.amount = -p_amount;
    IF NOT FOUND THEN
        INSERT INTO credit_ledger (account_id, amount, balance_after, entry_no, transaction_type, run_id, description)
        VALUES (p_account_id, -p_amount, 0, 0, 'analysis', p_run_id, p_description)
        RETURNING id, balance_after INTO transaction_id, new_balance;
    END IF;
    RETURN NEXT;
END
$$;

-- Refunds a run's charge once and returns the amount; 0 if there was no charge or it is refunded already.
-- Only in the transaction that ends the run: at commit a refund of a run that has not ended fails.
CREATE OR REPLACE FUNCTION refund_run(p_run_id text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    refunded integer;
BEGIN
    INSERT INTO credit_ledger (account_id, amount, balance_after, entry_no, transaction_type, run_id, description)
    SELECT account_id, -amount, 0, 0, 'refund', run_id, 'Refund: ' || coalesce(description, 'analysis')
    FROM credit_ledger WHERE run_id = p_run_id AND transaction_type = 'analysis'
    ON CONFLICT (run_id) WHERE transaction_type = 'refund' DO NOTHING
    RETURNING amount INTO refunded;
    RETURN coalesce(refunded, 0);
END
$$;

-- --- Signup ------------------------------------------------------------------------------------------------------------
-- When Supabase Auth creates a user, the user gets an account, its ownership, a free subscription and a balance, once. A trigger makes it part
-- of Supabase's own transaction; the function may also be called by hand.
--
-- The 25 credits of a signup, and the monthly credits of the free plan, go to one account an address, and only once the address is confirmed:
--   an email counts without `+suffix` and in lower case, at Gmail also without dots; a user without an email counts by the phone number;
--   an address that was granted credits is remembered, as a hash and for ever: neither another spelling of it, nor a user who is deleted and
--   signs up again, nor one who takes over an address that another gave up, gets the 25 credits a second time;
--   a second live account of an address gets no monthly credits either; one whose predecessor was deleted does.
-- It does not detect different addresses of one person, such as those of throwaway domains.

CREATE TABLE IF NOT EXISTS signup_addresses (
    address_hash bytea PRIMARY KEY,
    account_id uuid REFERENCES accounts (id) ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE signup_addresses IS 'confirmed addresses that were granted the credits of a signup, as the SHA-256 of normalized_address()';
COMMENT ON COLUMN signup_addresses.account_id IS 'the account that gets the free plan''s monthly credits';
CREATE INDEX IF NOT EXISTS signup_addresses_account ON signup_addresses (account_id);

-- What all spellings of an address have in common.
CREATE OR REPLACE FUNCTION normalized_address(p_email text, p_phone text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN p_email <> '' THEN 'mailto:'
            || CASE domain WHEN 'gmail.com' THEN replace(mailbox, '.', '') ELSE mailbox END || '@' || domain
        WHEN p_phone <> '' THEN 'tel:' || regexp_replace(p_phone, '\D', '', 'g') END
    FROM (SELECT lower(normalize(trim(p_email), NFKC)) AS email) e,
        LATERAL (SELECT regexp_replace(email, '(?<=.)\+.*@.*$|@[^@]*$', '') AS mailbox,
                        regexp_replace(rtrim(regexp_replace(email, '^.*@', ''), '.'), '^googlemail\.com$', 'gmail.com') AS domain) parts
$$;

-- Completes the signup of a permanent user: the free subscription at once, the credits when an address is confirmed. Called again whenever the
-- user changes; a repetition changes nothing.
CREATE OR REPLACE FUNCTION complete_signup(p_user_id uuid, p_account_id uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_hash bytea;
BEGIN
    SELECT sha256(convert_to(normalized_address(CASE WHEN email_confirmed_at IS NOT NULL THEN email END,
                                                CASE WHEN phone_confirmed_at IS NOT NULL THEN phone END), 'UTF8'))
    INTO v_hash FROM auth.users WHERE id = p_user_id AND NOT is_anonymous;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO subscriptions (account_id, plan_id, current_period_start, current_period_end)
    SELECT p_account_id, 'free', now(), now() + interval '1 month' WHERE NOT EXISTS (SELECT 1 FROM subscriptions WHERE account_id = p_account_id);
    IF v_hash IS NULL OR EXISTS (SELECT 1 FROM signup_addresses WHERE account_id = p_account_id) THEN
        RETURN; -- not confirmed yet, or with another address before
    END IF;
    INSERT INTO signup_addresses (address_hash, account_id) VALUES (v_hash, p_account_id) ON CONFLICT (address_hash) DO NOTHING;
    IF FOUND THEN
        PERFORM grant_credits(p_account_id, 25, 'signup_bonus', 'signup', 'Welcome to Oslira', '{}', 'user:' || p_user_id);
    ELSE
        UPDATE signup_addresses s SET account_id = p_account_id
        WHERE s.address_hash = v_hash AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.id = s.account_id AND a.deleted_at IS NULL);
    END IF;
END
$$;

-- Creates an account for a user, once. Anonymous users (Supabase's `is_anonymous`) cost nothing to create: they get an account without a
-- subscription and without credits, and both when they become permanent.
CREATE OR REPLACE FUNCTION create_account_atomic(p_user_id uuid, p_email text DEFAULT NULL, p_full_name text DEFAULT NULL, p_avatar_url text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_full_name CONSTANT text := nullif(trim(left(trim(p_full_name), 200)), '');
    -- A truncated link is useless.
    v_avatar_url CONSTANT text := CASE WHEN char_length(p_avatar_url) <= 2000 THEN p_avatar_url END;
    v_name CONSTANT text := coalesce(v_full_name, nullif(left(split_part(p_email, '@', 1), 200), ''), 'New');
    v_base CONSTANT text := coalesce(nullif(trim(BOTH '-' FROM left(regexp_replace(lower(v_name), '[^a-z0-9]+', '-', 'g'), 44)), ''), 'account');
    v_slug text := v_base;
    v_account uuid;
    is_new boolean;
BEGIN
    INSERT INTO users (id, email, full_name, avatar_url) VALUES (p_user_id, p_email, v_full_name, v_avatar_url)
    ON CONFLICT (id) DO UPDATE SET email = coalesce(excluded.email, users.email), full_name = coalesce(excluded.full_name, users.full_name),
        avatar_url = coalesce(excluded.avatar_url, users.avatar_url), updated_at = now();
    -- The upsert above locks the user's row: two signups of one user run one after the other from here.
    SELECT id INTO v_account FROM accounts WHERE owner_id = p_user_id ORDER BY created_at LIMIT 1;
    is_new := NOT FOUND;
    IF is_new THEN
        LOOP
            INSERT INTO accounts (owner_id, name, slug) VALUES (p_user_id, v_name || '''s Account', v_slug)
            ON CONFLICT (slug) DO NOTHING RETURNING id INTO v_account;
            EXIT WHEN FOUND;
            v_slug := v_base || '-' || left(gen_random_uuid()::text, 8);
        END LOOP;
        INSERT INTO account_members (account_id, user_id, role) VALUES (v_account, p_user_id, 'owner');
    END IF;
    INSERT INTO credit_balances (account_id) VALUES (v_account) ON CONFLICT (account_id) DO NOTHING;
    PERFORM complete_signup(p_user_id, v_account);
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

-- Updates our copy of the email, and completes the signup of users who stop being anonymous or confirm an address.
CREATE OR REPLACE FUNCTION on_auth_user_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE users SET email = NEW.email, updated_at = now() WHERE id = NEW.id AND email IS DISTINCT FROM NEW.email;
    IF OLD.is_anonymous AND NOT NEW.is_anonymous THEN
        PERFORM create_account_atomic(NEW.id, NEW.email, NEW.raw_user_meta_data ->> 'full_name', NEW.raw_user_meta_data ->> 'avatar_url');
    ELSIF NOT NEW.is_anonymous THEN
        PERFORM complete_signup(NEW.id, a.id) FROM accounts a WHERE a.owner_id = NEW.id ORDER BY a.created_at LIMIT 1;
    END IF;
    RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS oslira_on_auth_user_changed ON auth.users;
CREATE TRIGGER oslira_on_auth_user_changed AFTER UPDATE OF email, is_anonymous, email_confirmed_at, phone, phone_confirmed_at ON auth.users
    FOR EACH ROW WHEN ((OLD.email, OLD.is_anonymous, OLD.email_confirmed_at, OLD.phone, OLD.phone_confirmed_at)
        IS DISTINCT FROM (NEW.email, NEW.is_anonymous, NEW.email_confirmed_at, NEW.phone, NEW.phone_confirmed_at))
    EXECUTE FUNCTION on_auth_user_changed();
