"""From a recipe to bundles: planning, checking, estimating and carrying out its stages."""
