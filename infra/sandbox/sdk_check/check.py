"""Runs the vendors' official Python SDKs against a sandbox.

    python check.py http://127.0.0.1:PORT

Every assertion concerns something that the SDK, not this script, parsed. Exits with status 0 and one line if all hold.
"""

import datetime
import json
import logging
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

import anthropic
import apify_client
import apify_client.errors
import jwt
import openai
import pydantic
import supabase_auth
import supabase_auth.errors

from controls import BASE, control, fails, fault
from stripe_check import check_stripe

AUTH = BASE + "/supabase/auth/v1"
USER = str(uuid.uuid4())


def token(**claims) -> str:
    """Returns an access token."""
    return control("POST", "/token", {"sub": USER, **claims})["access_token"]


class Traits(pydantic.BaseModel):
    openness: int
    warmth: int | None


class Assessment(pydantic.BaseModel):
    overall_score: int
    confidence_level: float
    summary_text: str
    key_strengths: list[str]
    recommended_action: str
    traits: Traits


def assert_plausible(found: Assessment | None) -> None:
    """Asserts that an answer exists and is within its bounds."""
    assert found is not None
    assert 0 <= found.overall_score <= 100 and 0 <= found.confidence_level <= 1, found
    assert 3 <= len(found.key_strengths) <= 5 and len(found.summary_text) > 60, found


def check_openai() -> None:
    client = openai.OpenAI(api_key="sk-sandbox-openai", base_url=BASE + "/openai/v1", max_retries=0)
    assert "gpt-6-luna" in [model.id for model in client.models.list()]
    assert client.models.retrieve("gpt-6.1-sol").id == "gpt-6.1-sol"
    business = "We sell scheduling software to small studios. " * 150

    def question(text: str = "Assess @maya_moves", **more):
        return client.responses.parse(
            model="gpt-6-luna", instructions=business, input=text, text_format=Assessment, prompt_cache_key="business-1",
            safety_identifier="u1", store=False, **{"max_output_tokens": 4000, "reasoning": {"effort": "low"}, **more},
        )

    first, second = question(), question("Assess @jonas.lifts")
    assert_plausible(first.output_parsed)
    assert first.status == "completed" and first.output[0].type == "reasoning" and first.id.startswith("resp_")
    assert first.usage.input_tokens_details.cached_tokens == 0 and second.usage.input_tokens_details.cached_tokens >= 1024
    assert first.usage.input_tokens_details.cache_write_tokens >= 1024
    assert first.usage.output_tokens > first.usage.output_tokens_details.reasoning_tokens > 0
    assert first.usage.total_tokens == first.usage.input_tokens + first.usage.output_tokens
    assert question().output_parsed == first.output_parsed, "the same question has the same answer"
    assert question(reasoning={"effort": "none"}).output[0].type == "message"

    cut = client.responses.create(model="gpt-6-luna", input="Assess @maya_moves", max_output_tokens=16)
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens" and cut.usage.output_tokens == 16
    fault("openai", "max_tokens")
    cut = client.responses.create(
        model="gpt-6-luna", input="x", text={"format": {"type": "json_schema", "name": "a", "strict": True, "schema": {
            "type": "object", "properties": {"summary_text": {"type": "string"}}, "required": ["summary_text"], "additionalProperties": False}}},
        max_output_tokens=900)
    assert cut.status == "incomplete" and cut.usage.output_tokens == 900 and cut.output_text.startswith("{")
    fault("openai", "refusal")
    assert question().output[-1].content[0].type == "refusal"
    fault("openai", "schema_violation")
    fails(pydantic.ValidationError, question)
    fault("openai", "not_json")
    fails(pydantic.ValidationError, question)

    fault("openai", "status", status=429, retry_after=7)
    error = fails(openai.RateLimitError, question, code="rate_limit_exceeded")
    assert error.response.headers["retry-after"] == "7" and error.response.headers["x-request-id"]
    fault("openai", "status", status=429, error_type="insufficient_quota")
    fails(openai.RateLimitError, question, type="insufficient_quota", code="credit_balance_exhausted")
    fault("openai", "status", status=503)
    fails(openai.InternalServerError, question, code="server_is_overloaded", status_code=503)
    fault("openai", "status", status=500)
    fails(openai.InternalServerError, question, type="server_error")
    fault("openai", "disconnect")
    fails(openai.APIConnectionError, question)
    fault("openai", "truncated_json")
    try:
        question()
        raise AssertionError("a truncated response was accepted")
    except (json.JSONDecodeError, openai.OpenAIError):
        pass
    fault("openai", "hang", seconds=5)
    fails(openai.APITimeoutError, lambda: client.with_options(timeout=0.4).responses.create(model="gpt-6-luna", input="x"))
    fault("openai", "status", status=500)
    retrying = client.with_options(max_retries=2)
    assert retrying.responses.create(model="gpt-6-luna", input="x").status == "completed", "the SDK retries by itself"

    unauthenticated = openai.OpenAI(api_key="sk-wrong", base_url=BASE + "/openai/v1", max_retries=0)
    fails(openai.AuthenticationError, lambda: unauthenticated.responses.create(model="gpt-6-luna", input="x"), code="invalid_api_key")
    fails(openai.NotFoundError, lambda: client.responses.create(model="gpt-9", input="x"), code="model_not_found")
    fails(openai.BadRequestError, lambda: question(temperature=0.2), param="temperature")
    fails(openai.BadRequestError, lambda: question(reasoning={"effort": "minimal"}), code="unsupported_value")
    fails(openai.BadRequestError, lambda: question(max_output_tokens=1), param="max_output_tokens")
    loose = {"type": "object", "properties": {"a": {"type": "string"}}, "required": []}
    fails(openai.BadRequestError, lambda: client.responses.create(
        model="gpt-6-luna", input="x", text={"format": {"type": "json_schema", "name": "a", "strict": True, "schema": loose}}),
        code="invalid_json_schema", param="text.format")

    chat = client.chat.completions.parse(
        model="gpt-6.1-terra", messages=[{"role": "user", "content": "Assess @maya_moves"}], response_format=Assessment)
    assert_plausible(chat.choices[0].message.parsed)
    assert chat.choices[0].finish_reason == "stop" and chat.usage.completion_tokens_details.reasoning_tokens > 0
    fails(openai.LengthFinishReasonError, lambda: client.chat.completions.parse(
        model="gpt-6-luna", messages=[{"role": "user", "content": "x"}], response_format=Assessment, max_completion_tokens=20))
    fault("openai", "refusal")
    refused = client.chat.completions.parse(model="gpt-6-luna", messages=[{"role": "user", "content": "x"}], response_format=Assessment)
    assert refused.choices[0].message.refusal and refused.choices[0].message.parsed is None


