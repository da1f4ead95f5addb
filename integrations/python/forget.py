"""Clear what a device or worker that is no more has left on the broker, retained.

    python forget.py HOST[:PORT] NAME        (needs: pip install paho-mqtt)
"""
import hashlib
import re
import sys

import paho.mqtt.client as mqtt

(host, _, port), name = sys.argv[1].partition(":"), sys.argv[2]
# As Home Assistant takes it: without a dot, and with a few digits that tell a.b from a_b.
shown = re.sub(r"[^A-Za-z0-9_-]", "_", name)
if shown != name:
    shown += "_" + hashlib.sha256(name.encode()).hexdigest()[:6]
topics = [f"homeassistant/device/{shown}/config"]
for node in (f"si/v1/{name}", f"si/v1/_pool/{name}"):
    topics += [f"{node}/up/{channel}" for channel in ("status", "info", "profile", "plan", "load")]

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.connect(host, int(port or 1883))
client.loop_start()
for topic in topics:                             # an empty retained message takes away the last
    client.publish(topic, b"", qos=1, retain=True).wait_for_publish(10)
client.disconnect()
