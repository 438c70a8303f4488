"""Checks of the sandbox with stripe-python: objects, errors, idempotency and signed events."""

import http.server
import json
import queue
import threading
import time
import urllib.request
import uuid

import stripe

from controls import BASE, control, fails, fault
from stripe_layout import assert_declared

KEY = "sk_test_sandbox"
SECRET = "whsec_sandbox"


def client(key: str = KEY, **more) -> stripe.StripeClient:
    return stripe.StripeClient(key, base_addresses={"api": BASE + "/stripe"}, **{"max_network_retries": 0, **more})


def stripe_control(path: str, body: dict | None = None):
    """Sends a request to Stripe's control API."""
    return control("GET" if body is None else "POST", "/stripe" + path, body)


def raw(path: str) -> dict:
    """Returns an object as it is on the wire."""
    request = urllib.request.Request(BASE + "/stripe/v1" + path, headers={"authorization": "Bearer " + KEY})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.headers["stripe-version"] == stripe.api_version and response.headers["request-id"].startswith("req_")
        return json.load(response)


class Shop:
    """A webhook endpoint that rejects the next `rejections` deliveries."""

    def __init__(self) -> None:
        self.got: queue.Queue[tuple[bytes, str]] = queue.Queue()
        self.rejections = 0
        shop = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                rejected, shop.rejections = shop.rejections > 0, max(0, shop.rejections - 1)
                self.send_response(503 if rejected else 200)
                self.send_header("content-length", "0")
                self.end_headers()
                if not rejected:
                    shop.got.put((body, self.headers["stripe-signature"]))

            def log_message(self, *_) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def events(self, *kinds: str) -> list[stripe.Event]:
        """Returns the next events, which must be of these kinds in any order. The SDK verifies each signature."""
        found = []
        for _ in kinds:
            body, signature = self.got.get(timeout=15)
            found.append(stripe.Webhook.construct_event(body, signature, SECRET))
        assert sorted(event.type for event in found) == sorted(kinds), [event.type for event in found]
        return sorted(found, key=lambda event: kinds.index(event.type))


def buy(api: stripe.StripeClient, customer: str, cents: int = 9700, **more):
    metadata = {"kind": "credits", "account_id": "a-1", "total_cents": str(cents)}
    return api.v1.checkout.sessions.create({
        "mode": "payment", "customer": customer, "client_reference_id": "a-1", "success_url": "https://shop.example/?s={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://shop.example/", "metadata": metadata, "payment_intent_data": {"metadata": metadata}, **more,
        "line_items": [{"price_data": {"currency": "usd", "unit_amount": cents, "product_data": {"name": "100 credits"}}, "quantity": 1}],
    })


def check_customers_and_prices(api: stripe.StripeClient) -> str:
    customer = api.v1.customers.create({"email": "a@example.com", "metadata": {"account_id": "a-1"}})
    assert customer.id.startswith("cus_") and api.v1.customers.retrieve(customer.id).metadata["account_id"] == "a-1"
    changed = api.v1.customers.update(customer.id, {"name": "Ada", "metadata": {"account_id": "", "x": "y"}})
    assert changed.name == "Ada" and changed.metadata.to_dict() == {"x": "y"}
    assert [found.id for found in api.v1.customers.list({"email": "a@example.com"}).data][0] == customer.id
    more = [api.v1.customers.create({"description": "paged"}).id for _ in range(3)]
    first = api.v1.customers.list({"limit": 2})
    assert [found.id for found in first.data] == more[:0:-1] and first.has_more
    seen = [found.id for found in first.auto_paging_iter()]
    assert seen[:3] == more[::-1] and customer.id in seen and len(seen) == len(set(seen))

    cents = {"price_pro": 3000, "price_agency": 8000, "price_enterprise": 30000}
    for name, amount in cents.items():
        price = api.v1.prices.retrieve(name, {"expand": ["product"]})
        assert (price.unit_amount, price.currency, price.recurring.interval, price.product.object) == (amount, "usd", "month", "product")
        assert_declared(raw(f"/prices/{name}"))
        assert_declared(raw(f"/products/{price.product.id}"))
    product = api.v1.products.create({"name": "Extra"})
    price = api.v1.prices.create({"product": product.id, "currency": "usd", "unit_amount": 500, "lookup_key": "extra"})
    assert price.type == "one_time" and api.v1.prices.list({"lookup_keys": ["extra"]}).data[0].id == price.id
    return customer.id


