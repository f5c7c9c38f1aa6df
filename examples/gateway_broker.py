"""Messages between named clients: one speaks wsmsgbroker's protocol, the other mergesync's."""

import asyncio
import json

from websockets.asyncio.client import connect

from mergesync import MergeableStore, create_ws_server, create_ws_synchronizer
from mergesync.gateways import message_broker


async def main() -> None:
    url = "ws://localhost:8047/office"
    async with (
        create_ws_server("localhost", 8047, gateways={"/broker": message_broker()}),
        create_ws_synchronizer(MergeableStore(), url, name="printer") as printer,
        connect("ws://localhost:8047/broker/office") as socket,
    ):
        printer.add_message_listener(lambda sender, message: f"printed {message['pages']} pages for {sender}")
        while printer.name is None:
            await asyncio.sleep(0.01)
        await socket.send(json.dumps({"action": "register", "id": "ann"}))
        print(json.loads(await socket.recv()))  # -> {"action": "registered", "id": "ann"}

        question = {"action": "send", "dest": ["printer", "nobody"], "message": {"pages": 3}, "ack": "1"}
        await socket.send(json.dumps(question))
        answer = json.loads(await socket.recv())
        print(answer["from"], answer["ack"], answer["message"])  # -> printer 1 printed 3 pages for ann

        print(await printer.send("ann", "out of paper"))
        # -> SendResult(delivered=('ann',), unknown=(), unreachable=())
        print(json.loads(await socket.recv())["message"])  # -> out of paper


asyncio.run(main())
