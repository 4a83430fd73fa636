// RUN: bitmlir-opt %s --nvvm-check-target --split-input-file --verify-diagnostics
// RUN: bitmlir-opt %s --gpu-module-to-binary=format=isa --split-input-file --verify-diagnostics

// Without this pass LLVM would end the process; it runs by itself before gpu-module-to-binary.

gpu.module @sound [#nvvm.target<chip = "sm_80", features = "+ptx80">] {
}

// -----

// expected-error @below {{unknown chip 'sm_999' in its target: expected one of sm_75, sm_80}}
gpu.module @unknown_chip [#nvvm.target<chip = "sm_999", features = "+ptx80">] {
}

// -----

// expected-error @below {{the target's features are '+ptx80': for chip 'sm_100a' give '+ptx86' or a later PTX version}}
gpu.module @old_ptx [#nvvm.target<chip = "sm_100a", features = "+ptx80">] {
}

// -----

// expected-error @below {{the target's features are 'fast': for chip 'sm_80' give '+ptx80' or a later PTX version}}
gpu.module @no_feature [#nvvm.target<chip = "sm_80", features = "fast">] {
}

// -----

// What the attribute leaves out counts at its default: sm_75 and +ptx60.
// expected-error @below {{the target's features are '+ptx60': for chip 'sm_75' give '+ptx80' or a later PTX version}}
gpu.module @defaults [#nvvm.target] {
}
