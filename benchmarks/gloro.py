"""Print the ratios of the table gloro-speed, measured now, beside their limits.

python benchmarks/gloro.py [cpu|cuda]
"""

import sys

from thesis_repro.tables.speed import RATIOS, SpeedConfig, measure

device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
for what, (_, limit) in RATIOS.items():
    values = measure(SpeedConfig(what, device)).values
    print(f"{values['ratio']:.2f} (limit {limit})  {what}  {values['note']}", flush=True)
