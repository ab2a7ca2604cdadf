"""
PyPI's pypomelo, as it is but for the socket below it (its own is of a tornado that is gone), against a running peer over TCP.
It does not know `sys.dict`, so no push may be in the dictionary.
usage: python pypomelo_client.py <port>
"""

import json
import select
import socket
import time

from pypomelo.client import Client
from pypomelo.protocol import Protocol

from support import TIMEOUT, behaves, port


class SocketClient(Client):
    """The parts that `pypomelo.client.Client` leaves to its user."""

    def __init__(self):
        super().__init__(self)
        self.interval = None
        self._replies, self._pushes = {}, []
        self._rest = b""
        self._closed = self._connected = False

    def connect(self, host, port):
        self._socket = socket.create_connection((host, port))
        self.send_sync()
        self._wait("handshake", lambda: self._connected)

    def send(self, data):
        self._socket.sendall(data)

    def close(self):
        self._closed = True
        self._socket.close()

    # What it calls.

    def on_connected(self, client, user_data):
        self._connected = True

    def on_heartbeat(self, client):
        self.send_heartbeat()

    def on_push(self, client, route, body):
        self._pushes.append((route, body))

    # What `behaves` calls.

    def send_request(self, route, body):
        id = self.request_id
        super().send_request(route, body, lambda client, route, request, response: self._replies.update({id: response}))
        return id

    def reply(self, id):
        return self._wait(f"reply {id}", lambda: self._replies.pop(id, None))

    def notify(self, route, body):
        self.send_notify(route, body)

    def push(self, route):
        self._wait(f"push {route}", lambda: bool(self._pushes))
        pushed, body = self._pushes.pop(0)
        assert pushed == route, pushed
        return body

    def kicked(self):
        # It closes at a kick and keeps no reason.
        return self._wait("kick", lambda: self._closed)

    def pump(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._step(left)

    def _wait(self, what, condition):
        end = time.monotonic() + TIMEOUT
        while (found := condition()) is None or found is False:
            left = end - time.monotonic()
            assert left > 0, f"{what}: nothing after {TIMEOUT} s"
            self._step(left)
        return found

    def _step(self, seconds):
        if not select.select([self._socket], [], [], seconds)[0]:
            return
        arrived = self._socket.recv(65536)
        assert arrived, "the server closed the connection"
        self._rest += arrived
        while len(self._rest) >= 4 and not self._closed:
            packet = Protocol.unpack(self._rest[:4])
            if len(self._rest) < 4 + packet.length:
                return
            packet.append(self._rest[4 : 4 + packet.length])
            self._rest = self._rest[4 + packet.length :]
            if packet.proto_type == Protocol.PROTO_TYPE_SYC:
                # It keeps nothing of an interval; its users beat when the server does.
                self.interval = json.loads(packet.body())["sys"]["heartbeat"]
            self.on_protocol(packet)


client = SocketClient()
client.connect("127.0.0.1", port())
behaves(client)
print("ok: pypomelo")
