"""bbs-flow."""
