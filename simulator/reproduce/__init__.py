"""The experiments of Sarathi-Serve beside the published numbers (OSDI 2024, arXiv:2403.02310)."""