def check_anthropic() -> None:
    client = anthropic.Anthropic(api_key="sk-ant-sandbox", base_url=BASE + "/anthropic", max_retries=0)
    business = "We sell scheduling software to small studios. " * 150

    def question(**more):
        request = {
            "model": "claude-haiku-5-5", "max_tokens": 4000,
            "system": [{"type": "text", "text": business, "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": "Assess @maya_moves"}], **more,
        }
        return client.messages.parse(output_format=Assessment, **request)

    first, second = question(), question(messages=[{"role": "user", "content": "Assess @jonas.lifts"}])
    assert_plausible(first.parsed_output)
    assert first.stop_reason == "end_turn" and first.content[0].type == "thinking" and first._request_id.startswith("req_")
    assert first.usage.cache_creation_input_tokens >= 1024 and first.usage.cache_read_input_tokens == 0
    assert second.usage.cache_read_input_tokens == first.usage.cache_creation_input_tokens and second.usage.cache_creation_input_tokens == 0
    assert first.usage.input_tokens < 100, "only tokens that are neither read from nor written to the cache"
    assert first.usage.cache_creation.ephemeral_5m_input_tokens == first.usage.cache_creation_input_tokens
    hello = {"max_tokens": 900, "messages": [{"role": "user", "content": "Hello"}]}
    fails(anthropic.BadRequestError, lambda: client.messages.create(model="claude-sonnet-5-5", thinking={"type": "disabled"}, **hello))
    plain = client.messages.create(model="claude-haiku-5-5", thinking={"type": "disabled"}, **hello)
    assert plain.content[0].type == "text" and plain.usage.cache_creation_input_tokens == 0
    tool = client.messages.create(model="claude-haiku-5-5", max_tokens=900, messages=[{"role": "user", "content": "Hello"}],
        tools=[{"name": "rate", "description": "Rates.", "input_schema": Traits.model_json_schema()}], tool_choice={"type": "tool", "name": "rate"})
    assert tool.stop_reason == "tool_use" and Traits.model_validate(tool.content[-1].input)

    fault("anthropic", "max_tokens")
    cut = client.messages.create(model="claude-haiku-5-5", max_tokens=700, messages=[{"role": "user", "content": "x"}])
    assert cut.stop_reason == "max_tokens" and cut.usage.output_tokens == 700
    fault("anthropic", "refusal")
    assert client.messages.create(model="claude-haiku-5-5", max_tokens=700, messages=[{"role": "user", "content": "x"}]).stop_reason == "refusal"
    fault("anthropic", "empty")
    assert not [block for block in client.messages.create(
        model="claude-haiku-5-5", max_tokens=700, output_config={"format": {"type": "json_schema", "schema": anthropic.transform_schema(Traits)}},
        messages=[{"role": "user", "content": "x"}]).content if block.type == "text"]
    fault("anthropic", "schema_violation")
    fails(pydantic.ValidationError, question)
    fault("anthropic", "not_json")
    fails(pydantic.ValidationError, question)

    for status, kind, error_type in [
        (529, anthropic._exceptions.OverloadedError, "overloaded_error"),
        (503, anthropic._exceptions.ServiceUnavailableError, "overloaded_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
    ]:
        fault("anthropic", "status", status=status)
        assert fails(kind, question, status_code=status).body["error"]["type"] == error_type
    fault("anthropic", "status", status=429, retry_after=3, code="ramp_limit_exceeded")
    error = fails(anthropic.RampLimitExceededError, question)
    assert error.body["error"]["details"]["error_code"] == "ramp_limit_exceeded" and error.response.headers["retry-after"] == "3"
    fault("anthropic", "disconnect")
    fails(anthropic.APIConnectionError, question)
    fault("anthropic", "hang", seconds=5)
    fails(anthropic.APITimeoutError, lambda: client.with_options(timeout=0.4).messages.create(
        model="claude-haiku-5-5", max_tokens=700, messages=[{"role": "user", "content": "x"}]))

    unauthenticated = anthropic.Anthropic(api_key="sk-ant-wrong", base_url=BASE + "/anthropic", max_retries=0)
    hello = {"max_tokens": 700, "messages": [{"role": "user", "content": "x"}]}
    fails(anthropic.AuthenticationError, lambda: unauthenticated.messages.create(model="claude-haiku-5-5", **hello))
    fails(anthropic.NotFoundError, lambda: client.messages.create(model="claude-0", **hello))
    fails(anthropic.BadRequestError, lambda: client.messages.create(model="claude-haiku-5-5", extra_body={"temperature": 1}, **hello))
    loose = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}, "required": ["a"], "additionalProperties": False}
    fails(anthropic.BadRequestError, lambda: client.messages.create(
        model="claude-haiku-5-5", output_config={"format": {"type": "json_schema", "schema": loose}}, **hello))
    old = client.messages.create(model="claude-haiku-5-5", extra_headers={"anthropic-version": "2023-06-01"}, **hello)
    assert old.type == "message"


