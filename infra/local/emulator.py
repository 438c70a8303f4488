"""Starts MiniStack with changes to how it runs Lambda functions.

Idle execution environments sleep. In MiniStack each of them has threads that poll ten times a second, also while it serves no invocation. After
a burst there are more than a thousand such threads; until their environments are removed, they keep the interpreter busy, and requests wait for a
minute and time out.

Invocations and executions start and end without fixed delays: 150 ms before the first state of an execution, 5 to 50 ms after each invocation to
wait for log lines, and 40 ms before each event.

A function's lines in a shared log group are in streams with its name, as on AWS.

A web page that is open on this machine cannot reach it: requests that name another host, or that come from a page, are refused. Only the routes
of the API itself accept pages, since front ends call them. Other requests are signed with the key of this start or of a function's role: MiniStack
itself takes the key `test`, any account's number and no key at all for the root user's.

`/_oslira/requests` returns how many requests of each kind were received, by which the benchmark computes what a run would cost on AWS.
"""

import json
import os
import pathlib
import queue
import re
import select
import shutil
import socket
import socketserver
import subprocess
import threading
import time
import types
import uuid
from collections import Counter
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from ministack.core import lambda_runtime
from ministack.services import cloudwatch_logs, lambda_svc, stepfunctions, sts

# Seconds after which an idle thread checks for its end by itself.
IDLE = 5.0
# Seconds that MiniStack waits before the first state of an execution. (State machines wait whole seconds.)
START_DELAY = 0.15


class Events(queue.Queue):
    """The next event of an environment. A new event wakes the thread; the end of the environment is noticed within `IDLE` seconds."""

    def get(self, block=True, timeout=None):
        return super().get(block, timeout and IDLE)


class Environment(lambda_runtime.ProvidedWorker):
    """An execution environment whose output is read without waiting for it.

    A function writes its lines before it sends its response. When the response arrives, all of them are in the pipe or already read.
    """

    output = None

    def _build_handler_class(self, generation, pending):
        """The Runtime API of one environment, which only its own process may call."""

        class Handler(super()._build_handler_class(generation, pending)):
            def parse_request(self):
                if not super().parse_request():
                    return False
                is_page = "origin" in self.headers or self.headers.get("sec-fetch-site", "none") != "none"
                if is_page or not is_local(self.headers.get_all("host", [])):
                    self.send_error(403)
                    return False
                return True

        return Handler

    def _pump_output(self, stream, log_queue):
        output = Output(stream, log_queue)
        self.output = output
        output.pump()

    def _drain_stderr_bounded(self, **waits):
        if self.output is not None:
            self.output.read()
        return self._drain_stderr()


class Output:
    """The output of one process, read by its own thread and by the thread that collects the lines of an invocation."""

    def __init__(self, stream, lines):
        self.stream, self.lines, self.rest = stream, lines, b""
        self.lock = threading.Lock()
        os.set_blocking(stream.fileno(), False)

    def pump(self):
        with self.stream:
            poll = select.poll()
            poll.register(self.stream, select.POLLIN)
            while self.read():
                poll.poll()

    def read(self):
        """Reads what the pipe holds. Returns False at its end."""
        with self.lock:
            try:
                while chunk := os.read(self.stream.fileno(), 65536):
                    *lines, self.rest = (self.rest + chunk).split(b"\n")
                    for line in lines:
                        self.put(line)
            except BlockingIOError:
                return True
            except (OSError, ValueError):
                pass  # closed
            if self.rest:
                self.put(self.rest)
                self.rest = b""
            return False

    def put(self, line):
        # The oldest line makes room: a full queue must not block the process.
        if self.lines.full():
            with suppress(queue.Empty):
                self.lines.get_nowait()
        self.lines.put_nowait(line.decode("utf-8", errors="replace").rstrip("\r"))


serve_forever = socketserver.BaseServer.serve_forever


def serve(self, poll_interval=IDLE):
    serve_forever(self, IDLE)


def shutdown(self):
    """Does what the original does, and wakes the server with a connection."""
    self._BaseServer__shutdown_request = True
    with suppress(OSError):  # The server checks by itself, too.
        socket.create_connection(self.server_address, timeout=1).close()
    self._BaseServer__is_shut_down.wait()


