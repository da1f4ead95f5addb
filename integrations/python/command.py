"""Send a device a command, and print its reply.

    python command.py HOST[:PORT] DEVICE COMMAND [JSON]        (needs: pip install paho-mqtt)
    python command.py 127.0.0.1 pi-door policy '{"aim": "deadline"}'
"""
import json
import sys
import uuid

import paho.mqtt.client as mqtt

(host, _, port), device, name = sys.argv[1].partition(":"), sys.argv[2], sys.argv[3]
command = {"id": str(uuid.uuid4()), **json.loads((sys.argv[4:] or ["{}"])[0])}
topic, payload = f"si/v1/{device}/dn/cmd/{name}", json.dumps(command)


def on_message(client, userdata, message):
    reply = json.loads(message.payload)
    if reply["id"] == command["id"]:             # others may be asking, too
        print(json.dumps(reply))
        client.disconnect()
        userdata.append(reply["status"])


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, userdata=(statuses := []))
client.on_connect = lambda *args: client.subscribe(f"si/v1/{device}/up/reply/+", qos=1)
client.on_subscribe = lambda *args: client.publish(topic, payload, qos=1)
client.on_message = on_message
client.connect(host, int(port or 1883))
client.loop_forever()
sys.exit(statuses != ["ok"])
