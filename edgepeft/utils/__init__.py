"""What every other part may use and that uses none of them."""
