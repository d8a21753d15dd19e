"""The model hub: ids with revisions, what is downloaded of a repository, what the cache holds, and uploads.

Tokens, endpoint, cache and offline mode are huggingface_hub's own. It is imported where something is asked of the
hub, never before; and nothing that comes from there is run.
"""