def sleep(seconds):
    if seconds != START_DELAY:
        time.sleep(seconds)


def emit_logs(func, request_id, log_text, error, duration_ms, *, log_source=None):
    """Stores the lines of an invocation. The stream is named as Lambda names those of a shared log group: MiniStack leaves the function out."""
    config = func.get("config") or func
    name, version, size = config["FunctionName"], config.get("Version", "$LATEST"), config.get("MemorySize", 128)
    group_name = (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{name}"
    group, now = cloudwatch_logs._log_groups.get(group_name), int(time.time() * 1000)
    if group is None:
        return  # Roles may not create log groups.
    shared = "" if group_name == f"/aws/lambda/{name}" else name
    stream_name = f"{time.strftime('%Y/%m/%d', time.gmtime(now / 1000))}/{shared}[{version}]{uuid.uuid4().hex}"
    stream = {"events": [], "uploadSequenceToken": "1", "creationTime": now}
    stream |= dict.fromkeys(("firstEventTimestamp", "lastEventTimestamp", "lastIngestionTime"))
    report = f"Duration: {duration_ms} ms\tBilled Duration: {duration_ms} ms\tMemory Size: {size} MB"
    lines = [f"START RequestId: {request_id} Version: {version}", *(log_text or "").splitlines()]
    lines += [f"END RequestId: {request_id}", f"REPORT RequestId: {request_id}\t{report}"]
    cloudwatch_logs._append_log_events(stream, [{"timestamp": now, "message": line, "ingestionTime": now} for line in lines])
    group["streams"][stream_name] = stream


filter_log_events = cloudwatch_logs._filter_log_events


def filter_logs(data):
    """FilterLogEvents with logStreamNamePrefix, which MiniStack ignores."""
    prefix, group = data.get("logStreamNamePrefix"), cloudwatch_logs._log_groups.get(data.get("logGroupName"))
    if prefix and group:
        # No stream at all would mean every stream.
        data["logStreamNames"] = [name for name in list(group["streams"]) if name.startswith(prefix)] or [prefix]
    return filter_log_events(data)


def unprivileged():
    """What starts a function's process without root's rights, or nothing: if the stack was not started by root, as it is in a container, or if other
    accounts cannot reach the stack's directory. Instrumented binaries write their counters to a directory of root's."""
    setpriv, here = shutil.which("setpriv"), pathlib.Path.cwd()
    if os.geteuid() != 0 or "LLVM_PROFILE_FILE" in os.environ or setpriv is None:
        return []
    if not all(path.stat().st_mode & 0o001 for path in (here, *here.parents)):
        return []
    return [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]


def start_function(command, **options):
    return subprocess.Popen([*unprivileged(), *command], **options)


requests = Counter()


def kind_of(scope, body):
    """The kind of a request: service and operation, with the table for DynamoDB."""
    headers = dict(scope["headers"])
    target = headers.get(b"x-amz-target", b"").decode("latin-1")
    if target.startswith("DynamoDB"):
        with suppress(ValueError):
            return f"dynamodb {target.split('.')[1]} {json.loads(body).get('TableName', '')}"
    if target:
        service, _, operation = target.partition(".")
        return f"{service} {operation}"
    credential = headers.get(b"authorization", b"").decode("latin-1").partition("Credential=")[2].split("/")
    return f"{credential[3] if len(credential) > 3 else 'other'} {scope['method']}"


def counted(app):
    async def count(scope, receive, send):
        if scope["type"] != "http":
            return await app(scope, receive, send)
        if scope["path"] == "/_oslira/requests":
            body = json.dumps(requests).encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
            return await send({"type": "http.response.body", "body": body})
        parts = []

        async def record():
            message = await receive()
            parts.append(message.get("body", b""))
            return message

        try:
            await app(scope, record, send)
        finally:
            kind = kind_of(scope, b"".join(parts))
            requests[kind] += 1
            if any(name == b"x-amzn-trace-id" for name, _ in scope["headers"]):
                requests[f"traced {kind}"] += 1

    return count


# The routes of the API. Other paths below the same prefix leave the API: MiniStack answers them as any service, or manages connections.
API = re.compile(r"/_aws/execute-api/[a-z0-9]+/\$default(/(?!@connections).*)?", re.DOTALL)
# What needs no key: these return numbers of this start.
OPEN = ("/_ministack/health", "/_oslira/requests")


def is_local(hosts):
    """Whether these `Host` headers name this machine."""
    try:
        host = urlsplit(f"//{hosts[0]}").hostname if len(hosts) == 1 else None
    except ValueError:
        host = None
    return host is not None and (host in ("127.0.0.1", "localhost", "::1") or host.endswith(".localhost"))


def refusal(method, path, query, headers):
    """Why a request is refused, or None. `headers` are pairs of bytes with names in lower case, as ASGI passes them.

    The `Host` header must name this machine: a page whose own name was bound to 127.0.0.1 after it was loaded is of the same origin for its
    browser, but sends its name. `Origin` comes with every POST of a page, also with one that needs no preflight, and `Sec-Fetch-Site` with a GET
    as well. Tools, SDKs and the functions send neither; a person who enters an address sends `Sec-Fetch-Site: none`.
    """
    values = {}
    for name, value in headers:
        values.setdefault(name, []).append(value.decode("latin-1"))
    hosts = values.get(b"host", [])
    if not is_local(hosts):
        return "this host is not the local stack's"
    # Other hosts select a service by their name, whatever the path; one with dot segments is not the API's.
    if urlsplit(f"//{hosts[0]}").hostname in ("127.0.0.1", "localhost") and API.fullmatch(path) and ".." not in path:
        return None
    if b"origin" in values or any(site != "none" for site in values.get(b"sec-fetch-site", [])):
        return "web pages may call the API only"
    # The address that ends a custom resource contains a token which only the function that is asked receives.
    if path in OPEN or method == "PUT" and path.startswith("/_ministack/cfn-response/"):
        return None
    key = access_key(values.get(b"authorization", []), query)
    # MiniStack's own addresses check nothing. The keys of functions' roles are for AWS's services.
    if key != os.environ["AWS_ACCESS_KEY_ID"] and (path.startswith("/_") or key not in sts._sessions):
        return "the request is not signed with a key of this stack"
    return None


def access_key(authorization, query):
    """The access key that signed a request, or an empty text. It may stand in the query, as in a presigned address."""
    signed = authorization[0].partition("Credential=")[2] if authorization else ""
    signed = signed or parse_qs(query.decode("latin-1")).get("X-Amz-Credential", [""])[0]
    return signed.partition("/")[0].strip()


def is_malformed(headers):
    """Whether a header has a control character. API Gateway refuses such a request; MiniStack passes it on, and no function can read the event."""
    return any(byte < 32 and byte != 9 or byte == 127 for _, value in headers for byte in value)


def guarded(app):
    async def guard(scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await app(scope, receive, send)
        status, reason = 403, refusal(scope.get("method"), scope["path"], scope["query_string"], scope["headers"])
        if reason is None and is_malformed(scope["headers"]):
            status, reason = 400, "Bad Request"
        if reason is None:
            return await app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        body = json.dumps({"message": reason}).encode()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    return guard


lambda_runtime.queue = types.SimpleNamespace(Queue=Events, Empty=queue.Empty, Full=queue.Full)
lambda_runtime.subprocess = types.SimpleNamespace(
    Popen=start_function, PIPE=subprocess.PIPE, STDOUT=subprocess.STDOUT, DEVNULL=subprocess.DEVNULL)
lambda_runtime._PROVIDED_POLL = 0.25
lambda_runtime.ProvidedWorker = Environment
lambda_svc._emit_lambda_logs = emit_logs
cloudwatch_logs._filter_log_events = filter_logs
stepfunctions.time = types.SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=sleep)
socketserver.BaseServer.serve_forever = serve
socketserver.BaseServer.shutdown = shutdown
# MiniStack's Runtime API writes headers and body separately. With Nagle's algorithm and the client's delayed acknowledgement, the body of every
# event waits for 40 ms.
socketserver.StreamRequestHandler.disable_nagle_algorithm = True

if __name__ == "__main__":
    from ministack import app

    app.app = guarded(counted(app.app))
    app.main()
