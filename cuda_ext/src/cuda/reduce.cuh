// Second steps of reductions: a block per result, in an order that is always the same.
#include "common.cuh"

using namespace fireants;

// parts (results, count) -> out (results): the largest, NaN where one is.
extern "C" __global__ void __launch_bounds__(256)
largest(long long count, const REAL* __restrict__ parts, REAL* __restrict__ out) {
  REAL top = REAL(0);
  for (long long k = threadIdx.x; k < count; k += blockDim.x)
    top = larger(top, fabs(parts[blockIdx.x * count + k]));
  top = over_block(top, Larger());
  if (threadIdx.x == 0) out[blockIdx.x] = top;
}
FIREANTS_KERNEL(largest)

// parts (results / terms, count, terms) -> out (results): sums over the middle axis.
extern "C" __global__ void __launch_bounds__(256)
sums(long long count, long long terms, const double* __restrict__ parts,
     double* __restrict__ out) {
  const long long group = blockIdx.x / terms, term = blockIdx.x % terms;
  double sum = 0;
  for (long long k = threadIdx.x; k < count; k += blockDim.x)
    sum += parts[(group * count + k) * terms + term];
  sum = over_block(sum, Sum());
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}
FIREANTS_KERNEL(sums)

// values (results, count), cut into gridDim.y parts -> parts (results, gridDim.y): the largest size.
extern "C" __global__ void __launch_bounds__(256)
largest_part(long long count, const REAL* __restrict__ values, REAL* __restrict__ parts) {
  REAL top = REAL(0);
  const long long step = static_cast<long long>(gridDim.y) * blockDim.x;
  for (long long k = static_cast<long long>(blockIdx.y) * blockDim.x + threadIdx.x; k < count;
       k += step)
    top = larger(top, fabs(values[blockIdx.x * count + k]));
  top = over_block(top, Larger());
  if (threadIdx.x == 0) parts[blockIdx.x * static_cast<long long>(gridDim.y) + blockIdx.y] = top;
}
FIREANTS_KERNEL(largest_part)
