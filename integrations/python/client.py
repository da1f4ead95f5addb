"""Send a picture to a device whose source is "mqtt", and print its answer.

    python client.py HOST[:PORT] DEVICE PICTURE        (needs: pip install paho-mqtt)
"""
import json
import sys

import paho.mqtt.client as mqtt

(host, _, port), device, picture = sys.argv[1].partition(":"), sys.argv[2], sys.argv[3]
with open(picture, "rb") as file:
    data = file.read()


def on_message(client, userdata, message):
    answer = json.loads(message.payload)
    found = answer.get("top") or answer.get("objects") or [{"label": answer.get("text")}]
    said = found[0]["label"] or found[0].get("index", answer["reason"])
    print(f"{answer['outcome']} in {answer['total_ms']:.0f} ms: {said}")
    client.disconnect()


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda *args: client.subscribe(f"si/v1/{device}/up/result", qos=1)
client.on_subscribe = lambda *args: client.publish(f"si/v1/{device}/dn/frame", data)
client.on_message = on_message
client.connect(host, int(port or 1883))
client.loop_forever()
