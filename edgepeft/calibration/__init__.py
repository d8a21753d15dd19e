"""What rounding looks at: calibration data, and a model's layers run one at a time."""
