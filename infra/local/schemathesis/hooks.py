"""Extends Schemathesis with two tenants, for `cargo local schemathesis`.

One tenant sends the requests. Many of them contain ids of the other tenant, whose rows contain words that no response may contain.
TENANTS is the file with both tenants; COUNTS is the file for the counts of the run.
"""

import atexit
import hashlib
import itertools
import json
import os
import threading
from collections import Counter

import schemathesis

with open(os.environ["TENANTS"], encoding="utf-8") as file:
    TENANTS = json.load(file)
OWN, OTHER = TENANTS["own"], TENANTS["other"]

# The parameters and fields with an id, and the kind of the id.
IDS = {"runId": "runs", "leadId": "leads", "profileId": "profiles", "batchId": "batches", "businessProfileId": "profiles"}

lock = threading.Lock()
counts = Counter()


def chance(*parts):
    """Returns a number from 0 to 99 that depends only on the generated input, so that shrinking and repeating find the same case."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100


def picked(ids, value):
    return ids[chance("which", value) % len(ids)]


def replaced(name, value):
    """Returns the generated id, one of the caller's tenant, or one of the other tenant."""
    kind = IDS[name]
    drawn = chance(name, value)
    if drawn < 40:
        return picked(OTHER[kind], value)
    if drawn < 80:
        return picked(OWN[kind], value)
    return value


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    return {name: replaced(name, value) if name in IDS else value for name, value in (path_parameters or {}).items()}


@schemathesis.hook
def map_query(context, query):
    return {name: replaced(name, value) if name in IDS else value for name, value in query.items()} if query else query


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict):
        return {name: replaced(name, value) if name in IDS else value for name, value in body.items()}
    return body


@schemathesis.hook
def map_headers(context, headers):
    headers = dict(headers or {})
    if "X-Account-Id" in headers:
        drawn = chance("account", headers["X-Account-Id"])
        if drawn < 60:
            del headers["X-Account-Id"]
        elif drawn < 80:
            headers["X-Account-Id"] = picked(OTHER["accounts"], headers["X-Account-Id"])
    return headers


tokens = itertools.cycle(OWN["tokens"])


@schemathesis.auth(refresh_interval=None)
class Owner:
    """Uses the tokens of the tenant's users in turn, because the rate limits apply to each user."""

    def get(self, case, context):
        with lock:
            return next(tokens)

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def after_call(context, case, response):
    with lock:
        counts[str(response.status_code)] += 1


def request_text(request):
    body = request.body or b""
    body = body if isinstance(body, bytes) else str(body).encode()
    return f"{request.url} {dict(request.headers)} {body.decode('utf-8', errors='replace')}"


@schemathesis.check
def no_data_of_the_other_tenant(context, response, case):
    text = response.content.decode("utf-8", errors="replace")
    words = list(OTHER["words"])
    # An error may repeat an id of the request.
    request = request_text(response.request) if response.status_code >= 400 else ""
    for kind in {*IDS.values(), "accounts"}:
        words.extend(word for word in OTHER[kind] if word not in request)
    for word in words:
        if word in text:
            raise AssertionError(f"the response to {OWN['name']} contains {word!r} of {OTHER['name']}")


@atexit.register
def write_counts():
    with open(os.environ["COUNTS"], "w", encoding="utf-8") as file:
        json.dump(counts, file)
