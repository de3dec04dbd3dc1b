"""What a worker says to bunpilot. Standard library only; Python 3.8 and later.

    import bunpilot_worker as bunpilot

    server = serve()                         # your own
    bunpilot.on_shutdown(server.shutdown)    # a function or a coroutine function
    bunpilot.ready()

Works with threads and with asyncio. In a process that bunpilot did not start every function does
nothing. A process made by fork() is not the worker: it is silent, too.
"""

import asyncio
import concurrent.futures
import inspect
import json
import os
import resource
import signal
import socket
import sys
import threading
import time

__all__ = [
    "custom",
    "heartbeat",
    "listen_sockets",
    "on_config_update",
    "on_shutdown",
    "ready",
    "start_metrics",
    "status",
]

#: Sent along with `ready`: this SDK says when it handles `shutdown`.
VERSION = "0.3.0"

_BEGAN = time.monotonic()

#: How long the main thread may take to return once the shutdown handlers are done, in seconds.
_GRACE = 0.2

#: How long it may take once it was told to exit.
_PATIENCE = 5.0


class _Channel:
    """JSON, one message a line, over the socket that NODE_CHANNEL_FD names."""

    def __init__(self, fd):
        os.set_inheritable(fd, False)
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._lock = threading.Lock()

    def send(self, message):
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        try:
            with self._lock:  # whole lines only
                self._socket.sendall(line)
        except OSError:
            pass  # a lost manager is no reason to fail

    def messages(self):
        """Yields what the manager says until it hangs up."""
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    try:
                        message = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(message, dict):
                        yield message
        except OSError:
            pass


def _take_channel():
    """The channel, once: a child of ours must not find it in its environment."""
    fd = os.environ.pop("NODE_CHANNEL_FD", "")
    os.environ.pop("NODE_CHANNEL_SERIALIZATION_MODE", None)
    if not fd.isdigit():
        return None
    try:
        return _Channel(int(fd))
    except OSError:
        return None


_managed = "BUNPILOT_WORKER_ID" in os.environ
_channel = _take_channel() if _managed else None
_notify_socket = os.environ.get("NOTIFY_SOCKET") if _managed else None
_pid = os.getpid()


def _send(message):
    if _channel is not None and os.getpid() == _pid:
        _channel.send(message)


def _notify(text):
    """Sends one datagram as sd_notify(3) does."""
    if not _notify_socket or os.getpid() != _pid:
        return
    address = "\0" + _notify_socket[1:] if _notify_socket[0] == "@" else _notify_socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.sendto(text.encode(), address)
    except OSError:
        pass


def ready():
    """Tells the manager that this worker serves."""
    _listen()
    _send({"type": "ready", "sdk": VERSION})
    _notify("READY=1")


def status(text):
    """Shows `text`, one line, beside this worker."""
    _notify("STATUS=" + text.replace("\n", " "))


def custom(channel, data):
    """Sends `data`, anything JSON can hold, on a channel of your own."""
    _send({"type": "custom", "channel": channel, "data": data})


def listen_sockets():
    """The listening sockets this worker inherits (sd_listen_fds(3)), in order; often none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = os.environ.get("LISTEN_FDS", "")
    fds = range(3, 3 + int(count)) if count.isdigit() else ()
    for fd in fds:
        os.set_inheritable(fd, False)
    return [socket.socket(fileno=os.dup(fd)) for fd in fds]


# --- what the manager says -------------------------------------------------

_listening = threading.Lock()
_config_handlers = []


def _listen():
    if _channel is None or os.getpid() != _pid or not _listening.acquire(blocking=False):
        return
    threading.Thread(target=_read, name="bunpilot", daemon=True).start()


def _read():
    for message in _channel.messages():
        kind = message.get("type")
        if kind == "shutdown":
            _shut_down()
        elif kind == "collect-metrics":
            _report()
        elif kind == "ping":
            _beat()
        elif kind == "config-update":
            for handler in list(_config_handlers):
                handler(message.get("config"))


def on_config_update(handler):
    """Calls `handler`, on a thread of ours, with the app's new configuration."""
    _config_handlers.append(handler)
    _listen()


# --- shutdown --------------------------------------------------------------

