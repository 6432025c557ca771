"""A part of fan_out.yaml: the sum of every eighth number."""

import json
import os

inputs = json.load(open(os.environ["HERO_INPUTS"]))
ids = json.loads(os.environ["HERO_DEPENDS"])
numbers = [int(number) for number in inputs[ids["split"]]["numbers"].split()]
own = numbers[int(os.environ["PART"]) :: 8]
with open(os.environ["HERO_RESULT"], "a") as result:
    print(f"sum={sum(own)}", file=result)