def check_checkout(api: stripe.StripeClient, shop: Shop, customer: str) -> None:
    session = buy(api, customer)
    assert (session.status, session.payment_status, session.amount_total, session.payment_intent) == ("open", "unpaid", 9700, None)
    items = api.v1.checkout.sessions.line_items.list(session.id).data
    assert (items[0].description, items[0].amount_total, items[0].quantity) == ("100 credits", 9700, 1)
    assert api.v1.checkout.sessions.retrieve(session.id, {"expand": ["line_items"]}).line_items.data[0].price.unit_amount == 9700
    with urllib.request.urlopen(session.url, timeout=10) as page:
        assert "97.00 USD" in page.read().decode()
    stripe_control(f"/sessions/{session.id}/pay", {"method": "fail"})
    assert shop.events("charge.failed", "payment_intent.payment_failed")[1].data.object.last_payment_error.code == "card_declined"
    stripe_control(f"/sessions/{session.id}/pay", {})
    charged, paid, completed = shop.events("charge.succeeded", "payment_intent.succeeded", "checkout.session.completed")
    assert completed.api_version == stripe.api_version and completed.data.object.payment_status == "paid"
    intent = api.v1.payment_intents.retrieve(completed.data.object.payment_intent, {"expand": ["latest_charge"]})
    assert intent.id == paid.data.object.id == charged.data.object.payment_intent and intent.latest_charge.metadata["kind"] == "credits"
    assert api.v1.charges.retrieve(charged.data.object.id).amount == 9700
    assert api.v1.events.retrieve(completed.id).data.object.id == session.id
    assert completed.id in [event.id for event in api.v1.events.list({"type": "checkout.session.completed"}).data]
    payments = api.v1.invoice_payments.list({"payment": {"type": "payment_intent", "payment_intent": intent.id}})
    assert payments.data == [], "a credit pack has no invoice"

    for succeed, kind in [(True, "async_payment_succeeded"), (False, "async_payment_failed")]:
        session = buy(api, customer)
        assert stripe_control(f"/sessions/{session.id}/pay", {"method": "delayed"})["payment_status"] == "unpaid"
        waiting = shop.events("charge.pending", "payment_intent.processing", "checkout.session.completed")[2]
        assert (waiting.data.object.status, waiting.data.object.payment_status) == ("complete", "unpaid")
        stripe_control(f"/sessions/{session.id}/settle", {"succeed": succeed})
        outcome = ("charge.succeeded", "payment_intent.succeeded") if succeed else ("charge.failed", "payment_intent.payment_failed")
        assert shop.events(*outcome, "checkout.session." + kind)[2].data.object.id == session.id

    assert api.v1.checkout.sessions.expire(buy(api, customer).id).status == "expired"
    assert shop.events("checkout.session.expired")[0].data.object.url is None

    refused = fails(stripe.InvalidRequestError, lambda: buy(api, customer, payment_method_types=["card"]), http_status=400)
    assert (refused.code, refused.param) == ("parameter_unknown", "payment_method_types")
    fails(stripe.InvalidRequestError, lambda: buy(api, "cus_none"), http_status=400, code="resource_missing", param="customer")
    fails(stripe.InvalidRequestError, lambda: buy(api, customer, -5), param="line_items[0][price_data][unit_amount]")

    refund = api.v1.refunds.create({"payment_intent": intent.id, "amount": 700})
    assert (refund.status, refund.amount, refund.charge) == ("succeeded", 700, charged.data.object.id)
    back = shop.events("charge.refunded", "refund.created")[0]
    assert (back.data.object.amount_refunded, back.data.object.refunded, back.data.previous_attributes["amount_refunded"]) == (700, False, 0)
    stripe_control(f"/payment_intents/{intent.id}/refund", {"amount": 9000})
    back = shop.events("charge.refunded", "refund.created")[0]
    assert (back.data.object.amount_refunded, back.data.object.refunded, back.data.previous_attributes["amount_refunded"]) == (9700, True, 700)
    fails(stripe.InvalidRequestError, lambda: api.v1.refunds.create({"charge": refund.charge}), code="charge_already_refunded")
    stripe_control(f"/refunds/{refund.id}/fail", {})
    failed = shop.events("refund.failed", "refund.updated", "charge.refund.updated")
    assert {event.data.object.status for event in failed} == {"failed"} and failed[1].data.previous_attributes["status"] == "succeeded"
    assert api.v1.charges.retrieve(refund.charge).amount_refunded == 9000
    assert api.v1.refunds.retrieve(refund.id).failure_reason == "expired_or_canceled_card"


