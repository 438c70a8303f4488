-- Stripe's side of the ledger. Events arrive twice, late and in any order; their result must not depend on it. So every table here is
-- merged by a rule that commutes (the newest version, the maximum, a set), and credits follow money, not announcements:
--   a paid invoice grants what its lines are worth at their plans' rates, in proportion to what was settled of it with new money or a gift;
--   a reversal takes effect once its payment is known, and takes back no more than that payment granted. What cannot be taken back because it was spent is a
--   shortfall, which every later grant and refund of the account pays first; a refund that fails and a dispute that is won give back.
-- What is not about our accounts and prices is ignored: a Stripe account may serve other products too. What is ours and not understood raises an
-- error, so that it becomes a dead letter and an alarm: an unknown price of a known subscription, a price or a reversal in another currency.
-- A subscription that starts, is in a trial or changes its plan grants nothing by itself: what it costs is invoiced, and the invoice grants.
-- One function, apply_stripe_event(), applies an event with all its effects in one transaction.

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

CREATE TABLE IF NOT EXISTS subscription_periods (
    stripe_subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    level integer NOT NULL DEFAULT 0 CHECK (level >= 0),
    paid boolean NOT NULL DEFAULT false,
    granted integer NOT NULL DEFAULT 0 CHECK (granted >= 0),
    PRIMARY KEY (stripe_subscription_id, period_start)
);
COMMENT ON COLUMN subscription_periods.level IS 'what the invoices that charged this period were worth, in credits';
COMMENT ON COLUMN subscription_periods.granted IS 'what the ledger granted for it: follows level once the period is paid';
CREATE INDEX IF NOT EXISTS subscription_periods_account ON subscription_periods (account_id);
CREATE INDEX IF NOT EXISTS subscription_periods_owed ON subscription_periods (stripe_subscription_id, period_start) WHERE paid AND level > granted;

