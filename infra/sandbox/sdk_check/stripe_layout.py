"""Compares JSON with the types that the official SDK declares for its pinned API version."""

import decimal
import typing

import stripe
from stripe._list_object import ListObject
from stripe._stripe_object import StripeObject, UntypedStripeObject

OBJECTS = {
    kind.OBJECT_NAME: kind
    for kind in (
        stripe.BalanceTransaction, stripe.Charge, stripe.Customer, stripe.Dispute, stripe.Event, stripe.Invoice, stripe.InvoiceLineItem,
        stripe.InvoicePayment, stripe.LineItem, stripe.PaymentIntent, stripe.Plan, stripe.Price, stripe.Product, stripe.Refund,
        stripe.Subscription, stripe.SubscriptionItem, stripe.checkout.Session,
    )
}


def wrong(value, kind, path: str) -> list[str]:
    """Returns the differences between a value and a type: unknown, missing, null and mistyped fields."""
    if isinstance(kind, str):
        kind = typing.ForwardRef(kind)
    if isinstance(kind, typing.ForwardRef):
        # The sandbox has only ids of the kinds that the SDK does not export at its top level.
        if not isinstance(value, dict) or not hasattr(stripe, kind.__forward_arg__):
            return [f"{path}: {value!r} is not a {kind.__forward_arg__}"]
        kind = getattr(stripe, kind.__forward_arg__)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is typing.Any or kind is UntypedStripeObject or origin is UntypedStripeObject:
        return []
    if origin is typing.Union:
        findings = [wrong(value, argument, path) for argument in arguments]
        # The shortest list belongs to the type that the value most likely is.
        return min(findings, key=len) if [] not in findings else []
    if origin is typing.Literal:
        return [] if value in arguments else [f"{path}: {value!r} is none of {arguments}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{path}: {value!r} is not a list"]
        return [finding for index, member in enumerate(value) for finding in wrong(member, arguments[0], f"{path}[{index}]")]
    if origin is ListObject:
        if not isinstance(value, dict) or value.get("object") != "list":
            return [f"{path}: {value!r} is not a list object"]
        return [finding for index, member in enumerate(value["data"]) for finding in wrong(member, arguments[0], f"{path}[{index}]")]
    if isinstance(kind, type) and issubclass(kind, StripeObject):
        return wrong_object(value, kind, path) if isinstance(value, dict) else [f"{path}: {value!r} is not an object"]
    if kind is decimal.Decimal:
        return [] if isinstance(value, str) else [f"{path}: {value!r} is not a decimal text"]
    fits = type(value) is kind or (kind is float and type(value) is int)
    return [] if fits else [f"{path}: {value!r} is not a {kind.__name__}"]


def wrong_object(value: dict, kind: type, path: str) -> list[str]:
    """Returns the differences between an object and its type, for all of its fields."""
    fields = {name: declared for name, declared in kind.__annotations__.items() if not str(declared).startswith("typing.ClassVar")}
    findings = [f"{path}.{name}: is not a field" for name in value if name not in fields]
    for name, declared in fields.items():
        if name in value:
            findings += wrong(value[name], declared, f"{path}.{name}")
        elif type(None) not in typing.get_args(declared):
            findings.append(f"{path}.{name}: is missing")
    return findings


def assert_declared(value: dict) -> None:
    """Asserts that an object has the type that the SDK declares for its kind."""
    findings = wrong(value, OBJECTS[value["object"]], value["object"])
    assert not findings, "\n".join(findings)