def check_subscriptions(api: stripe.StripeClient, shop: Shop, customer: str) -> None:
    session = api.v1.checkout.sessions.create({
        "mode": "subscription", "customer": customer, "client_reference_id": "a-1", "success_url": "https://shop.example/",
        "line_items": [{"price": "price_pro", "quantity": 1}], "subscription_data": {"metadata": {"account_id": "a-1"}},
    })
    stripe_control(f"/sessions/{session.id}/pay", {"method": "card"})
    created, invoiced, _, _, paid, completed = shop.events(
        "customer.subscription.created", "invoice.created", "charge.succeeded", "payment_intent.succeeded", "invoice.paid",
        "checkout.session.completed",
    )
    subscription = created.data.object
    assert completed.data.object.subscription == subscription.id and subscription.metadata["account_id"] == "a-1"
    assert completed.data.object.invoice == invoiced.data.object.id == paid.data.object.id
    assert not hasattr(subscription, "current_period_end") and not hasattr(paid.data.object, "subscription")
    item = subscription["items"].data[0]
    assert 27 * 86400 < item.current_period_end - item.current_period_start < 32 * 86400
    line = paid.data.object.lines.data[0]
    assert paid.data.object.parent.subscription_details.subscription == subscription.id
    assert line.pricing.price_details.price == "price_pro" and line.parent.subscription_item_details.proration is False
    assert (line.period.start, line.period.end) == (item.current_period_start, item.current_period_end)
    payment = api.v1.invoice_payments.list({"invoice": paid.data.object.id}).data[0]
    again = api.v1.invoice_payments.list({"payment": {"type": "payment_intent", "payment_intent": payment.payment.payment_intent}})
    assert [found.invoice for found in again.data] == [paid.data.object.id]
    assert_declared(raw(f"/invoice_payments?invoice={paid.data.object.id}")["data"][0])

    stripe_control(f"/subscriptions/{subscription.id}/change", {"price": "price_agency"})
    changed = shop.events("customer.subscription.updated")[0].data
    assert changed.object["items"].data[0].price.id == "price_agency"
    assert changed.previous_attributes["items"]["data"][0]["price"]["id"] == "price_pro"
    renewed = stripe_control(f"/subscriptions/{subscription.id}/renew", {})
    _, moved, *_, paid = shop.events(
        "invoice.created", "customer.subscription.updated", "charge.succeeded", "payment_intent.succeeded", "invoice.paid")
    assert moved.data.object["items"].data[0].current_period_start == item.current_period_end
    lines = [line for line in paid.data.object.lines.data if not line.parent.subscription_item_details.proration]
    assert len(paid.data.object.lines.data) == 3 and [line.amount for line in lines] == [8000] and paid.data.object.amount_paid == 13000
    assert renewed["invoice"]["billing_reason"] == "subscription_cycle"

    failed = stripe_control(f"/subscriptions/{subscription.id}/renew", {"fail": True})
    assert failed["subscription"]["status"] == "past_due" and failed["invoice"]["amount_remaining"] == 8000
    shop.events(
        "invoice.created", "customer.subscription.updated", "charge.failed", "payment_intent.payment_failed", "invoice.payment_failed",
        "customer.subscription.updated")
    stripe_control(f"/invoices/{failed['invoice']['id']}/pay", {})
    shop.events("charge.succeeded", "payment_intent.succeeded", "invoice.paid", "customer.subscription.updated")
    assert api.v1.subscriptions.retrieve(subscription.id).status == "active"
    listed = [invoice.id for invoice in api.v1.invoices.list({"subscription": subscription.id}).data]
    assert len(listed) == 3 and listed == [invoice.id for invoice in api.v1.invoices.list({"customer": customer}).data]

    change = {"items": [{"id": item.id, "price": "price_enterprise"}], "proration_behavior": "always_invoice"}
    api.v1.subscriptions.update(subscription.id, change)
    shop.events("customer.subscription.updated", "invoice.created", "charge.succeeded", "payment_intent.succeeded", "invoice.paid")
    api.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert shop.events("customer.subscription.updated")[0].data.object.cancel_at_period_end is True
    api.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    shop.events("customer.subscription.updated")
    stripe_control(f"/subscriptions/{subscription.id}/cancel", {"at_period_end": True})
    ending = shop.events("customer.subscription.updated")[0].data.object
    assert ending.cancel_at_period_end is False and ending.cancel_at == ending["items"].data[0].current_period_end, "as the portal ends it"
    for word, status in [("pause", "paused"), ("resume", "active")]:
        stripe_control(f"/subscriptions/{subscription.id}/{word}", {})
        assert shop.events(f"customer.subscription.{word}d")[0].data.object.status == status
    assert api.v1.subscriptions.cancel(subscription.id).status == "canceled"
    assert shop.events("customer.subscription.deleted")[0].data.object.ended_at
    fails(stripe.InvalidRequestError, lambda: api.v1.subscriptions.cancel(subscription.id), http_status=404, code="resource_missing")

    for control, event, status in [("void", "invoice.voided", "void"), ("mark_uncollectible", "invoice.marked_uncollectible", "uncollectible")]:
        given_up = api.v1.subscriptions.create({"customer": customer, "items": [{"price": "price_pro"}]})
        shop.events("customer.subscription.created", "invoice.created", "charge.succeeded", "payment_intent.succeeded", "invoice.paid")
        invoice = stripe_control(f"/subscriptions/{given_up.id}/renew", {"fail": True})["invoice"]["id"]
        shop.events(
            "invoice.created", "customer.subscription.updated", "charge.failed", "payment_intent.payment_failed", "invoice.payment_failed",
            "customer.subscription.updated")
        stripe_control(f"/invoices/{invoice}/{control}", {})
        assert shop.events(event)[0].data.object.status == api.v1.invoices.retrieve(invoice).status == status
        api.v1.subscriptions.cancel(given_up.id)
        shop.events("customer.subscription.deleted")

    product = api.v1.products.create({"name": "Newsletter"})
    add_on = api.v1.prices.create({"product": product.id, "currency": "usd", "unit_amount": 500, "recurring": {"interval": "month"}})
    shop.events("product.created", "price.created")
    both = stripe_control(f"/customers/{customer}/subscribe", {"price": "price_pro", "add_on": add_on.id})
    *_, paid = shop.events(
        "customer.subscription.created", "invoice.created", "charge.succeeded", "payment_intent.succeeded", "invoice.paid")
    assert [line.pricing.price_details.price for line in paid.data.object.lines.data] == [add_on.id, "price_pro"]
    assert paid.data.object.total == 3500
    api.v1.subscriptions.cancel(both["id"])
    shop.events("customer.subscription.deleted")

    other = api.v1.subscriptions.create({"customer": customer, "items": [{"price": "price_pro"}]})
    *_, paid = shop.events(
        "customer.subscription.created", "invoice.created", "charge.succeeded", "payment_intent.succeeded", "invoice.paid")
    charge = api.v1.invoices.retrieve(paid.data.object.id, {"expand": ["payments.data.payment.payment_intent"]}).payments.data[0]
    dispute = stripe_control(f"/payment_intents/{charge.payment.payment_intent.id}/dispute", {"reason": "product_not_received"})
    opened = shop.events("charge.dispute.created", "charge.dispute.funds_withdrawn")[0].data.object
    assert (opened.id, opened.amount, opened.reason, opened.payment_intent) == (
        dispute["id"], 3000, "product_not_received", charge.payment.payment_intent.id)
    stripe_control(f"/disputes/{dispute['id']}/close", {"won": True})
    decided = shop.events("charge.dispute.funds_reinstated", "charge.dispute.closed")[1].data.object
    assert decided.status == "won" and sum(moved.amount for moved in decided.balance_transactions) == 0
    for case_type, status in [("block", "prevented"), ("inquiry", "warning_needs_response")]:
        stripe_control(f"/payment_intents/{charge.payment.payment_intent.id}/dispute", {"case_type": case_type})
        harmless = shop.events("charge.dispute.created")[0].data.object
        assert (harmless.status, harmless.payment_method_details.card.case_type, harmless.balance_transactions) == (status, case_type, [])
    assert [found.id for found in api.v1.subscriptions.list({"customer": customer}).data] == [other.id]


