"""Requests to the control API of the sandbox that is checked."""

import json
import sys
import urllib.request

BASE = sys.argv[1].rstrip("/")


def control(method: str, path: str, body: dict | None = None):
    """Sends a request to the control API and returns its response."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{BASE}/_control{path}", data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def fault(vendor: str, kind: str, times: int = 1, op: str | None = None, match: str | None = None, **more) -> int:
    """Injects a fault and returns its id."""
    rule = {"vendor": vendor, "fault": {"kind": kind, **more}, "times": times, "op": op, "match": match}
    return control("POST", "/faults", {name: value for name, value in rule.items() if value is not None})["id"]


def fails(kind: type[Exception], call, **attributes) -> Exception:
    """Asserts that the call raises an exception of exactly this class with these attributes, and returns it."""
    try:
        result = call()
    except Exception as error:
        assert type(error) is kind, f"expected {kind.__name__}, got {error!r}"
        for name, value in attributes.items():
            assert getattr(error, name) == value, f"{name} of {error!r} is {getattr(error, name)!r}, not {value!r}"
        return error
    raise AssertionError(f"expected {kind.__name__}, got {result!r}")
