"""What every room may use and that knows nothing of models: text on terminals, files of others, logs."""
