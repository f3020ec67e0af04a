"""redis-py, unmodified and with its defaults, through Sentinel: increments one after the other until standard input ends."""
import sys
import threading
import time

import redis
from redis.sentinel import Sentinel

name, key, *addrs = sys.argv[1:]
ended = threading.Event()


def wait_for_end():
    sys.stdin.read()
    ended.set()


threading.Thread(target=wait_for_end, daemon=True).start()
hosts = [(a.rsplit(":", 1)[0], int(a.rsplit(":", 1)[1])) for a in addrs]
active = Sentinel(hosts, socket_timeout=5).master_for(name)
while not ended.is_set():
    try:
        print("ok", active.incr(key), flush=True)
    except redis.RedisError as e:
        print("err", str(e).replace("\n", " "), flush=True)
        time.sleep(0.02)
