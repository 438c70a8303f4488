"""What `cargo local schemathesis` adds to Schemathesis: two tenants.

The requests are one tenant's. A good part of them carries ids of the other, whose rows hold words that no answer may contain.
TENANTS names the file with both; COUNTS is where the numbers of the run are written.
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
OWN, STRANGER = TENANTS["own"], TENANTS["stranger"]

# Where a path or a body asks for an id, and whose ids fit there.
IDS = {"runId": "runs", "leadId": "leads", "profileId": "profiles", "batchId": "batches", "businessProfileId": "profiles"}

lock = threading.Lock()
counts = Counter()


def chance(*parts):
    """A number from 0 to 99 that follows from the generated input: shrinking and repeating find the same again."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100


def picked(ids, value):
    return ids[chance("which", value) % len(ids)]


def replaced(name, value):
    """The generated id, one of the caller's own, or one of the stranger's."""
    kind = IDS[name]
    drawn = chance(name, value)
    if drawn < 40:
        return picked(STRANGER[kind], value)
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
            headers["X-Account-Id"] = picked(STRANGER["accounts"], headers["X-Account-Id"])
    return headers


tokens = itertools.cycle(OWN["tokens"])


@schemathesis.auth(refresh_interval=None)
class Owner:
    """The tenant's people take turns, as a limit of requests counts each of them."""

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


def asked(request):
    body = request.body or b""
    body = body if isinstance(body, bytes) else str(body).encode()
    return f"{request.url} {dict(request.headers)} {body.decode('utf-8', errors='replace')}"


@schemathesis.check
def nothing_of_a_stranger(context, response, case):
    text = response.content.decode("utf-8", errors="replace")
    words = list(STRANGER["words"])
    # An error may repeat an id that was asked for.
    request = asked(response.request) if response.status_code >= 400 else ""
    for kind in {*IDS.values(), "accounts"}:
        words.extend(word for word in STRANGER[kind] if word not in request)
    for word in words:
        if word in text:
            raise AssertionError(f"the answer to {OWN['name']} holds {word!r}, which is {STRANGER['name']}'s")


@atexit.register
def write_counts():
    with open(os.environ["COUNTS"], "w", encoding="utf-8") as file:
        json.dump(counts, file)
