"""qh3: QUIC datagrams on asyncio. `links=one`: all channels on a connection; `links=each`: one per channel."""

import asyncio
import ssl

from channel import End, certificate, say, serve
from qh3.asyncio import connect as dial
from qh3.asyncio import serve as listen
from qh3.asyncio.protocol import QuicConnectionProtocol
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.events import DatagramFrameReceived, HandshakeCompleted


def configuration(is_client: bool) -> QuicConfiguration:
    made = QuicConfiguration(
        is_client=is_client, alpn_protocols=["bench"], max_datagram_frame_size=65536, idle_timeout=60.0
    )
    if is_client:
        made.verify_mode = ssl.CERT_NONE
    else:
        made.load_cert_chain(*certificate())
    return made


async def connect(end: End):  # noqa: ANN201
    shared = end.options["links"] == "one"
    wanted = 1 if shared else end.channels
    links: list[QuicConnectionProtocol] = []
    complete = asyncio.Event()

    class Link(QuicConnectionProtocol):
        def quic_event_received(self, event: object) -> None:
            if isinstance(event, DatagramFrameReceived):
                end.on_frame(event.data)
            elif isinstance(event, HandshakeCompleted):
                links.append(self)
                if len(links) == wanted:
                    complete.set()

    if end.is_far:
        await listen("127.0.0.1", end.port, configuration=configuration(False), create_protocol=Link)
        say(listening=True)
    else:
        end.held = [
            dial("127.0.0.1", end.port, configuration=configuration(True), create_protocol=Link) for _ in range(wanted)
        ]
        for dialled in end.held:
            await dialled.__aenter__()
    await complete.wait()
    if shared:
        link = links[0]
        return lambda channel, frame: link._quic.send_datagram_frame(frame), link.transmit

    def send(channel: int, frame: bytes) -> None:
        links[channel]._quic.send_datagram_frame(frame)
        links[channel].transmit()

    return send, None


serve(connect)
