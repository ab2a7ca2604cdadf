"""
PyPI's websockets and websocket-client against a running peer with the WebSocket path /nano: other implementations of the protocol below,
with compression offered, pings, fragments and several packets in a frame.
usage: python websockets_client.py <port>
"""

import websocket
from websockets.sync.client import connect

from support import HEARTBEAT, Packets, behaves, port

url = f"ws://127.0.0.1:{port()}/nano"


def receive_within(receive, late):
    def within(seconds):
        try:
            return receive(max(seconds, 0.001))
        except late:
            return None

    return within


with connect(url) as socket:
    client = Packets(socket.send, receive_within(lambda seconds: socket.recv(seconds), TimeoutError))
    assert socket.ping().wait(5), "no pong"
    # A fragment for each byte, and two packets in one frame.
    beat = bytes([HEARTBEAT, 0, 0, 0])
    socket.send(iter([beat[:1], beat[1:3], beat[3:]]))
    socket.send(beat + beat)
    behaves(client)
print("ok: websockets")

socket = websocket.create_connection(url, enable_multithread=False)


def receive(seconds):
    socket.settimeout(seconds)
    return socket.recv()


client = Packets(lambda bytes: socket.send(bytes, websocket.ABNF.OPCODE_BINARY), receive_within(receive, websocket.WebSocketTimeoutException))
socket.ping(b"are you there?")
# Text frames are bytes like others.
socket.send(beat.decode(), websocket.ABNF.OPCODE_TEXT)
behaves(client)
print("ok: websocket-client")
