// Directions of descent with their peaks. Every row is cut into blocks; what they leave behind is
// put together by reduce.cuh, in an order that is always the same.
#include "common.cuh"
#include "descent.h"

using namespace fireants;

// parts (rows of `grad`, gridDim.x): sums of the second moment as it will be, or of g^2 where
// `second` is null. blockIdx.y is the channel of all rows.
extern "C" __global__ void __launch_bounds__(256)
powers(long long samples, double beta2, const REAL* __restrict__ grad,
       const REAL* __restrict__ second, double* __restrict__ parts) {
  const long long start = blockIdx.y * samples;
  const REAL keep = static_cast<REAL>(beta2), add = static_cast<REAL>(1 - beta2);
  double sum = 0;
  for (long long k = thread_id(); k < samples; k += thread_count()) {
    const REAL g = grad[start + k];
    sum += static_cast<double>(second ? keep * second[start + k] + add * g * g : g * g);
  }
  sum = over_block(sum, Sum());
  if (threadIdx.x == 0)
    parts[blockIdx.y * static_cast<long long>(gridDim.x) + blockIdx.x] = sum;
}
FIREANTS_KERNEL(powers)

// sums: of all samples of a pair, which are `count`; counts: steps taken, per pair. The direction
// takes the gradient's place, the moments go on; largest (channels of all rows, gridDim.x).
extern "C" __global__ void __launch_bounds__(256)
adam(DescentShape s, double beta1, double beta2, double eps_rel, double tiny,
     const double* __restrict__ counts, const double* __restrict__ sums, REAL* __restrict__ grad,
     REAL* __restrict__ first, REAL* __restrict__ second, REAL* __restrict__ largest) {
  const long long start = blockIdx.y * s.samples, per_pair = s.halves * s.channels;
  const long long pair = blockIdx.y / per_pair;
  const double unbias1 = 1 - pow(beta1, counts[pair]), unbias2 = 1 - pow(beta2, counts[pair]);
  const double mean = sums[pair] / (static_cast<double>(per_pair) * s.samples);
  const REAL floor = static_cast<REAL>(sqrt(mean / unbias2) * eps_rel) + static_cast<REAL>(tiny);
  const REAL by1 = static_cast<REAL>(-1 / unbias1), by2 = static_cast<REAL>(1 / unbias2);
  const REAL keep1 = static_cast<REAL>(beta1), add1 = static_cast<REAL>(1 - beta1);
  const REAL keep2 = static_cast<REAL>(beta2), add2 = static_cast<REAL>(1 - beta2);
  REAL top = REAL(0);
  for (long long k = start + thread_id(); k < start + s.samples; k += thread_count()) {
    const REAL g = grad[k], power = keep2 * second[k] + add2 * g * g;
    REAL now = g;
    if (first) {
      now = keep1 * first[k] + add1 * g;
      first[k] = now;
    }
    second[k] = power;
    const REAL direction = by1 * now / (sqrt(power * by2) + floor);
    grad[k] = direction;
    top = larger(top, fabs(direction));
  }
  top = over_block(top, Larger());
  if (threadIdx.x == 0) largest[blockIdx.y * static_cast<long long>(gridDim.x) + blockIdx.x] = top;
}
FIREANTS_KERNEL(adam)

// v = -2 sqrt(l) g / (|g|^2 + l), g in units of its root mean square over the pair; in g's place.
// blockIdx.y is the row; largest (rows, channels, gridDim.x), or null: it holds three channels at
// most.
extern "C" __global__ void __launch_bounds__(256)
levenberg_marquardt(DescentShape s, double tiny, const double* __restrict__ damping,
                    const double* __restrict__ sums, REAL* __restrict__ grad,
                    REAL* __restrict__ largest) {
  const long long pair = blockIdx.y / s.halves, start = blockIdx.y * s.channels * s.samples;
  const Damping<REAL> level(sums[pair] / (static_cast<double>(s.halves) * s.samples),
                            damping[pair], tiny);
  REAL top[3] = {};
  for (long long k = start + thread_id(); k < start + s.samples; k += thread_count()) {
    REAL power = REAL(0);
    for (long long c = 0; c < s.channels; ++c) {
      const REAL own = grad[k + c * s.samples] * level.unit;
      power += own * own;
    }
    const REAL factor = level.by * level.unit / (power + level.level);
    for (long long c = 0; c < s.channels; ++c) {
      const REAL direction = grad[k + c * s.samples] * factor;
      grad[k + c * s.samples] = direction;
      if (c < 3) top[c] = larger(top[c], fabs(direction));
    }
  }
  for (int c = 0; largest && c < s.channels; ++c) {
    const REAL most = over_block(top[c], Larger());
    if (threadIdx.x == 0)
      largest[(blockIdx.y * s.channels + c) * gridDim.x + blockIdx.x] = most;
  }
}
FIREANTS_KERNEL(levenberg_marquardt)