def check_apify() -> None:
    client = apify_client.ApifyClient("apify_sandbox_token", api_url=BASE + "/apify", max_retries=0)
    actor = client.actor("apify/instagram-profile-scraper")
    handles = ["Maya_Moves", "missing1", "private_person", "blocked.one", "hugecorp", *(f"creator_number_{n}" for n in range(95))]
    run = actor.call(run_input={"usernames": handles})
    assert run.status == "SUCCEEDED" and run.finished_at and run.meta.origin == "API"
    assert run.usage_total_usd == 0, "the total settles seconds later"
    assert run.charged_event_counts == {"result": 99, "error-result": 1}, run.charged_event_counts
    page = client.dataset(run.default_dataset_id).list_items()
    found = {item["username"]: item for item in page.items}
    assert len(page.items) == page.total == len(handles) and set(found) == {handle.lower() for handle in handles}
    assert [item["username"] for item in page.items] != [handle.lower() for handle in handles], "the items have another order"
    maya = found["maya_moves"]
    assert len(maya["latestPosts"]) == 12 and maya["followersCount"] > 0 and maya["fullName"]
    assert found["missing1"]["error"] == "not_found" and "id" not in found["missing1"]
    assert found["private_person"]["private"] is True and found["private_person"]["latestPosts"] == []
    assert "fullName" not in found["blocked.one"] and "profilePicUrl" not in found["blocked.one"]
    assert isinstance(found["hugecorp"]["followersCount"], str)
    assert len(client.dataset(run.default_dataset_id).list_items(limit=3, offset=98).items) == 2
    assert client.run(run.id).dataset().list_items(fields=["username"], limit=1).items[0].keys() == {"username"}

    for kind, status in [("run_failed", "FAILED"), ("run_timed_out", "TIMED-OUT"), ("run_aborted", "ABORTED")]:
        fault("apify", kind)
        ended = actor.call(run_input={"usernames": ["maya_moves"]}, logger=None)
        assert ended.status == status and ended.exit_code == 91 and not client.dataset(ended.default_dataset_id).list_items().items
    fault("apify", "empty_dataset")
    ended = actor.call(run_input={"usernames": ["maya_moves"]}, logger=None)
    assert ended.status == "SUCCEEDED" and not client.dataset(ended.default_dataset_id).list_items().items
    fault("apify", "blocked")
    ended = actor.call(run_input={"usernames": ["maya_moves"]}, logger=None)
    assert "fullName" not in client.dataset(ended.default_dataset_id).list_items().items[0]

    control("POST", "/latency", {"vendor": "apify", "start_ms": 60_000})
    slow = actor.start(run_input={"usernames": ["slow_person"]})
    assert slow.status in ("READY", "RUNNING")
    began = time.monotonic()
    assert client.run(slow.id).wait_for_finish(wait_duration=datetime.timedelta(seconds=1)).status == "RUNNING"
    threading.Timer(0.5, lambda: client.run(slow.id).abort()).start()
    assert client.run(slow.id).wait_for_finish().status == "ABORTED"
    assert time.monotonic() - began < 5, "an abort ends a wait"
    control("DELETE", "/latency")

    fault("apify", "status", status=429)
    error = fails(apify_client.errors.RateLimitError, lambda: actor.start(run_input={"usernames": ["a"]}))
    assert error.type == "rate-limit-exceeded", error.type
    fault("apify", "status", status=402, op="start")
    assert client.run(run.id).get().status == "SUCCEEDED", "the fault applies to a start"
    try:
        actor.start(run_input={"usernames": ["a"]})
        raise AssertionError("a start beyond the usage limit was accepted")
    except apify_client.errors.ApifyApiError as error:
        assert error.status_code == 402
    unauthenticated = apify_client.ApifyClient("wrong", api_url=BASE + "/apify", max_retries=0)
    try:
        unauthenticated.actor("apify/instagram-profile-scraper").start(run_input={"usernames": ["a"]})
        raise AssertionError("a wrong token was accepted")
    except apify_client.errors.ApifyApiError as error:
        assert error.status_code == 401 and error.type == "user-or-token-not-found"
    fault("apify", "disconnect", op="poll", match="maya_moves", times=3)
    patient = apify_client.ApifyClient("apify_sandbox_token", api_url=BASE + "/apify", max_retries=4)
    assert patient.actor("apify~instagram-profile-scraper").call(run_input={"usernames": ["maya_moves"]}, logger=None).status == "SUCCEEDED"
    assert client.run("none").get() is None


