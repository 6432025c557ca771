"""A part of fan_out.yaml: the sum of every eighth number."""

import json
import os

with open(os.environ["HERO_INPUTS"], encoding="utf-8") as file:
    inputs = json.load(file)
ids = json.loads(os.environ["HERO_DEPENDS"])
numbers = [int(number) for number in inputs[ids["split"]]["numbers"].split()]
own = numbers[int(os.environ["PART"]) :: 8]
with open(os.environ["HERO_RESULT"], "a", encoding="utf-8") as result:
    print(f"sum={sum(own)}", file=result)
