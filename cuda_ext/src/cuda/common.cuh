// What every kernel file starts from. A file is compiled once per type and number of axes: REAL is
// float or double, DIM 2 or 3. Nothing else is included, NVRTC finds no other headers.
#pragma once
#include "core.h"
#include "shapes.h"

#if !defined(FIREANTS_SHIM)
#define FIREANTS_KERNEL(name)
#endif

namespace fireants {

// Threads of every block, a power of 2.
constexpr int kThreads = 256;

__device__ __forceinline__ long long thread_id() {
  return static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ __forceinline__ long long thread_count() {
  return static_cast<long long>(gridDim.x) * blockDim.x;
}

template <class T>
__device__ __forceinline__ T not_a_number() {
  return static_cast<T>(nan(""));
}

// A product that is rounded before it is added to anything, as torch does it.
__device__ __forceinline__ float times(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double times(double a, double b) { return __dmul_rn(a, b); }

// The larger; NaN where one is.
template <class T>
__device__ __forceinline__ T larger(T a, T b) {
  return a != a || b <= a ? a : b;
}

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Larger {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return larger(a, b);
  }
};

// `value` of all threads of the block put together, for thread 0. All threads have to call it; the
// order is that of a tree and always the same.
template <class T, class Join>
__device__ T over_block(T value, Join join) {
  __shared__ T part[kThreads];
  const int t = threadIdx.x;
  __syncthreads();  // the last use may still be read
  part[t] = value;
  __syncthreads();
  for (int half = kThreads / 2; half; half /= 2) {
    if (t < half) part[t] = join(part[t], part[t + half]);
    __syncthreads();
  }
  return part[0];
}

}  // namespace fireants
