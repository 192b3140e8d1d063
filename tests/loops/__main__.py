"""Random runs held against plain loops: what was compared, and the largest deviation of each variable.

cd tests && python -m loops [NUMBER] [FIRST]
"""

from __future__ import annotations

import sys

from loops.comparing import Table, compare
from loops.drawing import draw

count, first = ([int(a) for a in sys.argv[1:]] + [400, 0][len(sys.argv) - 1 :])[:2]
table, problems = Table(), []
for number in range(first, first + count):
    problems += compare(draw(number), table)
print(table)
print("\n".join(problems) or "no deviation beyond the tolerance")
sys.exit(bool(problems))
