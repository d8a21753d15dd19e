"""A bundle behind an OpenAI-compatible endpoint; needs the extra ``serve``."""