def check_supabase() -> None:
    client = supabase_auth.SyncGoTrueClient(url=AUTH, headers={"apikey": "anon"}, auto_refresh_token=False, persist_session=False)
    keys = jwt.PyJWKClient(AUTH + "/.well-known/jwks.json")
    options = {"issuer": AUTH, "audience": "authenticated"}
    for algorithm in ("ES256", "RS256"):
        access = token(alg=algorithm, email="a@example.com")
        claims = client.get_claims(access)["claims"]
        assert claims["sub"] == USER and claims["email"] == "a@example.com" and claims["aud"] == "authenticated"
        assert jwt.decode(access, keys.get_signing_key_from_jwt(access), [algorithm], **options)["role"] == "authenticated"
    legacy = token(alg="HS256")
    assert client.get_claims(legacy)["claims"]["sub"] == USER and client.get_user(legacy).user.id == USER
    assert jwt.decode(legacy, "sandbox-jwt-secret-at-least-32-characters-long", ["HS256"], **options)["sub"] == USER

    before = token()
    kid = control("POST", "/keys/rotate")["kid"]
    after = token()
    assert jwt.get_unverified_header(after)["kid"] == kid != jwt.get_unverified_header(before)["kid"]
    fresh = jwt.PyJWKClient(AUTH + "/.well-known/jwks.json")
    for access in (before, after):
        assert jwt.decode(access, fresh.get_signing_key_from_jwt(access), ["ES256"], **options)["sub"] == USER

    def decode(access: str):
        return jwt.decode(access, fresh.get_signing_key_from_jwt(access), ["ES256", "RS256"], **options)

    fails(jwt.ExpiredSignatureError, lambda: decode(token(expires_in=-60)))
    fails(jwt.InvalidIssuerError, lambda: decode(token(iss="https://elsewhere.example")))
    fails(jwt.InvalidAudienceError, lambda: decode(token(aud="anon")))
    fails(jwt.ImmatureSignatureError, lambda: decode(token(nbf=int(time.time()) + 600)))
    fails(jwt.PyJWKClientError, lambda: decode(token(kid="unknown")))
    for kind, error in [
        ("wrong_signature", jwt.InvalidSignatureError), ("unknown_kid", jwt.PyJWKClientError), ("hs256_public_key", jwt.InvalidAlgorithmError),
    ]:
        forged = control("POST", "/attack_token", {"sub": USER, "kind": kind})["access_token"]
        fails(error, lambda: decode(forged))
    unsigned = control("POST", "/attack_token", {"sub": USER, "kind": "alg_none"})["access_token"]
    assert jwt.get_unverified_header(unsigned)["alg"] == "none" and unsigned.endswith(".")
    try:
        client.get_user(unsigned)
        raise AssertionError("an unsigned token was accepted")
    except supabase_auth.errors.AuthError:
        pass
    fault("supabase", "status", status=503)
    try:
        urllib.request.urlopen(AUTH + "/.well-known/jwks.json", timeout=5)
        raise AssertionError("a failing key endpoint returned keys")
    except urllib.error.HTTPError as error:
        assert error.code == 503


