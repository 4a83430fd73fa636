// RUN: bitmlir-opt %s --bit-decompose | FileCheck %s
// RUN: bitmlir-opt %s --bit-decompose --bit-to-cpu | FileCheck %s --check-prefix=CPU
// RUN: bitmlir-opt %s --bit-decompose=target=sm_80 --bit-to-gpu=target=sm_80 | FileCheck %s --check-prefixes=GPU,SM80
// RUN: bitmlir-opt %s --bit-decompose=target=sm_90a --bit-to-gpu=target=sm_90a | FileCheck %s --check-prefixes=GPU,SM90A

// A search decomposes as a product does: a schedule, corrections, the epilogue. It keeps keys of score and column.

// CHECK-LABEL: func.func @search
//  CHECK-SAME:   %[[VALUES:[^ ]*]]: memref<8x5xi32> {{{[^}]*}}bit.result{{[^}]*}}}, %[[COLUMNS:[^ ]*]]: memref<8x5xi32> {
//       CHECK:   %[[KEYS:.*]] = memref.alloc() : memref<8x5xi64>
//       CHECK:   "bit.plane_search"(%{{.*}}, %{{.*}}, %[[KEYS]]) ({
//       CHECK:     bit.plane_product
//       CHECK:     %[[SCORE:.*]] = arith.shrsi
//       CHECK:     gpu.yield %[[SCORE]] : i32
//       CHECK:   }) {bitwise = #bit.bitwise<"xor">, k = 40 : i64, order = #bit.order<"smallest">}
//       CHECK:   "bit.plane_ranks"(%[[KEYS]], %[[VALUES]], %[[COLUMNS]]) {order = #bit.order<"smallest">}

// On the CPU a row keeps a sorted list. A vector of scores is looked at closer only if one is better than the last entry.

// CPU-LABEL: func.func @plane_search_0
//       CPU:   memref.load %{{.*}}[%{{.*}}, %c4{{[_0-9]*}}] : memref<8x5xi64>
//       CPU:   arith.cmpi slt, %{{.*}} : vector<16xi32>
//       CPU:   scf.if
//       CPU:     scf.for
//       CPU:       scf.while
// CPU-LABEL: func.func @plane_ranks_1

// On the GPU warps vote on whether they have a score that is good enough, and if so insert keys by atomic maxima.

// GPU-LABEL: llvm.func @plane_search_0
//       GPU:   llvm.load volatile %{{.*}} -> i64
//       GPU:   nvvm.vote.sync ballot
//       GPU:   scf.if
//       GPU:     scf.while
//       GPU:       nvvm.shfl.sync bfly
//       GPU:       llvm.atomicrmw umax %{{.*}} syncscope("device") monotonic
//       GPU:       nvvm.vote.sync ballot
// GPU-LABEL: llvm.func @plane_ranks_1
// GPU-LABEL: func.func @search
//       GPU:   %[[KEYS:.*]] = memref.alloc() : memref<8x5xi64>
//      SM80:   gpu.memset %[[KEYS]], %{{.*}} : memref<8x5xi64>, i64
//     SM90A:   gpu.launch_func @kernels::@zero_0 {{.*}} args(%[[KEYS]] : memref<8x5xi64>) {bit.overlap_previous, bit.writes = array<i64: 0>}
//       GPU:   gpu.launch_func @kernels::@plane_search_0
//       GPU:   gpu.launch_func @kernels::@plane_ranks_1
func.func @search(%x: tensor<8x40xi1, #bit.encoding<"bipolar">>, %w: tensor<64x40xi1, #bit.encoding<"bipolar">>)
    -> (tensor<8x5xi32>, tensor<8x5xi32>) {
  %v, %c = "bit.search"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %k = arith.constant 40 : i32
    %one = arith.constant 1 : i32
    %twice = arith.subi %k, %acc : i32
    %distance = arith.shrsi %twice, %one : i32
    gpu.yield %distance : i32
  }) {count = 5 : i64, order = #bit.order<"smallest">}
    : (tensor<8x40xi1, #bit.encoding<"bipolar">>, tensor<64x40xi1, #bit.encoding<"bipolar">>)
    -> (tensor<8x5xi32>, tensor<8x5xi32>)
  return %v, %c : tensor<8x5xi32>, tensor<8x5xi32>
}
