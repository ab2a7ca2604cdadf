"""What the Python client tests share."""

import json
import struct
import sys
import time

TIMEOUT = 5
HANDSHAKE, ACK, HEARTBEAT, DATA, KICK = 1, 2, 3, 4, 5


def port():
    """The port from the command line."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit(f"usage: {sys.argv[0]} <port of a peer with a heartbeat of 1s or 2s>")
    return int(sys.argv[1])


def behaves(client):
    """
    What every client must manage. `client` has `send_request(route, body)` which returns an id, `reply(id)`, `notify(route, body)`,
    `push(route)`, `kicked()`, `interval` in seconds and `pump(seconds)`, which handles what arrives for that long. Each of the others
    that waits fails after `TIMEOUT`.
    """

    def request(route, body):
        return client.reply(client.send_request(route, body))

    assert request("Echo.Echo", {"hello": "wörld", "list": [1, 2.5, None]}) == {"hello": "wörld", "list": [1, 2.5, None]}
    assert request("T.Typed", {"a": "<&>", "n": 7}) == {"a": "<&>", "n": 7}
    long = "x" * 60_000
    assert request("Echo.Echo", {"long": long}) == {"long": long}
    ids = [client.send_request("T.Typed", {"a": "many", "n": n}) for n in range(100)]
    assert [client.reply(id)["n"] for id in ids] == list(range(100)), "each request gets its own reply"

    client.notify("Echo.Sink", {"into": "nowhere"})
    client.notify("Echo.Push", {"pushed": True})
    assert client.push("onEcho") == {"pushed": True}
    request("Grp.Join", {})
    client.notify("Grp.Send", {"to": "all"})
    assert client.push("onBroadcast") == {"to": "all"}

    assert request("Nope.Nope", {})["code"] == "NANO-404"
    assert request("T.Err", {"a": "", "n": 0}) == {"code": "T-ERR", "msg": "handler says no"}
    assert request("T.Panic", {"a": "", "n": 0})["code"] == "NANO-500"
    assert request("Echo.Echo", {"still": "here"}) == {"still": "here"}

    # A client without heartbeats is closed at the third interval. Waiting is the test.
    assert 0.5 <= client.interval <= 5, client.interval
    client.pump(4.2 * client.interval)
    assert request("Echo.Echo", {"alive": True}) == {"alive": True}

    client.notify("T.Kick", {"another": "login"})
    assert client.kicked()


class Packets:
    """
    Pomelo's packets over WebSocket frames, for libraries that know nothing of them. `send(bytes)` sends a frame; `receive(seconds)`
    returns the next one, or None when none came.
    """

    def __init__(self, send, receive):
        self._send, self._receive = send, receive
        self._rest = b""
        self._last_id = 0
        self._replies, self._pushes = {}, []
        self._kicked = False
        self.interval = None
        self._codes, self._routes = {}, {}
        self._packet(HANDSHAKE, json.dumps({"sys": {"type": "python", "version": "1"}, "user": {}}).encode())
        self._wait("handshake", lambda: self.interval)

    def send_request(self, route, body):
        self._last_id += 1
        id, head = self._last_id, b"\x00"
        while id > 127:
            head += bytes([id & 127 | 128])
            id >>= 7
        self._message(head + bytes([id]), route, body)
        return self._last_id

    def reply(self, id):
        return self._wait(f"reply {id}", lambda: self._replies.pop(id, None))

    def notify(self, route, body):
        self._message(b"\x02", route, body)

    def push(self, route):
        def find():
            for at, (pushed, body) in enumerate(self._pushes):
                if pushed == route:
                    del self._pushes[at]
                    return body

        return self._wait(f"push {route}", find)

    def kicked(self):
        return self._wait("kick", lambda: self._kicked)

    def pump(self, seconds):
        end = time.monotonic() + seconds
        beat = time.monotonic()
        while (now := time.monotonic()) < end:
            if now >= beat:
                self._packet(HEARTBEAT, b"")
                beat = now + self.interval
            self._step(min(beat, end) - now)

    def _wait(self, what, condition):
        end = time.monotonic() + TIMEOUT
        while (found := condition()) is None or found is False:
            left = end - time.monotonic()
            assert left > 0, f"{what}: nothing after {TIMEOUT} s"
            self._step(left)
        return found

    def _packet(self, type, body):
        self._send(bytes([type]) + len(body).to_bytes(3, "big") + body)

    def _message(self, head, route, body):
        code = self._codes.get(route)
        if code is None:
            head += bytes([len(route)]) + route.encode()
        else:
            head = bytes([head[0] | 1]) + head[1:] + struct.pack(">H", code)
        self._packet(DATA, head + json.dumps(body).encode())

    def _step(self, seconds):
        frame = self._receive(max(seconds, 0))
        if frame is None:
            return
        self._rest += frame
        while len(self._rest) >= 4 and len(self._rest) >= (end := 4 + int.from_bytes(self._rest[1:4], "big")):
            type, body, self._rest = self._rest[0], self._rest[4:end], self._rest[end:]
            if type == HANDSHAKE:
                sys = json.loads(body)["sys"]
                self._codes = sys.get("dict", {})
                self._routes = {code: route for route, code in self._codes.items()}
                self.interval = sys["heartbeat"]
                self._packet(ACK, b"")
            elif type == DATA:
                self._data(body)
            elif type == KICK:
                self._kicked = json.loads(body)["reason"] != ""

    def _data(self, body):
        flag, at = body[0], 1
        assert not flag & 0x20, "this client did not say that it knows the error bit"
        if flag >> 1 & 7 == 2:
            id = shift = 0
            while True:
                id |= (body[at] & 127) << shift
                at, shift = at + 1, shift + 7
                if body[at - 1] < 128:
                    break
            self._replies[id] = json.loads(body[at:])
        elif flag & 1:
            self._pushes.append((self._routes[struct.unpack(">H", body[1:3])[0]], json.loads(body[3:])))
        else:
            end = 2 + body[1]
            self._pushes.append((body[2:end].decode(), json.loads(body[end:])))
