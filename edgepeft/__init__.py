"""edgepeft: take a fine-tuned language model to the device it must run on, and prove it arrived."""

__version__ = "0.1.0"
