# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure how long a user waits for the import, for --help, and for the first heat map.

    python benchmarks/startup.py [--runs 5]

Each is a process of its own. They run in turn, so that a slow moment of the machine affects all of them.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


IMAGE = Path(__file__).parents[1] / "examples" / "images" / "corrugated_stained.png"
COMMAND_LINE = "import sys; sys.argv = ['anomalyclip', *sys.argv[1:]]; from anomalyclip_hf.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "transformers": ["-c", "from transformers import AutoModel, pipeline"],
            "transformers + anomalyclip_hf": [
                "-c",
                "from transformers import AutoModel, pipeline; import anomalyclip_hf",
            ],
            "anomalyclip --help": ["-c", COMMAND_LINE, "--help"],
            "anomalyclip predict, one image": ["-c", COMMAND_LINE, "predict", str(IMAGE), "--output-dir", folder],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for run in range(runs + 1):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, *command], capture_output=True, check=True)
                if run:  # the first fills the file cache
                    seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"{name:32s} median {statistics.median(values):.2f} s  (min {min(values):.2f}, max {max(values):.2f})")
    plain, ours = seconds["transformers"], seconds["transformers + anomalyclip_hf"]
    added = statistics.median(b - a for a, b in zip(plain, ours, strict=True))
    print(f"the import adds {added:.2f} s, ratio {statistics.median(ours) / statistics.median(plain):.2f}")


if __name__ == "__main__":
    main()
