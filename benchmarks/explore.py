"""How fast the explorer answers a slider, over HTTP, while its searches run in the background.

    python benchmarks/explore.py RUN [ANSWERS]

RUN has a predictor. Random positions of random sliders: the median and 95th percentile of the time from request to whole answer,
while the pool is being filled and after that, each with a refinement going on.
"""

import http.client
import json
import os
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from onceforall.app import explorer


def main() -> None:
    folder, answers = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 500
    found = explorer(folder, port=0)
    threading.Thread(target=found.serve, daemon=True).start()
    connection = http.client.HTTPConnection(found.host, found.port)

    def ask(path: str) -> dict[str, object]:
        connection.request("GET", path, headers={"x-ofa-key": found.key})
        return dict(json.load(connection.getresponse()))

    while not (facts := ask("/api/run"))["ready"]:
        time.sleep(0.1)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {answers} answers each")
    rng = np.random.default_rng(0)
    axes = [axis for axis in facts["axes"] if axis["device"] in (None, facts["devices"][0]["spec"] if facts["devices"] else None)]
    for when in ("while the pool is filled", "afterwards"):
        if when == "afterwards":
            while ask("/api/run")["filling"]:
                time.sleep(0.5)
        times = []
        for _ in range(answers):
            query = {"device": facts["devices"][0]["spec"] if facts["devices"] else ""}
            for axis in rng.permutation(axes)[: rng.integers(1, len(axes) + 1)]:
                name = "latency_ms" if axis["device"] else axis["name"]
                query[name] = axis["low"] * (axis["high"] / axis["low"]) ** rng.random()
            began = time.perf_counter()
            ask(f"/api/best?{urlencode(query)}")
            times.append(1000 * (time.perf_counter() - began))
            time.sleep(0.03)
        median, most = np.quantile(times, [0.5, 0.95])
        print(f"{when}: median {median:.1f} ms, 95th percentile {most:.1f} ms, longest {max(times):.1f} ms", flush=True)


if __name__ == "__main__":
    main()
