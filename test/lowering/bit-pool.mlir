// RUN: bitmlir-opt %s --bit-decompose=target=sm_90a | FileCheck %s
// RUN: bitmlir-opt %s --bit-decompose=target=sm_90a --bit-to-gpu=target=sm_90a | FileCheck %s --check-prefix=GPU
// RUN: bitmlir-opt %s --bit-decompose=target=cpu --bit-to-cpu | FileCheck %s --check-prefix=CPU

// Pixels are rows of words. The largest number goes out, with what its bits add up to.

// CHECK-LABEL: func.func @signs
//       CHECK:   "bit.plane_pool"(%{{.*}}, %{{.*}}, %{{.*}}) {encoding = #bit.encoding<"bipolar">, window = array<i64: 4, 2, 2, 0, 0, 1, 6, 3, 1, 1, 1, 1>}
//  CHECK-SAME:     (memref<1x48x4xi32>, memref<1x24x4xi32>, memref<24xi32>) -> ()

// A thread a place, 16 bytes of each plane at a time. Of one plane the largest is OR.

// GPU-LABEL: llvm.func @plane_pool_0
//       GPU:   nvvm.griddepcontrol
//       GPU:   arith.cmpi ult, %{{.*}}, %c24_i32
//       GPU:   scf.for %{{.*}} = %{{.*}} to %c1_i32
//       GPU:     %[[LARGEST:.*]] = scf.for %{{.*}} to %c6_i32{{.*}} iter_args(%[[OLD:[^ ]*]] = %{{.*}}) -> (vector<4xi32>)
//       GPU:       %[[INSIDE:.*]] = arith.andi %{{.*}}, %{{.*}} : i1
//       GPU:       %[[SEEN:.*]] = llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xi32>
//       GPU:       %[[OR:.*]] = arith.ori %[[OLD]], %[[SEEN]] : vector<4xi32>
//       GPU:       arith.select %[[INSIDE]], %[[OR]], %[[OLD]] : vector<4xi32>
//       GPU:     llvm.store %[[LARGEST]]
// GPU-COUNT-4:   llvm.intr.ctpop
//       GPU: func.func @signs
//       GPU:   gpu.launch_func @kernels::@plane_pool_0

// CPU-LABEL: func.func @plane_pool_0
//       CPU:   vector.load %{{.*}} : memref<1x48x4xi32>, vector<4xi32>
//       CPU:   arith.ori %{{.*}}, %{{.*}} : vector<4xi32>
//       CPU:   vector.store
//       CPU: func.func @signs
//       CPU:   call @plane_pool_0
!signs = tensor<2x4x6x40xi1, #bit.encoding<"bipolar">>
!pooled = tensor<2x2x6x40xi1, #bit.encoding<"bipolar">>
func.func @signs(%x: !signs) -> !pooled {
  %y = "bit.pool"(%x) {size = array<i64: 2, 3>, stride = array<i64: 2, 1>, padding = array<i64: 0, 1, 0, 1>} : (!signs) -> !pooled
  return %y : !pooled
}
