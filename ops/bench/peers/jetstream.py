#!/usr/bin/env python3
"""Publishes random messages to NATS JetStream, so many at a time unacknowledged.

    peers/jetstream.py URL BYTES MESSAGES WINDOW

Prints a JSON line: messages a second, and the median time of an acknowledgement. The stream is in files, made anew and deleted in the end.
"""
import asyncio
import json
import os
import statistics
import sys
import time

import nats
from nats.js.api import StorageType, StreamConfig

url = sys.argv[1]
size, count, window = map(int, sys.argv[2:5])


async def main():
    connection = await nats.connect(url)
    stream = connection.jetstream(timeout=60, publish_async_max_pending=window + 1)
    await stream.add_stream(StreamConfig(name="bench", subjects=["bench"], storage=StorageType.FILE))
    payload, times, left = os.urandom(size), [], iter(range(count))

    async def publisher():
        for _ in left:
            start = time.perf_counter()
            await stream.publish("bench", payload)
            times.append((time.perf_counter() - start) * 1e3)

    start = time.perf_counter()
    await asyncio.gather(*(publisher() for _ in range(window)))
    seconds = time.perf_counter() - start
    await stream.delete_stream("bench")
    await connection.close()
    print(json.dumps({"perSecond": count / seconds, "medianMs": statistics.median(times)}))


asyncio.run(main())
