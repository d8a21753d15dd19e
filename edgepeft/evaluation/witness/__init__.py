"""The second witness: logits that transformers, PEFT and bitsandbytes compute by their own loading.

Reference and measures share code with what they measure: readers of checkpoints, names of heads, a merge. A fault
in what both share would show in neither. The witness shares nothing but token ids with them: the model comes from
the files that the recipe names, through ``from_pretrained``, the grid through bitsandbytes, the adapter through
``PeftModel``. The graph that ships, and the reference that it is measured against, are both held against it.
"""
