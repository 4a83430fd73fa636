// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_75 | FileCheck %s --check-prefixes=CHECK,SM75
// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_80 | FileCheck %s --check-prefixes=CHECK,SM80
// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_89 | FileCheck %s --check-prefixes=CHECK,SM80

// A product by XOR becomes a kernel in a module for the chip, and its launch: blocks of 64×64 elements, four warps that
// multiply and two that copy, three stages of 16 KiB.

//       CHECK: module attributes {gpu.container_module}
//        SM75: gpu.module @kernels [#nvvm.target<{{.*}}chip = "sm_75", features = "+ptx80">]
//        SM80: gpu.module @kernels [#nvvm.target<{{.*}}chip = "sm_8{{[09]}}", features = "+ptx80">]
//       CHECK:   llvm.mlir.global external @shared_memory() {addr_space = 3 : i32, alignment = 1024
//       CHECK:   llvm.func @plane_matmul_0(%{{.*}}: !llvm.ptr<1> {llvm.noalias}, %{{.*}}: !llvm.ptr<1> {llvm.noalias},
//  CHECK-SAME:     nvvm.kernel
//  CHECK-SAME:     nvvm.minctasm = 1 : i32
//  CHECK-SAME:     nvvm.reqntid = array<i32: 192, 1, 1>

// The barriers of the ring lie behind its stages in memory: 64 threads fill a stage, 128 read it. Turing has only the
// numbered barriers of a block, at which all 192 threads arrive.

//        SM80:   %[[RING:.*]] = llvm.getelementptr %{{.*}}[49152]
//        SM80:   %[[FILLERS:.*]] = arith.constant 64
//        SM80:   nvvm.mbarrier.init %[[RING]], %[[FILLERS]]
//        SM80:   %[[READERS:.*]] = arith.constant 128
//        SM80:   nvvm.mbarrier.init %{{.*}}, %[[READERS]]
//    SM75-NOT:   nvvm.mbarrier

// A warp multiplies in a loop over steps. Before it reads the first fragments of the next stage it waits for that; once it has
// read a stage for the last time it says so.

//       CHECK:   scf.if
//       CHECK:     scf.for
//       CHECK:       nvvm.ldmatrix
//       CHECK:       scf.for
//        SM75:         nvvm.mma.sync
//   SM75-SAME:           b1Op = #nvvm.mma_b1op<xor_popc>
//   SM75-SAME:           shape = #nvvm.shape<m = 8, n = 8, k = 128>
//        SM80:         nvvm.mma.sync
//   SM80-SAME:           b1Op = #nvvm.mma_b1op<xor_popc>
//   SM80-SAME:           shape = #nvvm.shape<m = 16, n = 8, k = 256>
//       CHECK:         nvvm.ldmatrix %{{.*}} {eltType = #nvvm.ld_st_matrix_elt_type<b16>, layout = #nvvm.mma_layout<row>, num = 4
//        SM75:         nvvm.barrier id = %{{.*}} number_of_threads = %{{.*}}
//        SM80:         nvvm.mbarrier.test.wait
//       CHECK:         nvvm.ldmatrix
//        SM75:         nvvm.barrier.arrive id = %{{.*}} number_of_threads = %{{.*}}
//        SM80:         nvvm.mbarrier.arrive
//       CHECK:       llvm.inline_asm has_side_effects "st.global.L1::no_allocate.v4.b32 [$0], {$1, $2, $3, $4};"

// The others fill stages. Copies by cp.async arrive at the barrier by themselves.

//       CHECK:   } else {
//       CHECK:     scf.for
//        SM75:         nvvm.barrier id
//    SM75-NOT:         nvvm.cp.async
//        SM75:         llvm.load %{{.*}} : !llvm.ptr<1> -> vector<4xi32>
//        SM75:         llvm.store %{{.*}} : vector<4xi32>, !llvm.ptr<3>
//        SM75:         nvvm.barrier.arrive
//        SM80:         nvvm.mbarrier.test.wait
//        SM80:         nvvm.cp.async.shared.global
//        SM80:         nvvm.cp.async.mbarrier.arrive %{{.*}} {noinc = true}
//        SM80:     nvvm.cp.async.wait.group 0
//       CHECK:     llvm.return

// CHECK-LABEL: func.func @product
//  CHECK-SAME:   %[[X:.*]]: memref<1x200x12xi32>, %[[W:.*]]: memref<1x100x12xi32>, %[[OUT:.*]]: memref<200x100xi32>
//   CHECK-NOT:   bit.
//   CHECK-DAG:   %[[BLOCKS:.*]] = arith.constant 8 : index
//   CHECK-DAG:   %[[THREADS:.*]] = arith.constant 192 : index
//   CHECK-DAG:   %[[BYTES:.*]] = arith.constant 49232 : i32
//       CHECK:   gpu.launch_func @kernels::@plane_matmul_0
//  CHECK-SAME:     blocks in (%[[BLOCKS]], %{{[^)]*}}) threads in (%[[THREADS]], %{{[^)]*}})
//  CHECK-SAME:     dynamic_shared_memory_size %[[BYTES]]
//  CHECK-SAME:     args(%[[X]] : memref<1x200x12xi32>, %[[W]] : memref<1x100x12xi32>, %[[OUT]] : memref<200x100xi32>)
//   CHECK-NOT:   gpu.launch_func
func.func @product(%x: memref<1x200x12xi32>, %w: memref<1x100x12xi32>, %out: memref<200x100xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"xor">, k = 300 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 64 : i64, warp_rows = 32 : i64, warp_columns = 32 : i64, stages = 3 : i64, producers = 2 : i64}}
    : (memref<1x200x12xi32>, memref<1x100x12xi32>, memref<200x100xi32>) -> ()
  return
}

// Blocks are persistent: of many tiles each multiprocessor's block takes its share, so that no more of them are launched
// than run at once. What the body reads by column alone is
// staged: its values lie behind the barriers, for two tiles.

// CHECK-LABEL: func.func @many_rows
//   CHECK-DAG:   arith.constant 562500 : index
//   CHECK-DAG:   arith.constant 49744 : i32
//       CHECK:   gpu.launch_func @kernels::@plane_matmul_1
//  CHECK-SAME:     {bit.persistent = 1 : i32, bit.writes = array<i64: 2>}
func.func @many_rows(%x: memref<1x9000000x4xi32>, %w: memref<1x200x4xi32>, %bias: memref<200xi32>, %out: memref<9000000x200xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %bias_of_column = memref.load %bias[%col] : memref<200xi32>
    %sum = arith.addi %acc, %bias_of_column : i32
    gpu.yield %sum : i32
  }) {bitwise = #bit.bitwise<"xor">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 64 : i64, warp_rows = 32 : i64, warp_columns = 32 : i64, stages = 3 : i64}}
    : (memref<1x9000000x4xi32>, memref<1x200x4xi32>, memref<9000000x200xi32>) -> ()
  return
}
