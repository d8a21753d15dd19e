"""Ask a bundle: python answer.py BUNDLE "PROMPT". Needs edgepeft[cpu], or another runtime extra."""

import sys

from edgepeft.runtime import Runtime

bundle, prompt = sys.argv[1:]
answer = Runtime(bundle).stream(prompt)
for piece in answer:
    print(piece, end="", flush=True)
print(f"\n{answer.completion().tokens_per_second:.0f} tokens/s", file=sys.stderr)
