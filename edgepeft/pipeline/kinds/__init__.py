"""The kinds of stages of a build, a module each: what it reads, needs and costs, and its stages in a plan."""