def check_log() -> None:
    calls = control("GET", "/calls")
    assert [call["id"] for call in calls] == sorted(call["id"] for call in calls)
    assert {call["vendor"] for call in calls} == {"apify", "openai", "anthropic", "supabase", "stripe"}
    bill = control("GET", "/bill")
    assert bill["total_micro_usd"] == sum(call["bill_micro_usd"] for call in calls) == sum(bill["by_vendor"].values()) > 0
    gone = [call for call in calls if call["outcome"] in ("client_gone", "disconnect", "truncated_json")]
    assert {call["outcome"] for call in gone} == {"client_gone", "disconnect", "truncated_json"}
    assert not any(call["delivered"] or call["bill_micro_usd"] for call in gone)
    about = control("GET", "/calls?vendor=openai&match=jonas.lifts")
    assert len(about) == 1 and about[0]["match"] == ["jonas.lifts"] and about[0]["schema"] == "Assessment", about
    with urllib.request.urlopen(f"{BASE}/_control/calls/{about[0]['id']}/body", timeout=5) as response:
        assert "@jonas.lifts" in response.read().decode()
    control("POST", "/reset")
    assert control("GET", "/calls") == [] and control("GET", "/bill")["total_micro_usd"] == 0


def main() -> None:
    logging.disable(logging.WARNING)
    control("POST", "/reset")
    for check in (check_openai, check_anthropic, check_apify, check_supabase, check_stripe, check_log):
        began = time.monotonic()
        check()
        print(f"{check.__name__}: ok, {time.monotonic() - began:.1f} s", file=sys.stderr)
    print("all SDKs accept the sandbox")


if __name__ == "__main__":
    main()
