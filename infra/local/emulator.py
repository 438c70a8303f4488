"""Starts the emulator, with idle Lambda environments that sleep.

Each environment, in use or not, has threads that look ten times a second whether it was ended, and each invocation looks a thousand times a second
whether its function has written another line. After a burst there are more than a thousand such threads, and for as long as the environments are
kept they leave the interpreter to nobody else: requests wait for a minute and time out. Here they wait to be woken instead.
"""

import queue
import socket
import socketserver
import types

from ministack.core import lambda_runtime

# Seconds after which an idle thread looks for itself, should nobody have woken it.
IDLE = 5.0


class Events(queue.Queue):
    """An environment's next event, which comes at once; an end is noticed when the server is shut down, or a little later."""

    def get(self, block=True, timeout=None):
        return super().get(block, timeout and IDLE)


serve_forever = socketserver.BaseServer.serve_forever


def serve(self, poll_interval=IDLE):
    serve_forever(self, IDLE)


def shutdown(self):
    """As the original, but the server is woken by a connection."""
    self._BaseServer__shutdown_request = True
    try:
        socket.create_connection(self.server_address, timeout=1).close()
    except OSError:
        pass  # it looks for itself
    self._BaseServer__is_shut_down.wait()


def drain(self, first_line_wait=0.05, idle_confirm=0.005, hard_cap=0.25):
    """The lines that were written until nothing follows for `idle_confirm` seconds."""
    lines, patience = [], first_line_wait
    try:
        while len(lines) < 10_000:
            lines.append(queue.Queue.get(self._stderr_queue, timeout=patience))
            patience = idle_confirm
    except queue.Empty:
        pass
    return "\n".join(lines)


lambda_runtime.queue = types.SimpleNamespace(Queue=Events, Empty=queue.Empty, Full=queue.Full)
lambda_runtime._PROVIDED_POLL = 0.25
lambda_runtime.ProvidedWorker._drain_stderr_bounded = drain
socketserver.BaseServer.serve_forever = serve
socketserver.BaseServer.shutdown = shutdown
# The Runtime API's server writes headers and body separately. With Nagle's algorithm and the client's delayed acknowledgement, the body of
# every event waits 40 ms.
socketserver.StreamRequestHandler.disable_nagle_algorithm = True

if __name__ == "__main__":
    from ministack.app import main

    main()