CREATE TABLE IF NOT EXISTS stripe_invoices (
    stripe_invoice_id text PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    stripe_subscription_id text,
    status text NOT NULL CHECK (status IN ('open', 'paid', 'void', 'uncollectible')),
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
COMMENT ON COLUMN stripe_invoices.amount_due IS 'in cents, as all of Stripe''s amounts';
CREATE INDEX IF NOT EXISTS stripe_invoices_account ON stripe_invoices (account_id, invoiced_at DESC);
CREATE INDEX IF NOT EXISTS stripe_invoices_subscription ON stripe_invoices (stripe_subscription_id) WHERE stripe_subscription_id IS NOT NULL;

CREATE TABLE IF NOT EXISTS stripe_payments (
    source text PRIMARY KEY,
    account_id uuid REFERENCES accounts (id) ON DELETE RESTRICT,
    credits integer CHECK (credits >= 0),
    amount_cents bigint CHECK (amount_cents >= 0),
    currency text,
    refunds jsonb NOT NULL DEFAULT '{}',
    disputes jsonb NOT NULL DEFAULT '{}',
    taken integer NOT NULL DEFAULT 0 CHECK (taken >= 0),
    shortfall integer NOT NULL DEFAULT 0 CHECK (shortfall >= 0),
    settlements integer NOT NULL DEFAULT 0,
    disputed_since timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payment_known CHECK ((account_id IS NULL) = (credits IS NULL) AND (credits IS NULL) = (amount_cents IS NULL)),
    CONSTRAINT reversal_within_payment CHECK (taken + shortfall <= coalesce(credits, 0))
);
COMMENT ON COLUMN stripe_payments.source IS 'the invoice that was paid, or else the payment intent (or the session, if nothing had to be paid)';
COMMENT ON COLUMN stripe_payments.credits IS 'what the payment granted; null while only its reversal is known';
COMMENT ON COLUMN stripe_payments.amount_cents IS 'what the credits were granted for; reversals take them back in proportion to it';
COMMENT ON COLUMN stripe_payments.currency IS 'of the payment, its refunds and its disputes; null while none of them is known';
COMMENT ON COLUMN stripe_payments.refunds IS 'by payment intent, as one invoice may be paid by several: see refunded_cents()';
COMMENT ON COLUMN stripe_payments.disputes IS
    'by dispute: its cents and its state as of `version`, the newest event: open, lost, or won (also: ended without moving money)';
COMMENT ON COLUMN stripe_payments.taken IS 'credits taken back';
COMMENT ON COLUMN stripe_payments.shortfall IS 'credits that should have been taken back but were spent; collected later (collect_shortfall)';
COMMENT ON COLUMN stripe_payments.settlements IS 'counts the entries that took credits back or gave them back: part of their keys';
COMMENT ON COLUMN stripe_payments.disputed_since IS 'since when the known payment has a dispute that is not decided';
CREATE INDEX IF NOT EXISTS stripe_payments_account ON stripe_payments (account_id);
CREATE INDEX IF NOT EXISTS stripe_payments_open ON stripe_payments (account_id) WHERE shortfall > 0 OR disputed_since IS NOT NULL;

-- Which customer pays for which account. An account has one customer that we created, which its checkouts use
-- (accounts.stripe_customer_id), and any others that subscribed for it.
CREATE TABLE IF NOT EXISTS stripe_customers (
    stripe_customer_id text PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    made_by_us boolean NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS stripe_customers_account ON stripe_customers (account_id);

-- --- For the API -------------------------------------------------------------------------------------------------------

-- What a purchase needs to know of its account, and the claim of its key, in one round trip. `outcome` is ready with the buyer and the claim
-- of claim_idempotency_key, no_account or forbidden.
CREATE OR REPLACE FUNCTION begin_purchase(p_account_id uuid, p_key text, p_hash text, p_work_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_account uuid;
    v_refusal jsonb;
    v_claim jsonb := jsonb_build_object('outcome', 'claimed', 'work_id', p_work_id);
BEGIN
    SELECT account_id, refusal INTO v_account, v_refusal FROM caller_writable_account(p_account_id);
    IF v_refusal IS NOT NULL THEN
        RETURN v_refusal;
    END IF;
    IF p_key IS NOT NULL THEN
        v_claim := claim_idempotency_key(v_account, p_key, p_hash, p_work_id);
    END IF;
    RETURN (SELECT jsonb_build_object('outcome', 'ready', 'claim', v_claim,
                'buyer', jsonb_build_object('account_id', a.id, 'customer', a.stripe_customer_id, 'email', u.email))
            FROM accounts a JOIN users u ON u.id = a.owner_id WHERE a.id = v_account);
END
$$;

-- --- Events ------------------------------------------------------------------------------------------------------------

-- Orders the events of one object: the end of the object last, else by Stripe's clock. That counts in seconds, and a subscription changes
-- several times in one when it starts or renews: within a second the creation comes first, a later period after an earlier one, and then
-- how far the status has come; a dispute that is decided within the second in which it opened is decided. The id makes the order total.
-- Compared as text (collation C).
CREATE OR REPLACE FUNCTION stripe_version(p_final boolean, p_created bigint, p_type text, p_period_start bigint, p_status text, p_event_id text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT concat_ws(':', CASE WHEN p_final THEN '1' ELSE '0' END, lpad(p_created::text, 12, '0'), CASE WHEN p_type LIKE '%.created' THEN '0' ELSE '1' END,
        lpad(coalesce(p_period_start, 0)::text, 12, '0'),
        CASE p_status WHEN 'incomplete' THEN '1' WHEN 'trialing' THEN '2' WHEN 'active' THEN '3' WHEN 'past_due' THEN '4' WHEN 'open' THEN '4'
            WHEN 'lost' THEN '6' WHEN 'won' THEN '7' ELSE '5' END, p_event_id)
$$;

-- The account that an object is about: its customer's, else its subscription's, else the one that it names itself.
CREATE OR REPLACE FUNCTION stripe_account(p_customer text, p_subscription text, p_account_id uuid) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce((SELECT account_id FROM stripe_customers WHERE stripe_customer_id = p_customer),
                    (SELECT account_id FROM subscriptions WHERE stripe_subscription_id = p_subscription),
                    (SELECT id FROM accounts WHERE id = p_account_id))
$$;

-- Of the items of a subscription, or the lines of an invoice that charge a period: the one of the largest plan, with `plan_id`. Null if none has
-- the price of a plan. A subscription may have other products beside its plan.
CREATE OR REPLACE FUNCTION plan_line(p_lines jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT line || jsonb_build_object('plan_id', p.id)
    FROM jsonb_array_elements(p_lines) WITH ORDINALITY AS lines (line, number) JOIN plans p ON p.stripe_price_id = line ->> 'price_id'
    WHERE line ->> 'period_start' IS NOT NULL
    ORDER BY p.credits_per_month DESC, number LIMIT 1
$$;

-- The prices among these items or lines that no plan has: those of other products, or of a plan that we do not know.
CREATE OR REPLACE FUNCTION prices_without_a_plan(p_lines jsonb) RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT ARRAY(SELECT DISTINCT line ->> 'price_id' FROM jsonb_array_elements(p_lines) line
                 WHERE NOT EXISTS (SELECT 1 FROM plans WHERE stripe_price_id = line ->> 'price_id'))
$$;

-- Adds to what a period's invoices are worth, and grants what the period is entitled to beyond what it got.
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
        -- The first grant of a period has the key that every other way to renew it uses too.
        PERFORM grant_credits(period.account_id, period.level - period.granted, 'subscription_renewal',
            CASE WHEN period.granted = 0 THEN v_key ELSE v_key || ':' || period.level END,
            'Monthly credits',
            jsonb_build_object('subscription', p_subscription, 'period_start', p_start));
        UPDATE subscription_periods SET granted = level WHERE stripe_subscription_id = p_subscription AND period_start = p_start;
    END IF;
END
$$;

-- The cents of a payment that were refunded, from {payment intent: {total, steps, refunds}}: `total` is the greatest amount_refunded that its
-- charge had, `steps` what each event added to it, and `refunds` the single refunds, with `cents` and `failed`. A charge's own amount falls again
-- when a refund fails, so the steps count and the failed refunds are subtracted; known refunds that did not fail count at least.
CREATE OR REPLACE FUNCTION refunded_cents(p_refunds jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(sum(greatest(0, greatest((charge ->> 'total')::bigint, s.cents) - r.failed, r.kept)), 0)::bigint
    FROM jsonb_each(p_refunds) AS payments (id, charge)
    CROSS JOIN LATERAL (SELECT coalesce(sum(value::bigint), 0) AS cents FROM jsonb_each_text(coalesce(charge -> 'steps', '{}'))) s
    CROSS JOIN LATERAL (
        SELECT coalesce(sum((value ->> 'cents')::bigint) FILTER (WHERE (value ->> 'failed')::boolean), 0) AS failed,
               coalesce(sum((value ->> 'cents')::bigint) FILTER (WHERE NOT (value ->> 'failed')::boolean), 0) AS kept
        FROM jsonb_each(coalesce(charge -> 'refunds', '{}'))) r
$$;

-- What a payment's refunds and disputes amount to, in credits: in proportion to what it gave, rounded down, and never more than that.
CREATE OR REPLACE FUNCTION owed_credits(p stripe_payments) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p.amount_cents > 0 THEN p.credits * least(p.amount_cents, public.refunded_cents(p.refunds)
        + (SELECT coalesce(sum((value ->> 'cents')::bigint), 0)::bigint FROM jsonb_each(p.disputes) WHERE value ->> 'state' <> 'won')) / p.amount_cents
        ELSE 0 END::integer
$$;

-- Notes since when a known payment is disputed, under the balance's lock.
CREATE OR REPLACE FUNCTION note_dispute() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW.disputed_since := CASE WHEN NEW.account_id IS NOT NULL AND jsonb_path_exists(NEW.disputes, '$.* ? (@.state == "open")')
        THEN coalesce(CASE TG_OP WHEN 'UPDATE' THEN OLD.disputed_since END, clock_timestamp()) END;
    RETURN NEW;
END
$$;
DROP TRIGGER IF EXISTS note_dispute ON stripe_payments;
CREATE TRIGGER note_dispute BEFORE INSERT OR UPDATE ON stripe_payments FOR EACH ROW EXECUTE FUNCTION note_dispute();

-- Keeps what a balance knows of its payments.
CREATE OR REPLACE FUNCTION note_open_payments() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE credit_balances b SET open_shortfall = m.shortfall, disputed_since = m.disputed_since, updated_at = clock_timestamp()
    FROM (SELECT coalesce(sum(shortfall), 0)::integer AS shortfall, min(disputed_since) AS disputed_since
          FROM stripe_payments WHERE account_id = NEW.account_id) m
    WHERE b.account_id = NEW.account_id AND (b.open_shortfall, b.disputed_since) IS DISTINCT FROM (m.shortfall, m.disputed_since);
    RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS note_open_payments ON stripe_payments;
CREATE TRIGGER note_open_payments AFTER INSERT OR UPDATE ON stripe_payments FOR EACH ROW WHEN (NEW.account_id IS NOT NULL)
    EXECUTE FUNCTION note_open_payments();
DROP TRIGGER IF EXISTS payments_kept ON stripe_payments;
CREATE TRIGGER payments_kept BEFORE DELETE ON stripe_payments FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Pays the open shortfalls of an account from every grant and refund, the oldest payment first, before the statement that gave ends. Fires
-- after ledger_after_insert, by its name.
CREATE OR REPLACE FUNCTION collect_shortfall() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_left integer;
    payment record;
    v_taken integer;
BEGIN
    SELECT current_balance INTO v_left FROM credit_balances WHERE account_id = NEW.account_id AND open_shortfall > 0;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    FOR payment IN SELECT source, shortfall FROM stripe_payments WHERE account_id = NEW.account_id AND shortfall > 0 ORDER BY created_at, source LOOP
        v_taken := least(v_left, payment.shortfall);
        EXIT WHEN v_taken = 0;
        PERFORM take_back(payment.source, NEW.account_id, v_taken, -v_taken, NEW.created_by);
        v_left := v_left - v_taken;
    END LOOP;
    RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS ledger_collects_shortfall ON credit_ledger;
CREATE TRIGGER ledger_collects_shortfall AFTER INSERT ON credit_ledger FOR EACH ROW WHEN (NEW.amount > 0) EXECUTE FUNCTION collect_shortfall();

-- Takes credits back for a payment and changes its shortfall.
CREATE OR REPLACE FUNCTION take_back(p_source text, p_account_id uuid, p_credits integer, p_shortfall integer, p_created_by text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_number integer;
BEGIN
    UPDATE stripe_payments p SET taken = p.taken + p_credits, shortfall = p.shortfall + p_shortfall, settlements = p.settlements + 1
    WHERE p.source = p_source RETURNING settlements INTO v_number;
    IF p_credits > 0 THEN
        INSERT INTO credit_ledger (account_id, amount, balance_after, entry_no, transaction_type, idempotency_key, description, metadata, created_by)
        VALUES (p_account_id, -p_credits, 0, 0, 'chargeback', 'reversal:' || p_source || ':' || v_number, 'Payment returned',
                jsonb_build_object('payment', p_source), p_created_by);
    END IF;
END
$$;

-- Takes back what a payment owes beyond what was taken or is a shortfall already, as far as there are credits; the rest is added to its
-- shortfall. When it owes less again, because a refund failed or a dispute was won, first the shortfall falls, and then credits are given back.
CREATE OR REPLACE FUNCTION settle_reversal(p_source text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    payment stripe_payments;
    v_due integer;
    v_credits integer;
BEGIN
    SELECT * INTO payment FROM stripe_payments WHERE source = p_source FOR UPDATE;
    IF payment.credits IS NULL THEN
        RETURN;
    END IF;
    v_due := owed_credits(payment) - payment.taken - payment.shortfall;
    IF v_due > 0 THEN
        SELECT least(current_balance, v_due) INTO v_credits FROM credit_balances WHERE account_id = payment.account_id FOR UPDATE;
        PERFORM take_back(p_source, payment.account_id, coalesce(v_credits, 0), v_due - coalesce(v_credits, 0));
    ELSIF v_due < 0 THEN
        v_credits := greatest(0, -v_due - payment.shortfall);
        UPDATE stripe_payments p SET taken = p.taken - v_credits, shortfall = p.shortfall + v_due + v_credits, settlements = p.settlements + 1
        WHERE p.source = p_source RETURNING * INTO payment;
        IF v_credits > 0 THEN
            PERFORM grant_credits(payment.account_id, v_credits, 'admin_grant', 'reinstated:' || p_source || ':' || payment.settlements,
                'Payment kept', jsonb_build_object('payment', p_source));
        END IF;
    END IF;
END
$$;

-- Records a payment and what it grants; its reversals may have arrived before it. False if it was known before. The amounts of both can only be
-- compared in one currency.
CREATE OR REPLACE FUNCTION record_payment(p_source text, p_account_id uuid, p_credits integer, p_amount_cents bigint, p_currency text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM stripe_payments WHERE source = p_source AND currency <> p_currency) THEN
        RAISE EXCEPTION 'payment % is in %, and its reversals are not', p_source, p_currency USING ERRCODE = 'OS400';
    END IF;
    INSERT INTO stripe_payments (source, account_id, credits, amount_cents, currency) VALUES (p_source, p_account_id, p_credits, p_amount_cents, p_currency)
    ON CONFLICT (source) DO UPDATE SET account_id = excluded.account_id, credits = excluded.credits, amount_cents = excluded.amount_cents,
        currency = excluded.currency
    WHERE stripe_payments.credits IS NULL;
    RETURN FOUND;
END
$$;

-- Records for which account a customer pays. A customer that we created is certain; a payment link's claim comes from its payer.
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

-- A purchase grants what was bought. Its price is in US dollars; Stripe may have presented it in the payer's currency.
CREATE OR REPLACE FUNCTION apply_payment(p_account_id uuid, e jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_credits CONSTANT integer := (e ->> 'credits')::integer;
    v_source CONSTANT text := coalesce(e ->> 'payment_intent', e ->> 'session_id');
BEGIN
    IF e ->> 'priced_in' <> 'usd' THEN
        RAISE EXCEPTION 'session % sells credits and is not priced in US dollars', e ->> 'session_id' USING ERRCODE = 'OS400';
    END IF;
    PERFORM apply_customer(p_account_id, e ->> 'customer', false, false);
    PERFORM grant_credits(p_account_id, v_credits, 'purchase', 'purchase:' || (e ->> 'session_id'), v_credits || ' credits',
        jsonb_build_object('session', e ->> 'session_id', 'payment_intent', e ->> 'payment_intent', 'amount_cents', (e ->> 'amount_cents')::bigint));
    PERFORM record_payment(v_source, p_account_id, v_credits, (e ->> 'amount_cents')::bigint, coalesce(e ->> 'currency', 'usd'));
    PERFORM settle_reversal(v_source);
END
$$;

-- Derives a subscription's status from its own events and its failed payments, in whatever order they arrived.
CREATE OR REPLACE FUNCTION settle_status(p_subscription text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE subscriptions SET updated_at = clock_timestamp(), status = CASE
        WHEN reported_status IS NULL OR reported_status IN ('active', 'trialing') AND failed_version > status_version THEN 'past_due' ELSE reported_status END
    WHERE stripe_subscription_id = p_subscription
$$;

-- p_item is the item of the largest plan; null if a subscription of ours has no plan any longer, which ends it for us.
CREATE OR REPLACE FUNCTION apply_subscription(p_account_id uuid, e jsonb, p_item jsonb, p_version text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_start CONSTANT timestamptz := to_timestamp((p_item ->> 'period_start')::bigint);
    v_end CONSTANT timestamptz := to_timestamp((p_item ->> 'period_end')::bigint);
    v_cancel_at CONSTANT timestamptz := coalesce(to_timestamp((e ->> 'cancel_at')::bigint), CASE WHEN (e ->> 'cancel_at_period_end')::boolean THEN v_end END);
BEGIN
    IF p_item IS NOT NULL THEN
        INSERT INTO subscriptions AS s (account_id, plan_id, stripe_subscription_id, stripe_price_id, status, current_period_start, current_period_end,
                                        cancel_at_period_end, cancel_at, canceled_at, details_version, status_version)
        VALUES (p_account_id, p_item ->> 'plan_id', e ->> 'subscription_id', p_item ->> 'price_id', e ->> 'status', v_start, v_end,
                coalesce(v_cancel_at <= v_end, false), v_cancel_at, to_timestamp((e ->> 'canceled_at')::bigint), p_version, p_version)
        ON CONFLICT (stripe_subscription_id) DO UPDATE SET
            plan_id = excluded.plan_id, stripe_price_id = excluded.stripe_price_id, current_period_start = excluded.current_period_start,
            current_period_end = excluded.current_period_end, cancel_at_period_end = excluded.cancel_at_period_end, cancel_at = excluded.cancel_at,
            canceled_at = excluded.canceled_at, details_version = excluded.details_version, updated_at = clock_timestamp()
        WHERE s.details_version < excluded.details_version;
        UPDATE subscriptions s SET other_prices = ARRAY(SELECT price FROM unnest(s.other_prices || prices_without_a_plan(e -> 'items')) AS price
                                                        GROUP BY price ORDER BY price COLLATE "C")
        WHERE stripe_subscription_id = e ->> 'subscription_id' AND NOT s.other_prices @> prices_without_a_plan(e -> 'items');
    END IF;
    UPDATE subscriptions SET reported_status = CASE WHEN p_item IS NULL THEN 'canceled' ELSE e ->> 'status' END, status_version = p_version
    WHERE stripe_subscription_id = e ->> 'subscription_id' AND status_version <= p_version;
    PERFORM settle_status(e ->> 'subscription_id');
END
$$;

-- What of an invoice was settled with new money or a gift, whether by card, from the customer's balance or outside of Stripe. Credit notes are not
-- paid, and what earlier invoices had returned to the balance gave its credits then.
CREATE OR REPLACE FUNCTION settled_cents(e jsonb) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF e ->> 'returned_earlier' IS NULL AND (e ->> 'from_balance')::bigint > 0 THEN
        RAISE EXCEPTION 'invoice % was paid from a balance that Stripe does not know: grant its credits by hand', e ->> 'invoice_id' USING ERRCODE = 'OS400';
    END IF;
    RETURN greatest(0, (e ->> 'total')::bigint - coalesce((e ->> 'credit_notes')::bigint, 0) - coalesce((e ->> 'returned_earlier')::bigint, 0));
END
$$;

-- What a paid invoice is worth, in credits: each line of a plan at the plan's rate (what a change of plans returns counts against what it
-- charges), in proportion to what was settled of the invoice (settled_cents). Lines of other products give nothing. A trial's line costs nothing
-- and gives nothing. A discount, even one of 100 %, lowers the total and takes no credits: the month is worth what its line says. An invoice that
-- owes the customer money, or exchanges one plan for another of the same price, gives nothing: what it exchanges may be worth more at one plan's
-- rate than at the other's.
CREATE OR REPLACE FUNCTION invoice_credits(e jsonb) RETURNS integer
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_amount bigint;
    v_worth numeric;
BEGIN
    IF e ->> 'currency' <> 'usd' THEN
        RAISE EXCEPTION 'invoice % charges a plan and is not in US dollars', e ->> 'invoice_id' USING ERRCODE = 'OS400';
    END IF;
    SELECT coalesce(sum((line ->> 'amount')::bigint), 0), coalesce(sum((line ->> 'amount')::numeric * p.credits_per_month / p.price_cents), 0)
    INTO v_amount, v_worth
    FROM jsonb_array_elements(e -> 'lines') line JOIN plans p ON p.stripe_price_id = line ->> 'price_id' AND p.price_cents > 0;
    IF v_amount <= 0 OR (e ->> 'total')::bigint < 0 THEN
        RETURN 0;
    ELSIF (e ->> 'total')::bigint > 0 THEN
        v_worth := v_worth * settled_cents(e) / (e ->> 'total')::bigint;
    END IF;
    RETURN greatest(0, round(v_worth));
END
$$;

-- p_line is the line that charges a period of a plan; null if the invoice only settles a change of plans, or is about something else.
CREATE OR REPLACE FUNCTION apply_invoice(p_account_id uuid, e jsonb, p_line jsonb, p_version text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_paid CONSTANT boolean := e ->> 'status' = 'paid';
    v_start CONSTANT timestamptz := to_timestamp((p_line ->> 'period_start')::bigint);
    v_end CONSTANT timestamptz := to_timestamp((p_line ->> 'period_end')::bigint);
    v_credits CONSTANT integer := CASE WHEN v_paid AND e ->> 'subscription_id' IS NOT NULL THEN invoice_credits(e) ELSE 0 END;
BEGIN
    IF (e ->> 'lines_omitted')::boolean THEN
        RAISE EXCEPTION 'invoice % has more lines than its event: it has to be applied by hand', e ->> 'invoice_id' USING ERRCODE = 'OS400';
    END IF;
    INSERT INTO stripe_invoices AS i (stripe_invoice_id, account_id, stripe_subscription_id, status, amount_due, amount_paid, currency, period_start,
                                      period_end, billing_reason, hosted_invoice_url, version, invoiced_at)
    VALUES (e ->> 'invoice_id', p_account_id, e ->> 'subscription_id', e ->> 'status', (e ->> 'amount_due')::bigint,
            (e ->> 'amount_paid')::bigint, e ->> 'currency', v_start, v_end, e ->> 'billing_reason', e ->> 'hosted_invoice_url', p_version,
            to_timestamp((e ->> 'created')::bigint))
    ON CONFLICT (stripe_invoice_id) DO UPDATE SET status = excluded.status, amount_due = excluded.amount_due, amount_paid = excluded.amount_paid,
        hosted_invoice_url = excluded.hosted_invoice_url, version = excluded.version
    WHERE i.version < excluded.version;
    IF e ->> 'subscription_id' IS NULL THEN
        RETURN; -- an invoice for something else
    ELSIF v_paid THEN
        -- A customer who owed something on the balance has paid more than this invoice.
        IF record_payment(e ->> 'invoice_id', p_account_id, v_credits, greatest((e ->> 'amount_paid')::bigint, settled_cents(e)), e ->> 'currency') THEN
            IF p_line IS NOT NULL THEN
                PERFORM settle_period(e ->> 'subscription_id', p_account_id, v_start, v_credits, true);
            ELSIF v_credits > 0 THEN
                PERFORM grant_credits(p_account_id, v_credits, 'subscription_renewal', 'invoice:' || (e ->> 'invoice_id'), 'Plan change',
                    jsonb_build_object('subscription', e ->> 'subscription_id', 'invoice', e ->> 'invoice_id'));
            END IF;
        END IF;
        PERFORM settle_reversal(e ->> 'invoice_id');
    ELSIF e ->> 'status' = 'open' AND p_line IS NOT NULL AND e ->> 'billing_reason' IS DISTINCT FROM 'subscription_create' THEN
        -- Its payment failed. Not for a first payment (subscription_create): a failed one leaves its subscription incomplete, as that one's own
        -- events report.
        INSERT INTO subscriptions (account_id, plan_id, stripe_subscription_id, stripe_price_id, status, current_period_start, current_period_end, failed_version)
        VALUES (p_account_id, p_line ->> 'plan_id', e ->> 'subscription_id', p_line ->> 'price_id', 'past_due', v_start, v_end, p_version)
        ON CONFLICT (stripe_subscription_id) DO UPDATE SET failed_version = greatest(subscriptions.failed_version, excluded.failed_version);
        PERFORM settle_status(e ->> 'subscription_id');
    END IF;
END
$$;

-- Merges a refund or a dispute into its payment: a greatest amount, a set of steps, the newest state. p_event_id identifies the step.
CREATE OR REPLACE FUNCTION apply_reversal(e jsonb, p_event_id text, p_version text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    payment stripe_payments;
    known jsonb;
BEGIN
    INSERT INTO stripe_payments (source, currency) VALUES (e ->> 'source', e ->> 'currency') ON CONFLICT (source) DO NOTHING;
    SELECT * INTO payment FROM stripe_payments WHERE source = e ->> 'source' FOR UPDATE;
    IF payment.credits IS NOT NULL AND payment.currency <> e ->> 'currency' THEN
        RAISE EXCEPTION 'payment % is in %, and its reversal in %', payment.source, payment.currency, e ->> 'currency' USING ERRCODE = 'OS400';
    ELSIF payment.credits IS NOT NULL AND e ->> 'state' = 'unknown' THEN
        RAISE EXCEPTION 'dispute % has a status that is not known', e ->> 'dispute_id' USING ERRCODE = 'OS400';
    END IF;
    CASE e ->> 'change'
        WHEN 'refunded' THEN
            known := coalesce(payment.refunds -> (e ->> 'payment'), '{}');
            known := known || jsonb_build_object('total', greatest((known ->> 'total')::bigint, (e ->> 'total_cents')::bigint),
                'steps', coalesce(known -> 'steps', '{}') || CASE WHEN e ->> 'step_cents' IS NULL THEN '{}'
                    ELSE jsonb_build_object(p_event_id, (e ->> 'step_cents')::bigint) END);
            payment.refunds := payment.refunds || jsonb_build_object(e ->> 'payment', known);
        WHEN 'refund' THEN
            known := coalesce(payment.refunds -> (e ->> 'payment'), '{}');
            known := known || jsonb_build_object('refunds', coalesce(known -> 'refunds', '{}') || jsonb_build_object(e ->> 'refund_id', jsonb_build_object(
                'cents', (e ->> 'cents')::bigint,
                'failed', coalesce((known -> 'refunds' -> (e ->> 'refund_id') ->> 'failed')::boolean, false) OR (e ->> 'failed')::boolean)));
            payment.refunds := payment.refunds || jsonb_build_object(e ->> 'payment', known);
        WHEN 'dispute' THEN
            -- No state is final: a dispute that was won can be lost in a second stage, one that was lost can be appealed and won, and an inquiry that
            -- was closed can become a dispute.
            known := payment.disputes -> (e ->> 'dispute_id');
            IF known IS NULL OR coalesce(known ->> 'version', '') COLLATE "C" < p_version THEN
                payment.disputes := payment.disputes || jsonb_build_object(e ->> 'dispute_id', jsonb_build_object('cents', (e ->> 'cents')::bigint,
                    'state', CASE e ->> 'state' WHEN 'unknown' THEN 'open' ELSE e ->> 'state' END, 'version', p_version));
            END IF;
        ELSE
            RAISE EXCEPTION 'unknown change %', e ->> 'change' USING ERRCODE = 'OS400';
    END CASE;
    UPDATE stripe_payments SET refunds = payment.refunds, disputes = payment.disputes, currency = coalesce(payment.currency, e ->> 'currency')
    WHERE source = payment.source;
    PERFORM settle_reversal(payment.source);
END
$$;

-- Whether a subscription or an invoice is about something of ours. Raises OS404 if it is or may be, but is not understood yet:
--   the customer of a plan is not known;
--   a known subscription has, or is charged, a price that no plan has and that it has not had beside a plan: its plan's price was replaced by one
--   that `plans` does not know. Unless it has ended, or the invoice is not collected;
--   an account of ours pays with a price that no plan has, while a plan that is on sale has none.
CREATE OR REPLACE FUNCTION is_about_a_plan(e jsonb, p_account_id uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_lines CONSTANT jsonb := coalesce(e -> 'items', e -> 'lines');
    v_prices CONSTANT text[] := ARRAY(SELECT DISTINCT l ->> 'price_id' FROM jsonb_array_elements(v_lines) l);
    v_unknown text[] := prices_without_a_plan(v_lines);
    v_is_plan CONSTANT boolean := cardinality(v_unknown) < cardinality(v_prices);
    v_is_over CONSTANT boolean := coalesce((e ->> 'deleted')::boolean, false) OR e ->> 'status' IN ('canceled', 'incomplete_expired', 'void', 'uncollectible');
    v_charged bigint;
    known subscriptions;
BEGIN
    IF p_account_id IS NULL THEN
        -- Accounts exist before anything names them, so an unknown one is another system's.
        IF v_is_plan AND e ->> 'account_id' IS NULL AND NOT coalesce((e ->> 'names_other_account')::boolean, false) THEN
            RAISE EXCEPTION 'no account for customer %', coalesce(e ->> 'customer', '(none)') USING ERRCODE = 'OS404';
        END IF;
        RETURN false;
    ELSIF e ->> 'kind' = 'invoice' AND (e ->> 'subscription_id' IS NULL OR (e ->> 'lines_omitted')::boolean) THEN
        RETURN true;
    END IF;
    SELECT * INTO known FROM subscriptions WHERE stripe_subscription_id = e ->> 'subscription_id';
    IF FOUND THEN
        v_unknown := ARRAY(SELECT price FROM unnest(v_unknown) AS price WHERE price <> ALL (known.other_prices));
        IF v_is_over OR e ->> 'kind' = 'subscription' AND (v_is_plan OR v_unknown = '{}') THEN
            RETURN true;
        ELSIF v_unknown <> '{}' THEN
            RAISE EXCEPTION 'price % of subscription % belongs to no plan: add it to plans and redrive', v_unknown[1], e ->> 'subscription_id'
                USING ERRCODE = 'OS404';
        END IF;
        RETURN v_is_plan;
    ELSIF v_is_plan THEN
        -- A plan that is only returned is exchanged for something. Its subscription's own events report whether that is another product.
        SELECT sum((l ->> 'amount')::bigint) INTO v_charged FROM jsonb_array_elements(v_lines) l WHERE l ->> 'price_id' <> ALL (v_unknown);
        IF v_charged < 0 AND v_unknown <> '{}' THEN
            RAISE EXCEPTION 'subscription % is not known', e ->> 'subscription_id' USING ERRCODE = 'OS404';
        END IF;
        RETURN true;
    ELSIF EXISTS (SELECT 1 FROM plans WHERE is_active AND price_cents > 0 AND stripe_price_id IS NULL) THEN
        RAISE EXCEPTION 'price % belongs to no plan: set plans.stripe_price_id and redrive', coalesce(v_prices[1], '(none)') USING ERRCODE = 'OS404';
    END IF;
    RETURN false;
END
$$;

-- Applies an event once. p_event: event_id, event_type, created (seconds), api_version and its effect, whose kinds are those of
-- `Effect` in shared/vendors. Raises OS404 while its account or plan is unknown: the event that makes it known may arrive later. What is not
-- about our accounts and plans is ignored.
CREATE OR REPLACE FUNCTION apply_stripe_event(p_event jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    e CONSTANT jsonb := p_event -> 'effect';
    v_kind CONSTANT text := e ->> 'kind';
    v_type CONSTANT text := p_event ->> 'event_type';
    v_created CONSTANT bigint := (p_event ->> 'created')::bigint;
    v_source CONSTANT text := CASE v_kind WHEN 'reversal' THEN e ->> 'source' WHEN 'payment' THEN coalesce(e ->> 'payment_intent', e ->> 'session_id')
        WHEN 'invoice' THEN e ->> 'invoice_id' END;
    v_line CONSTANT jsonb := CASE WHEN v_kind IN ('subscription', 'invoice') THEN plan_line(coalesce(e -> 'items', e -> 'lines')) END;
    v_account uuid;
    -- An invoice that is paid or void stays so; one whose payment failed leaves its subscription past due.
    v_version CONSTANT text := stripe_version(coalesce((e ->> 'deleted')::boolean, v_kind = 'invoice' AND e ->> 'status' IN ('paid', 'void')), v_created,
        v_type, (v_line ->> 'period_start')::bigint, coalesce(e ->> 'status', e ->> 'state'), p_event ->> 'event_id');
    v_outcome text := CASE v_kind WHEN 'ignored' THEN 'ignored' ELSE 'applied' END;
BEGIN
    -- A payment and its reversals run one after the other, from before either looks for the account: a reversal of a payment that is recorded at
    -- this moment would lock the payment first and the balance then, and a refund to the account the other way round.
    PERFORM pg_advisory_xact_lock(hashtextextended('payment:' || v_source, 0)) WHERE v_source IS NOT NULL;
    -- A repetition is not an error, even if the event would be rejected now: its plan may have another price since.
    SELECT account_id INTO v_account FROM webhook_events WHERE stripe_event_id = p_event ->> 'event_id';
    IF FOUND THEN
        RETURN jsonb_build_object('outcome', 'duplicate', 'account_id', v_account);
    END IF;
    PERFORM set_config('oslira.caused_by', 'stripe:' || (p_event ->> 'event_id'), true);
    v_account := CASE
        WHEN v_kind = 'reversal' THEN (SELECT account_id FROM stripe_payments WHERE source = v_source)
        WHEN v_kind IN ('payment', 'customer') THEN (SELECT id FROM accounts WHERE id = (e ->> 'account_id')::uuid)
        ELSE stripe_account(e ->> 'customer', e ->> 'subscription_id', (e ->> 'account_id')::uuid) END;
    IF v_kind IN ('payment', 'customer') AND v_account IS NULL OR v_kind IN ('subscription', 'invoice') AND NOT is_about_a_plan(e, v_account) THEN
        v_outcome := 'ignored';
    END IF;
    -- Events of one account run one after the other; those of different accounts do not wait for each other. NO KEY: a refund locks the
    -- balance and then, by its foreign key, shares the account's row. With FOR UPDATE here the two would wait for each other.
    PERFORM 1 FROM accounts WHERE id = v_account FOR NO KEY UPDATE;
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
            WHEN 'subscription' THEN PERFORM apply_subscription(v_account, e, v_line, v_version);
            WHEN 'invoice' THEN PERFORM apply_invoice(v_account, e, v_line, v_version);
            WHEN 'reversal' THEN PERFORM apply_reversal(e, p_event ->> 'event_id', v_version);
            ELSE RAISE EXCEPTION 'unknown effect %', v_kind USING ERRCODE = 'OS400';
        END CASE;
    END IF;
    RETURN jsonb_build_object('outcome', v_outcome, 'account_id', v_account);
END
$$;