def check_errors(api: stripe.StripeClient) -> None:
    fails(stripe.AuthenticationError, lambda: client("sk_wrong").v1.customers.list(), http_status=401)
    fails(stripe.InvalidRequestError, lambda: api.v1.customers.retrieve("cus_none"), http_status=404, code="resource_missing", param="id")
    fails(stripe.InvalidRequestError, lambda: api.v1.customers.create({"luck": "1"}), code="parameter_unknown", param="luck")
    old = {"stripe_version": "2024-06-20"}
    fails(stripe.InvalidRequestError, lambda: api.v1.customers.list(options=old), http_status=400)

    key = {"idempotency_key": str(uuid.uuid4())}
    first = api.v1.customers.create({"email": "once@example.com"}, key)
    twice = api.v1.customers.create({"email": "once@example.com"}, key)
    assert twice.id == first.id and twice.last_response.headers["idempotent-replayed"] == "true"
    assert twice.last_response.body == first.last_response.body
    fails(stripe.IdempotencyError, lambda: api.v1.customers.create({"email": "other@example.com"}, key), http_status=400)
    key = {"idempotency_key": str(uuid.uuid4())}
    fails(stripe.InvalidRequestError, lambda: api.v1.customers.create({"email": "nonsense"}, key), param="email")
    assert api.v1.customers.create({"email": "sense@example.com"}, key).email == "sense@example.com", "an error leaves the key unused"

    fault("stripe", "hang", seconds=1, op="customers")
    key = {"idempotency_key": str(uuid.uuid4())}
    slow = threading.Thread(target=lambda: api.v1.customers.create({"email": "slow@example.com"}, key))
    slow.start()
    time.sleep(0.4)
    busy = fails(stripe.APIError, lambda: api.v1.customers.create({"email": "slow@example.com"}, key), http_status=409)
    assert busy.error.code == "idempotency_key_in_use" and busy.headers["stripe-should-retry"] == "true"
    patient = client(max_network_retries=8)
    patient.v1.customers.create({"email": "slow@example.com"}, key)
    slow.join()
    assert len(api.v1.customers.list({"email": "slow@example.com"}).data) == 1

    for kind in ("disconnect", "truncated_json"):
        email = f"{kind}@example.com"
        fault("stripe", kind, match=kind)
        key = {"idempotency_key": str(uuid.uuid4())}
        try:
            api.v1.customers.create({"email": email}, key)
            raise AssertionError(f"{kind} was accepted")
        except stripe.StripeError:
            pass
        assert api.v1.customers.create({"email": email}, key).last_response.headers["idempotent-replayed"] == "true"
        assert len(api.v1.customers.list({"email": email}).data) == 1
    for status, error in [(402, stripe.CardError), (429, stripe.RateLimitError), (500, stripe.APIError)]:
        fault("stripe", "status", status=status, op="customers")
        fails(error, lambda: api.v1.customers.list(), http_status=status)

    control("POST", "/credentials", {"stripe": "sk_test_next"})
    fails(stripe.AuthenticationError, lambda: api.v1.customers.list())
    assert client("sk_test_next").v1.customers.list({"limit": 1}).data
    control("POST", "/credentials", {"stripe": KEY})


