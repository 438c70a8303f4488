"""Holds JSON to the types that the official SDK declares for its pinned API version."""

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
    """What about the value is not as the type says: fields unknown or missing, null or of another type."""
    if isinstance(kind, str):
        kind = typing.ForwardRef(kind)
    if isinstance(kind, typing.ForwardRef):
        # Kinds that are not exported at the top appear here by their ids only.
        if not isinstance(value, dict) or not hasattr(stripe, kind.__forward_arg__):
            return [f"{path}: {value!r} is no {kind.__forward_arg__}"]
        kind = getattr(stripe, kind.__forward_arg__)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is typing.Any or kind is UntypedStripeObject or origin is UntypedStripeObject:
        return []
    if origin is typing.Union:
        findings = [wrong(value, argument, path) for argument in arguments]
        # Of an object, the findings inside the type of that name are worth telling.
        return min(findings, key=len) if [] not in findings else []
    if origin is typing.Literal:
        return [] if value in arguments else [f"{path}: {value!r} is none of {arguments}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{path}: {value!r} is no list"]
        return [finding for index, member in enumerate(value) for finding in wrong(member, arguments[0], f"{path}[{index}]")]
    if origin is ListObject:
        if not isinstance(value, dict) or value.get("object") != "list":
            return [f"{path}: {value!r} is no list object"]
        return [finding for index, member in enumerate(value["data"]) for finding in wrong(member, arguments[0], f"{path}[{index}]")]
    if isinstance(kind, type) and issubclass(kind, StripeObject):
        return wrong_object(value, kind, path) if isinstance(value, dict) else [f"{path}: {value!r} is no object"]
    if kind is decimal.Decimal:
        return [] if isinstance(value, str) else [f"{path}: {value!r} is no decimal text"]
    fits = type(value) is kind or (kind is float and type(value) is int)
    return [] if fits else [f"{path}: {value!r} is no {kind.__name__}"]


def wrong_object(value: dict, kind: type, path: str) -> list[str]:
    """The same for an object and all of its fields."""
    fields = {name: declared for name, declared in kind.__annotations__.items() if not str(declared).startswith("typing.ClassVar")}
    findings = [f"{path}.{name}: there is no such field" for name in value if name not in fields]
    for name, declared in fields.items():
        if name in value:
            findings += wrong(value[name], declared, f"{path}.{name}")
        elif type(None) not in typing.get_args(declared):
            findings.append(f"{path}.{name}: is missing")
    return findings


def sound(value: dict) -> None:
    """Fails unless the object is as the SDK declares its kind."""
    findings = wrong(value, OBJECTS[value["object"]], value["object"])
    assert not findings, "\n".join(findings)
