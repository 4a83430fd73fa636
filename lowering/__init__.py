"""How the IR becomes kernels: passes (one a file, named as the pass), targets, instructions, kernels."""