def check_delivery(api: stripe.StripeClient, shop: Shop) -> None:
    shop.rejections = 2
    customer = api.v1.customers.create({"email": "retried@example.com"})
    event = shop.events("customer.created")[0]
    assert (event.data.object.id, event.request.idempotency_key is not None) == (customer.id, True)
    assert [attempt["status"] for attempt in stripe_control(f"/deliveries?event={event.id}")][:2] == [503, 503]

    stripe_control("/pause", {"match": "held@example.com"})
    held = api.v1.customers.create({"email": "held@example.com"})
    api.v1.customers.create({"email": "free@example.com"})
    assert shop.events("customer.created")[0].data.object.email == "free@example.com"
    waiting = stripe_control(f"/events?object={held.id}")[0]
    assert stripe_control(f"/events/{waiting['id']}/deliver", {"times": 3, "concurrent": True})["statuses"] == [200] * 3
    assert {event.id for event in shop.events(*["customer.created"] * 3)} == {waiting["id"]}
    assert stripe_control("/resume", {"match": "held@example.com", "send_held": True}) == {"released": 1}
    shop.events("customer.created")

    for request, accepted in [
        ({"timestamp": int(time.time()) - 290}, True), ({"timestamp": int(time.time()) - 301}, False), ({"secret": "whsec_other"}, False),
        ({"extra_v1": ["0" * 64]}, True),
    ]:
        stripe_control(f"/events/{waiting['id']}/deliver", request)
        body, signature = shop.got.get(timeout=10)
        if accepted:
            stripe.Webhook.construct_event(body, signature, SECRET)
        else:
            fails(stripe.SignatureVerificationError, lambda: stripe.Webhook.construct_event(body, signature, SECRET))
    header = stripe_control("/sign", {"body": '{"object":"event","id":"evt_own"}', "secret": "whsec_own"})["header"]
    assert stripe.Webhook.construct_event('{"object":"event","id":"evt_own"}', header, "whsec_own").id == "evt_own"
    stripe_control("/endpoint", {"url": None})
    assert stripe_control(f"/events/{waiting['id']}/deliver", {"url": "http://127.0.0.1:1/"})["statuses"] == [None]


def check_stripe() -> None:
    assert stripe.api_version == "2026-10-28.endive"
    api, shop = client(), Shop()
    customer = check_customers_and_prices(api)
    stripe_control("/endpoint", {"url": f"http://127.0.0.1:{shop.server.server_port}/hook"})
    check_checkout(api, shop, customer)
    check_subscriptions(api, shop, customer)
    check_delivery(api, shop)
    check_errors(api)
    for event in stripe_control("/events"):
        assert_declared(event)
        assert_declared(event["data"]["object"])
    shop.server.shutdown()
