-- Stripe's side of the books. Events come twice, late and in any order; what they leave behind must not depend on it. So every table
-- here is merged by a rule that commutes (the newest version, the maximum, a set), and credits follow money, not announcements:
--   a paid invoice gives what its lines are worth at their plans' rates, in proportion to what was paid of it;
--   a reversal waits for its payment, and takes back no more than that payment gave.
-- A subscription that starts, is tried out or changes its plan gives nothing by itself: what it costs is invoiced, and the invoice gives.
-- One function, apply_stripe_event(), takes an event with all its effects in one transaction.

CREATE TABLE IF NOT EXISTS webhook_events (
    stripe_event_id text PRIMARY KEY CHECK (stripe_event_id LIKE 'evt\_%'),
    event_type text NOT NULL,
    api_version text,
    event_created timestamptz NOT NULL,
    effect jsonb NOT NULL,
    account_id uuid REFERENCES accounts (id) ON DELETE SET NULL,
    outcome text NOT NULL CHECK (outcome IN ('applied', 'ignored')),
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    processed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE webhook_events IS 'events whose effects are committed: a row and its effects are one transaction';
CREATE INDEX IF NOT EXISTS webhook_events_account ON webhook_events (account_id, event_created);

-- A free subscription for each account, and any number of Stripe's beside it: which one counts is a question (account_plan), not a state.
DROP INDEX IF EXISTS one_active_subscription;
CREATE UNIQUE INDEX IF NOT EXISTS one_free_subscription ON subscriptions (account_id) WHERE stripe_subscription_id IS NULL;
CREATE INDEX IF NOT EXISTS subscriptions_account ON subscriptions (account_id);
ALTER TABLE subscriptions ADD COLUMN IF NOT EXISTS stripe_price_id text;
ALTER TABLE subscriptions ADD COLUMN IF NOT EXISTS cancel_at_period_end boolean NOT NULL DEFAULT false;
ALTER TABLE subscriptions ADD COLUMN IF NOT EXISTS details_version text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE subscriptions ADD COLUMN IF NOT EXISTS status_version text COLLATE "C" NOT NULL DEFAULT '';
COMMENT ON COLUMN subscriptions.details_version IS 'of the event that plan and period are from: the greatest wins, whenever it arrives';
ALTER TABLE subscriptions ADD COLUMN IF NOT EXISTS told_status text;
ALTER TABLE subscriptions ADD COLUMN IF NOT EXISTS failed_version text COLLATE "C" NOT NULL DEFAULT '';
COMMENT ON COLUMN subscriptions.told_status IS 'what its own events say last, as of status_version; null while only a failed payment is known';
COMMENT ON COLUMN subscriptions.failed_version IS 'of the last failed payment: one after status_version makes a running subscription past due';

CREATE TABLE IF NOT EXISTS subscription_periods (
    stripe_subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    level integer NOT NULL DEFAULT 0 CHECK (level >= 0),
    paid boolean NOT NULL DEFAULT false,
    granted integer NOT NULL DEFAULT 0 CHECK (granted >= 0),
    PRIMARY KEY (stripe_subscription_id, period_start)
);
COMMENT ON COLUMN subscription_periods.level IS 'what the invoices that charged this period were worth';
COMMENT ON COLUMN subscription_periods.granted IS 'what the ledger gave for it: follows level once the period is paid';

CREATE TABLE IF NOT EXISTS stripe_invoices (
    stripe_invoice_id text PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    stripe_subscription_id text,
    status text NOT NULL CHECK (status IN ('open', 'paid')),
    amount_due bigint NOT NULL,
    amount_paid bigint NOT NULL,
    currency text NOT NULL,
    period_start timestamptz,
    period_end timestamptz,
    billing_reason text,
    hosted_invoice_url text,
    version text COLLATE "C" NOT NULL,
    invoiced_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN stripe_invoices.amount_due IS 'in cents, as all amounts of Stripe''s';
CREATE INDEX IF NOT EXISTS stripe_invoices_account ON stripe_invoices (account_id, invoiced_at DESC);

CREATE TABLE IF NOT EXISTS stripe_payments (
    source text PRIMARY KEY,
    account_id uuid REFERENCES accounts (id) ON DELETE RESTRICT,
    credits integer CHECK (credits >= 0),
    amount_cents bigint CHECK (amount_cents >= 0),
    refunds jsonb NOT NULL DEFAULT '{}',
    disputes jsonb NOT NULL DEFAULT '{}',
    taken integer NOT NULL DEFAULT 0 CHECK (taken >= 0),
    shortfall integer NOT NULL DEFAULT 0 CHECK (shortfall >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payment_known CHECK ((account_id IS NULL) = (credits IS NULL) AND (credits IS NULL) = (amount_cents IS NULL)),
    CONSTRAINT reversal_within_payment CHECK (taken + shortfall <= coalesce(credits, 0))
);
COMMENT ON COLUMN stripe_payments.source IS 'the invoice that was paid, or else the payment intent (or the session, if nothing had to be paid)';
COMMENT ON COLUMN stripe_payments.credits IS 'what the payment gave; null while only its reversal is known';
COMMENT ON COLUMN stripe_payments.refunds IS 'cents by charge: one invoice may be paid by several';
COMMENT ON COLUMN stripe_payments.disputes IS 'by dispute: its cents, and whether it was decided for us';
COMMENT ON COLUMN stripe_payments.taken IS 'credits taken back';
COMMENT ON COLUMN stripe_payments.shortfall IS 'credits that should have been taken back but were spent';
CREATE INDEX IF NOT EXISTS stripe_payments_account ON stripe_payments (account_id);

-- Who pays for which account. An account has one customer of our making, which its checkouts use (accounts.stripe_customer_id), and
-- whoever else subscribed for it.
CREATE TABLE IF NOT EXISTS stripe_customers (
    stripe_customer_id text PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    made_by_us boolean NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS stripe_customers_account ON stripe_customers (account_id);

ALTER TABLE subscriptions DROP CONSTRAINT IF EXISTS subscriptions_check;
ALTER TABLE subscriptions DROP CONSTRAINT IF EXISTS subscriptions_period;
ALTER TABLE subscriptions ADD CONSTRAINT subscriptions_period CHECK (current_period_end >= current_period_start);

DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['stripe_customers', 'webhook_events', 'subscription_periods', 'stripe_invoices', 'stripe_payments'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC, anon, authenticated, service_role', table_name);
        EXECUTE format('GRANT SELECT ON %I TO service_role', table_name);
    END LOOP;
END
$$;
GRANT SELECT ON stripe_invoices TO authenticated;
DROP POLICY IF EXISTS stripe_invoices_read ON stripe_invoices;
CREATE POLICY stripe_invoices_read ON stripe_invoices FOR SELECT TO authenticated USING (account_id = ANY (ARRAY(SELECT user_account_ids())));

-- Where an event stands among those of its object: the end of the object last, else by Stripe's clock. That counts in seconds, and a
-- subscription changes several times in one when it starts or renews: there the creation comes first, a later period after an earlier one,
-- and then how far the status has come. The id makes the order total. Compared as text (collation C).
CREATE OR REPLACE FUNCTION stripe_version(p_final boolean, p_created bigint, p_type text, p_period_start bigint, p_status text, p_event_id text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT concat_ws(':', CASE WHEN p_final THEN '1' ELSE '0' END, lpad(p_created::text, 12, '0'), CASE WHEN p_type LIKE '%.created' THEN '0' ELSE '1' END,
        lpad(coalesce(p_period_start, 0)::text, 12, '0'),
        CASE p_status WHEN 'incomplete' THEN '1' WHEN 'trialing' THEN '2' WHEN 'active' THEN '3' WHEN 'past_due' THEN '4' ELSE '5' END, p_event_id)
$$;

-- The account that an object is about: its customer's, else the one of its subscription, else the one that it names itself.
CREATE OR REPLACE FUNCTION stripe_account(p_customer text, p_subscription text, p_account_id uuid) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce((SELECT account_id FROM stripe_customers WHERE stripe_customer_id = p_customer),
                    (SELECT account_id FROM subscriptions WHERE stripe_subscription_id = p_subscription),
                    (SELECT id FROM accounts WHERE id = p_account_id))
$$;

CREATE OR REPLACE FUNCTION plan_of_price(p_price_id text) RETURNS plans
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_plan plans;
BEGIN
    SELECT * INTO v_plan FROM plans WHERE stripe_price_id = p_price_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'price % belongs to no plan: set plans.stripe_price_id and redrive', coalesce(p_price_id, '(none)') USING ERRCODE = 'OS404';
    END IF;
    RETURN v_plan;
END
$$;

-- Adds to what a period's invoices are worth, and grants what it is entitled to beyond what it got.
CREATE OR REPLACE FUNCTION settle_period(p_subscription text, p_account_id uuid, p_start timestamptz, p_level integer, p_paid boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    period subscription_periods;
    v_key text := 'renewal:' || p_subscription || ':' || extract(epoch FROM p_start)::bigint;
BEGIN
    INSERT INTO subscription_periods AS p (stripe_subscription_id, period_start, account_id, level, paid)
    VALUES (p_subscription, p_start, p_account_id, p_level, p_paid)
    ON CONFLICT (stripe_subscription_id, period_start) DO UPDATE SET level = p.level + excluded.level, paid = p.paid OR excluded.paid
    RETURNING * INTO period;
    IF period.paid AND period.level > period.granted THEN
        -- The period's first grant has the key that every other way to renew it uses too.
        PERFORM grant_credits(period.account_id, period.level - period.granted, 'subscription_renewal',
            CASE WHEN period.granted = 0 THEN v_key ELSE v_key || ':' || period.level END,
            'Monthly credits',
            jsonb_build_object('subscription', p_subscription, 'period_start', p_start));
        UPDATE subscription_periods SET granted = level WHERE stripe_subscription_id = p_subscription AND period_start = p_start;
    END IF;
END
$$;

-- Takes back what a payment's refunds and disputes amount to, beyond what was taken already: in proportion to its credits, rounded down,
-- never more than it gave and never more than is left. What was taken for a dispute that was won is given back.
CREATE OR REPLACE FUNCTION settle_reversal(p_source text, p_won text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    payment stripe_payments;
    reversed bigint;
    owed integer;
    due integer;
    v_taken integer;
    v_key text;
BEGIN
    SELECT * INTO payment FROM stripe_payments WHERE source = p_source FOR UPDATE;
    IF payment.credits IS NULL OR payment.amount_cents = 0 THEN
        RETURN;
    END IF;
    reversed := least(payment.amount_cents, (SELECT coalesce(sum(value::bigint), 0) FROM jsonb_each_text(payment.refunds))
        + (SELECT coalesce(sum((value ->> 'cents')::bigint) FILTER (WHERE NOT (value ->> 'won')::boolean), 0) FROM jsonb_each(payment.disputes)));
    owed := payment.credits::bigint * reversed / payment.amount_cents;
    due := owed - payment.taken - payment.shortfall;
    -- What is owed only grows, but for disputes that are won.
    v_key := concat_ws(':', 'reversal', p_source, owed, (SELECT nullif(count(*), 0) FROM jsonb_each(payment.disputes) WHERE (value ->> 'won')::boolean));
    IF due > 0 THEN
        v_taken := chargeback_credits(payment.account_id, due, v_key, 'Payment returned');
        UPDATE stripe_payments p SET taken = p.taken + v_taken, shortfall = p.shortfall + due - v_taken WHERE p.source = p_source;
    ELSIF due < 0 AND p_won IS NOT NULL THEN
        v_taken := least(payment.taken, -due);
        IF v_taken > 0 THEN
            PERFORM grant_credits(payment.account_id, v_taken, 'admin_grant', 'reinstated:' || p_source || ':' || p_won, 'Dispute won');
        END IF;
        UPDATE stripe_payments p SET taken = p.taken - v_taken, shortfall = greatest(0, p.shortfall + due + v_taken) WHERE p.source = p_source;
    END IF;
END
$$;

-- A payment and what it gives are known now; reversals may have come before it. False if it was known before.
CREATE OR REPLACE FUNCTION record_payment(p_source text, p_account_id uuid, p_credits integer, p_amount_cents bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO stripe_payments (source, account_id, credits, amount_cents) VALUES (p_source, p_account_id, p_credits, p_amount_cents)
    ON CONFLICT (source) DO UPDATE SET account_id = excluded.account_id, credits = excluded.credits, amount_cents = excluded.amount_cents
    WHERE stripe_payments.credits IS NULL;
    RETURN FOUND;
END
$$;

-- Remembers for whom a customer pays. What we made ourselves is beyond doubt; what a payment link says comes from whoever opened it.
CREATE OR REPLACE FUNCTION apply_customer(p_account_id uuid, p_customer text, p_made_by_us boolean, p_deleted boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    known stripe_customers;
BEGIN
    IF p_customer IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO stripe_customers AS c (stripe_customer_id, account_id, made_by_us, deleted) VALUES (p_customer, p_account_id, p_made_by_us, p_deleted)
    ON CONFLICT (stripe_customer_id) DO UPDATE SET deleted = c.deleted OR excluded.deleted, made_by_us = c.made_by_us OR excluded.made_by_us,
        account_id = CASE WHEN excluded.made_by_us AND NOT c.made_by_us THEN excluded.account_id ELSE c.account_id END
    RETURNING * INTO known;
    UPDATE accounts a SET updated_at = clock_timestamp(), stripe_customer_id =
        (SELECT min(c.stripe_customer_id) FROM stripe_customers c WHERE c.account_id = a.id AND c.made_by_us AND NOT c.deleted)
    WHERE a.id = known.account_id AND known.made_by_us
      AND (a.stripe_customer_id IS NULL OR a.stripe_customer_id = p_customer) AND (a.stripe_customer_id IS NULL) <> known.deleted;
END
$$;

CREATE OR REPLACE FUNCTION apply_payment(p_account_id uuid, e jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_credits CONSTANT integer := (e ->> 'credits')::integer;
    v_source CONSTANT text := coalesce(e ->> 'payment_intent', e ->> 'session_id');
BEGIN
    PERFORM apply_customer(p_account_id, e ->> 'customer', false, false);
    PERFORM grant_credits(p_account_id, v_credits, 'purchase', 'purchase:' || (e ->> 'session_id'), v_credits || ' credits',
        jsonb_build_object('session', e ->> 'session_id', 'payment_intent', e ->> 'payment_intent', 'amount_cents', (e ->> 'amount_cents')::bigint));
    PERFORM record_payment(v_source, p_account_id, v_credits, (e ->> 'amount_cents')::bigint);
    PERFORM settle_reversal(v_source);
END
$$;

-- How a subscription stands, from what its own events and its failed payments say, in whatever order they came.
CREATE OR REPLACE FUNCTION settle_status(p_subscription text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE subscriptions SET updated_at = clock_timestamp(), status = CASE
        WHEN told_status IS NULL OR told_status IN ('active', 'trialing') AND failed_version > status_version THEN 'past_due' ELSE told_status END
    WHERE stripe_subscription_id = p_subscription
$$;

CREATE OR REPLACE FUNCTION apply_subscription(p_account_id uuid, e jsonb, p_version text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_plan CONSTANT plans := plan_of_price(e ->> 'price_id');
    v_start CONSTANT timestamptz := to_timestamp((e ->> 'period_start')::bigint);
BEGIN
    INSERT INTO subscriptions AS s (account_id, plan_id, stripe_subscription_id, stripe_price_id, status, current_period_start, current_period_end,
                                    cancel_at_period_end, canceled_at, details_version, status_version)
    VALUES (p_account_id, v_plan.id, e ->> 'subscription_id', e ->> 'price_id', e ->> 'status', v_start, to_timestamp((e ->> 'period_end')::bigint),
            (e ->> 'cancel_at_period_end')::boolean, to_timestamp((e ->> 'canceled_at')::bigint), p_version, p_version)
    ON CONFLICT (stripe_subscription_id) DO UPDATE SET
        plan_id = excluded.plan_id, stripe_price_id = excluded.stripe_price_id, current_period_start = excluded.current_period_start,
        current_period_end = excluded.current_period_end, cancel_at_period_end = excluded.cancel_at_period_end, canceled_at = excluded.canceled_at,
        details_version = excluded.details_version, updated_at = clock_timestamp()
    WHERE s.details_version < excluded.details_version;
    UPDATE subscriptions SET told_status = e ->> 'status', status_version = p_version
    WHERE stripe_subscription_id = e ->> 'subscription_id' AND status_version <= p_version;
    PERFORM settle_status(e ->> 'subscription_id');
END
$$;

-- What a paid invoice is worth, in credits: each line at its plan's rate (what a change of plans gives back counts against what it
-- charges), in proportion to what was paid of it: what was settled with earlier money has given its credits then. A trial's line costs
-- nothing and gives nothing; a discount lowers the total and takes no credits.
CREATE OR REPLACE FUNCTION invoice_credits(e jsonb) RETURNS integer
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_line jsonb;
    v_plan plans;
    v_worth numeric := 0;
BEGIN
    IF e ->> 'currency' <> 'usd' THEN
        RAISE EXCEPTION 'invoice % is not in US dollars', e ->> 'invoice_id' USING ERRCODE = 'OS400';
    END IF;
    FOR v_line IN SELECT * FROM jsonb_array_elements(e -> 'lines') LOOP
        v_plan := plan_of_price(v_line ->> 'price_id');
        IF v_plan.price_cents > 0 THEN
            v_worth := v_worth + (v_line ->> 'amount')::numeric * v_plan.credits_per_month / v_plan.price_cents;
        END IF;
    END LOOP;
    IF (e ->> 'total')::numeric > 0 THEN
        v_worth := v_worth * least(1, (e ->> 'amount_paid')::numeric / (e ->> 'total')::numeric);
    END IF;
    RETURN greatest(0, round(v_worth));
END
$$;

CREATE OR REPLACE FUNCTION apply_invoice(p_account_id uuid, e jsonb, p_version text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_paid CONSTANT boolean := (e ->> 'paid')::boolean;
    v_start CONSTANT timestamptz := to_timestamp((e ->> 'period_start')::bigint);
    v_end CONSTANT timestamptz := to_timestamp((e ->> 'period_end')::bigint);
    v_credits CONSTANT integer := CASE WHEN v_paid AND e ->> 'subscription_id' IS NOT NULL THEN invoice_credits(e) ELSE 0 END;
    v_plan plans;
BEGIN
    INSERT INTO stripe_invoices AS i (stripe_invoice_id, account_id, stripe_subscription_id, status, amount_due, amount_paid, currency, period_start,
                                      period_end, billing_reason, hosted_invoice_url, version, invoiced_at)
    VALUES (e ->> 'invoice_id', p_account_id, e ->> 'subscription_id', CASE WHEN v_paid THEN 'paid' ELSE 'open' END, (e ->> 'amount_due')::bigint,
            (e ->> 'amount_paid')::bigint, e ->> 'currency', v_start, v_end, e ->> 'billing_reason', e ->> 'hosted_invoice_url', p_version,
            to_timestamp((e ->> 'created')::bigint))
    ON CONFLICT (stripe_invoice_id) DO UPDATE SET status = excluded.status, amount_due = excluded.amount_due, amount_paid = excluded.amount_paid,
        hosted_invoice_url = excluded.hosted_invoice_url, version = excluded.version
    WHERE i.version < excluded.version;
    IF e ->> 'subscription_id' IS NULL THEN
        RETURN; -- of something else that is sold
    ELSIF v_paid THEN
        IF record_payment(e ->> 'invoice_id', p_account_id, v_credits, (e ->> 'amount_paid')::bigint) THEN
            IF e ->> 'price_id' IS NOT NULL THEN
                PERFORM settle_period(e ->> 'subscription_id', p_account_id, v_start, v_credits, true);
            ELSIF v_credits > 0 THEN
                PERFORM grant_credits(p_account_id, v_credits, 'subscription_renewal', 'invoice:' || (e ->> 'invoice_id'), 'Plan change',
                    jsonb_build_object('subscription', e ->> 'subscription_id', 'invoice', e ->> 'invoice_id'));
            END IF;
        END IF;
        PERFORM settle_reversal(e ->> 'invoice_id');
    ELSIF e ->> 'price_id' IS NOT NULL AND e ->> 'billing_reason' IS DISTINCT FROM 'subscription_create' THEN
        v_plan := plan_of_price(e ->> 'price_id');
        -- The first payment of a subscription that never started leaves it incomplete, as its own events say.
        INSERT INTO subscriptions (account_id, plan_id, stripe_subscription_id, stripe_price_id, status, current_period_start, current_period_end, failed_version)
        VALUES (p_account_id, v_plan.id, e ->> 'subscription_id', e ->> 'price_id', 'past_due', v_start, v_end, p_version)
        ON CONFLICT (stripe_subscription_id) DO UPDATE SET failed_version = greatest(subscriptions.failed_version, excluded.failed_version);
        PERFORM settle_status(e ->> 'subscription_id');
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION apply_reversal(e jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_charge CONSTANT text := e ->> 'charge';
    v_dispute CONSTANT text := e ->> 'dispute_id';
    v_known stripe_payments;
BEGIN
    INSERT INTO stripe_payments (source) VALUES (e ->> 'source') ON CONFLICT (source) DO NOTHING;
    SELECT * INTO v_known FROM stripe_payments WHERE source = e ->> 'source' FOR UPDATE;
    IF e ->> 'refunded_cents' IS NOT NULL THEN
        UPDATE stripe_payments SET refunds = refunds
            || jsonb_build_object(v_charge, greatest((v_known.refunds ->> v_charge)::bigint, (e ->> 'refunded_cents')::bigint))
        WHERE source = v_known.source;
    END IF;
    IF v_dispute IS NOT NULL THEN
        UPDATE stripe_payments SET disputes = disputes || jsonb_build_object(v_dispute, jsonb_build_object(
            'cents', greatest((v_known.disputes -> v_dispute ->> 'cents')::bigint, (e ->> 'disputed_cents')::bigint),
            'won', coalesce((v_known.disputes -> v_dispute ->> 'won')::boolean, false) OR (e ->> 'dispute_won')::boolean))
        WHERE source = v_known.source;
    END IF;
    PERFORM settle_reversal(e ->> 'source', CASE WHEN (e ->> 'dispute_won')::boolean THEN v_dispute END);
END
$$;

-- Applies an event once. p_event: event_id, event_type, created (seconds), api_version and its effect, whose kinds are those of
-- `Effect` in shared/vendors. Raises OS404 while the account or the plan that it is about is unknown: it may be on its way.
CREATE OR REPLACE FUNCTION apply_stripe_event(p_event jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    e CONSTANT jsonb := p_event -> 'effect';
    v_kind CONSTANT text := e ->> 'kind';
    v_type CONSTANT text := p_event ->> 'event_type';
    v_created CONSTANT bigint := (p_event ->> 'created')::bigint;
    v_account uuid := stripe_account(e ->> 'customer', e ->> 'subscription_id', (e ->> 'account_id')::uuid);
    -- An invoice that is paid stays paid; one that is not leaves its subscription past due.
    v_version CONSTANT text := stripe_version(coalesce((e ->> 'deleted')::boolean, (e ->> 'paid')::boolean, false), v_created, v_type,
        (e ->> 'period_start')::bigint, coalesce(e ->> 'status', 'past_due'), p_event ->> 'event_id');
    v_outcome text := CASE v_kind WHEN 'ignored' THEN 'ignored' ELSE 'applied' END;
BEGIN
    IF v_kind = 'reversal' THEN
        SELECT account_id INTO v_account FROM stripe_payments WHERE source = e ->> 'source';
    ELSIF v_kind IN ('payment', 'customer') THEN
        v_account := (SELECT id FROM accounts WHERE id = (e ->> 'account_id')::uuid);
    END IF;
    IF v_account IS NULL AND (v_kind = 'customer' OR v_kind IN ('subscription', 'invoice') AND NOT EXISTS (
        SELECT 1 FROM plans WHERE stripe_price_id = e ->> 'price_id' OR stripe_price_id IN (SELECT l ->> 'price_id' FROM jsonb_array_elements(e -> 'lines') l))) THEN
        v_outcome := 'ignored'; -- about something else that the Stripe account is used for
    ELSIF v_account IS NULL AND v_kind NOT IN ('ignored', 'reversal') THEN
        RAISE EXCEPTION 'no account for customer %', coalesce(e ->> 'customer', '(none)') USING ERRCODE = 'OS404';
    END IF;
    -- The events of one account take turns; those of different accounts do not wait for each other. The account's row comes first: other
    -- transactions hold it by their foreign keys when they ask for the balance.
    PERFORM 1 FROM accounts WHERE id = v_account FOR UPDATE;
    PERFORM 1 FROM credit_balances WHERE account_id = v_account FOR UPDATE;
    INSERT INTO webhook_events (stripe_event_id, event_type, api_version, event_created, effect, account_id, outcome)
    VALUES (p_event ->> 'event_id', v_type, p_event ->> 'api_version', to_timestamp(v_created), e, v_account, v_outcome)
    ON CONFLICT (stripe_event_id) DO NOTHING;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'duplicate', 'account_id', v_account);
    END IF;
    IF v_outcome = 'applied' THEN
        CASE v_kind
            WHEN 'customer' THEN PERFORM apply_customer(v_account, e ->> 'customer', (e ->> 'made_by_us')::boolean, (e ->> 'deleted')::boolean);
            WHEN 'payment' THEN PERFORM apply_payment(v_account, e);
            WHEN 'subscription' THEN PERFORM apply_subscription(v_account, e, v_version);
            WHEN 'invoice' THEN PERFORM apply_invoice(v_account, e, v_version);
            WHEN 'reversal' THEN PERFORM apply_reversal(e);
            ELSE RAISE EXCEPTION 'unknown effect %', v_kind USING ERRCODE = 'OS400';
        END CASE;
    END IF;
    RETURN jsonb_build_object('outcome', v_outcome, 'account_id', v_account);
END
$$;

-- The books again, with what is known of Stripe: the ledger gave every period and took from every payment what is written there.
CREATE OR REPLACE VIEW ledger_faults AS
    SELECT 'balance is not the sum of the ledger' AS fault, b.account_id::text AS subject
    FROM credit_balances b
    WHERE b.current_balance <> (SELECT coalesce(sum(l.amount), 0) FROM credit_ledger l WHERE l.account_id = b.account_id)
UNION ALL
    SELECT 'entries are not chained', l.account_id || ' ' || l.entry_no
    FROM (SELECT account_id, entry_no, balance_after, amount,
                 lag(balance_after, 1, 0) OVER w AS previous, lag(entry_no, 1, 0::bigint) OVER w AS previous_no
          FROM credit_ledger WINDOW w AS (PARTITION BY account_id ORDER BY entry_no)) l
    WHERE l.balance_after <> l.previous + l.amount OR l.entry_no <> l.previous_no + 1
UNION ALL
    SELECT 'run is ' || a.status || ' with ' || m.charged || ' charged and ' || m.refunded || ' refunded', a.run_id
    FROM analyses a
    CROSS JOIN LATERAL (
        SELECT coalesce(-sum(amount) FILTER (WHERE transaction_type = 'analysis'), 0) AS charged,
               coalesce(sum(amount) FILTER (WHERE transaction_type = 'refund'), 0) AS refunded
        FROM credit_ledger l WHERE l.run_id = a.run_id) m
    WHERE m.charged <> a.credits_charged
       OR a.status = 'pending' AND m.charged <> 0
       OR a.status IN ('processing', 'completed') AND (m.charged = 0 OR m.refunded <> 0)
       OR a.status IN ('failed', 'cancelled') AND m.charged <> m.refunded
UNION ALL
    SELECT 'period is entitled to ' || CASE WHEN p.paid THEN p.level ELSE 0 END || ', granted ' || p.granted || ', in the ledger ' || m.given,
           p.stripe_subscription_id || ' ' || p.period_start
    FROM subscription_periods p
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(l.amount), 0) AS given FROM credit_ledger l
        WHERE l.account_id = p.account_id AND l.transaction_type = 'subscription_renewal'
          AND starts_with(l.idempotency_key || ':', 'renewal:' || p.stripe_subscription_id || ':' || extract(epoch FROM p.period_start)::bigint || ':')) m
    WHERE p.granted <> CASE WHEN p.paid THEN p.level ELSE 0 END OR p.granted <> m.given
UNION ALL
    SELECT 'payment is charged back ' || p.taken || ', in the ledger ' || m.taken, p.source
    FROM stripe_payments p
    CROSS JOIN LATERAL (
        SELECT coalesce(-sum(l.amount), 0) AS taken FROM credit_ledger l
        WHERE l.account_id = p.account_id AND l.transaction_type IN ('chargeback', 'admin_grant')
          AND (starts_with(l.idempotency_key, 'reversal:' || p.source || ':') OR starts_with(l.idempotency_key, 'reinstated:' || p.source || ':'))) m
    WHERE p.taken <> m.taken;

REVOKE ALL ON FUNCTION stripe_version(boolean, bigint, text, bigint, text, text), stripe_account(text, text, uuid), plan_of_price(text), invoice_credits(jsonb),
    settle_period(text, uuid, timestamptz, integer, boolean), settle_reversal(text, text), record_payment(text, uuid, integer, bigint),
    apply_customer(uuid, text, boolean, boolean), apply_payment(uuid, jsonb), settle_status(text), apply_subscription(uuid, jsonb, text),
    apply_invoice(uuid, jsonb, text), apply_reversal(jsonb), apply_stripe_event(jsonb) FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION apply_stripe_event(jsonb) TO service_role;
