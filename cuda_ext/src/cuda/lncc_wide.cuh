// Local normalised cross-correlation by windows of any radius, one volume (a channel of a row) after
// another: products are stored, `smooth_axis` takes their window means along one axis at a time.
#include "lncc_score.cuh"

using namespace fireants;

// state (kSums, z, y, x): what windows sum.
extern "C" __global__ void __launch_bounds__(256)
lncc_products(LnccShape s, long long volume, Inputs from, REAL* __restrict__ state) {
  const Volume own(s, from, volume);
  const long long voxels = voxels_of(s);
  for (long long at = thread_id(); at < voxels; at += thread_count()) {
    REAL v[kImages];
#pragma unroll
    for (int n = 0; n < kImages; ++n) v[n] = own.at(n, at);
#pragma unroll
    for (int f = 0; f < kSums; ++f) state[f * voxels + at] = product(f, v);
  }
}
FIREANTS_KERNEL(lncc_products)

// state: window means or, with a mask, sums. EXACT: the slopes come in their place, not divided by
// the count where there is no mask (their windows' factors do it); otherwise `by_moving` and
// `by_fixed` get the approximate gradients. parts (rows, channels, blocks): the weighted scores.
extern "C" __global__ void __launch_bounds__(256)
lncc_correlate(LnccShape s, long long volume, Inputs from, const REAL* __restrict__ weight,
               REAL* __restrict__ state, double* __restrict__ parts, REAL* __restrict__ by_moving,
               REAL* __restrict__ by_fixed) {
  const Volume own(s, from, volume);
  const Weight by(s, weight, volume);
  const long long voxels = voxels_of(s), start = volume * voxels;
  double value = 0;
  for (long long at = thread_id(); at < voxels; at += thread_count()) {
    REAL sum[kSums], slope[kSlopes];
#pragma unroll
    for (int f = 0; f < kSums; ++f) sum[f] = state[f * voxels + at];
    const REAL inverse = MASK ? inverse_count(sum[kSums - 1]) : REAL(1), own_weight = by.at(at);
    const REAL share = EXACT ? own_weight * inverse : own_weight;
    value += static_cast<double>(correlate(s, sum, inverse, own_weight, share, slope));
    if (SLOPES > 0 && EXACT) {
#pragma unroll
      for (int f = 0; f < SLOPES; ++f) state[f * voxels + at] = slope[f];
    } else if (SLOPES > 0) {
      write_gradients(own, at, slope, by_moving + start, by_fixed + start);
    }
  }
  const double all = over_block(value, Sum());
  if (threadIdx.x == 0) parts[volume * gridDim.x + blockIdx.x] = all;
}
FIREANTS_KERNEL(lncc_correlate)

#if SLOPES > 0 && EXACT
// slopes (SLOPES, z, y, x), summed over windows.
extern "C" __global__ void __launch_bounds__(256)
lncc_gradients(LnccShape s, long long volume, Inputs from, const REAL* __restrict__ slopes,
               REAL* __restrict__ by_moving, REAL* __restrict__ by_fixed) {
  const Volume own(s, from, volume);
  const long long voxels = voxels_of(s), start = volume * voxels;
  for (long long at = thread_id(); at < voxels; at += thread_count()) {
    REAL slope[SLOPES];
#pragma unroll
    for (int f = 0; f < SLOPES; ++f) slope[f] = slopes[f * voxels + at];
    write_gradients(own, at, slope, by_moving + start, by_fixed + start);
  }
}
FIREANTS_KERNEL(lncc_gradients)
#endif
