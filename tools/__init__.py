"""The command-line tools: `bitmlir-opt` and `bitmlir-codegen`."""
