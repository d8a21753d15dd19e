"""Training adapters, with TRL and PEFT; every method is one entry of the registry."""
