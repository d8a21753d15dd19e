"""The measures of a task, and what they are called."""