_shutdown_handlers = []
_stopping = threading.Event()
_finished = threading.Event()
_failed = False


def on_shutdown(handler):
    """Runs `handler` when the manager, SIGTERM or SIGINT ends this worker; then it exits with 0.

    A handler registered while an asyncio loop runs is run on that loop, any other on a thread of
    ours, so that it may wait for the main thread. If the main thread returns by itself soon after
    the handlers are done, the exit status is its own; otherwise SystemExit is raised in it. If a
    handler fails the exit status is 1. A second SIGINT does not wait.
    """
    if not _managed or os.getpid() != _pid:
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    first = not _shutdown_handlers
    _shutdown_handlers.append((handler, loop))
    if not first:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _signalled)
        signal.signal(signal.SIGINT, _signalled)
    _listen()
    custom("bunpilot", {"handlesShutdown": True})


def _signalled(number, _frame):
    if os.getpid() != _pid:
        os._exit(128 + number)
    if _finished.is_set():
        if threading.main_thread().is_alive():
            sys.exit(1 if _failed else 0)
    elif not _stopping.is_set():
        threading.Thread(target=_shut_down, name="bunpilot-shutdown", daemon=True).start()
    elif number == signal.SIGINT:
        os._exit(130)


def _shut_down():
    """Runs the handlers, then sees to it that the process ends."""
    global _failed
    if not _shutdown_handlers or _stopping.is_set():
        return
    _stopping.set()
    custom("bunpilot", {"stopping": True})
    _notify("STOPPING=1")
    for handler, loop in list(_shutdown_handlers):
        try:
            _run(handler, loop)
        except BaseException as error:  # whatever it is, the others still get their turn
            _failed = _failed or not isinstance(error, SystemExit)
            sys.excepthook(type(error), error, error.__traceback__)
    _finished.set()
    _end()


def _run(handler, loop):
    if loop is not None and loop.is_running():
        try:
            asyncio.run_coroutine_threadsafe(_called(handler), loop).result()
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            pass  # the loop ended first: the main thread is on its way out
    else:
        result = handler()
        if inspect.isawaitable(result):
            asyncio.run(_awaited(result))


async def _called(handler):
    result = handler()
    if inspect.isawaitable(result):
        await result


async def _awaited(awaitable):
    await awaitable


def _end():
    """Lets the main thread return, then asks it to, then does not wait any longer."""
    main = threading.main_thread()
    main.join(_GRACE)
    if main.is_alive() and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        os.kill(os.getpid(), signal.SIGTERM)
        main.join(_PATIENCE)
    if main.is_alive():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        os._exit(1 if _failed else 0)


# --- measurements and heartbeat --------------------------------------------


def start_metrics(interval=5.0):
    """Reports memory and CPU time every `interval` seconds."""
    _every("metrics", interval, _report)


def heartbeat(interval=10.0):
    """Says every `interval` seconds that this worker is alive.

    Called while an asyncio loop runs, it speaks for that loop: once the loop hangs, so does the
    heartbeat, and the worker is replaced. Otherwise it speaks for the process.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    beat = _beat if loop is None else lambda: loop.call_soon_threadsafe(_beat)
    _beat()
    _every("heartbeat", interval, beat)


_timers = {}


def _every(name, interval, action):
    """Runs `action` on a thread of its own; a second call takes the place of the first."""
    if not _managed or os.getpid() != _pid:
        return
    _listen()
    done = threading.Event()
    _timers.pop(name, threading.Event()).set()
    _timers[name] = done

    def run():
        while not done.wait(interval):
            try:
                action()
            except RuntimeError:
                return  # its loop is closed

    threading.Thread(target=run, name="bunpilot-" + name, daemon=True).start()


def _beat():
    _send({"type": "heartbeat", "uptime": time.monotonic() - _BEGAN})
    _notify("WATCHDOG=1")


def _report():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = {"user": int(usage.ru_utime * 1e6), "system": int(usage.ru_stime * 1e6)}
    _send({"type": "metrics", "payload": {"memory": {"rss": _rss_bytes(usage)}, "cpu": cpu}})


def _rss_bytes(usage):
    """What is resident now; where the system does not tell, the most that ever was."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
