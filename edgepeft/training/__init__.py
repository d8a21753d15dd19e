"""Training adapters, with TRL and PEFT."""
