// Joint histograms of two images and the gradient of a score of them; images are binned on the fly.
//
// Sums are integers, so that they may come in any order and give the same bits: a weight is a
// multiple of 2^-kBits of about the largest. Blocks count in shared memory where the histogram
// fits, with 32-bit words, the only ones that its atomics add at once; a carry goes to the next,
// so that no number of samples is too large. WINDOW, APPROXIMATE and BINS are those of ParzenShape.
#include "common.cuh"

namespace fireants {

enum ParzenWindow { kBspline = 0, kGaussian = 1, kLinear = 2 };

constexpr bool kWide = sizeof(REAL) == 8;
constexpr int kPad = WINDOW == kLinear ? 0 : 2;
constexpr int kSteps = BINS - 1 - 2 * kPad;
constexpr int kTaps = WINDOW == kLinear ? 2 : 4;
constexpr int kAhead = 4;  // samples that a thread asks for at once
constexpr int kRoom = 48 << 10;  // bytes of shared memory

constexpr long long kCells = static_cast<long long>(BINS) * BINS;
constexpr int kPitch = BINS | 1;  // rows of a histogram in shared memory begin at different banks
constexpr long long kPadded = static_cast<long long>(BINS) * kPitch;

// One image's range: low + span goes to the last bin. Equal ends make the span infinite: all
// samples fall on the first bin.
struct Range {
  REAL low, span;

  __device__ __forceinline__ explicit Range(const REAL* ends)
      : low(ends[0]), span(ends[1] - ends[0]) {
    if (span == REAL(0)) span = REAL(1) / span;
  }

  __device__ __forceinline__ REAL share(REAL value) const { return (value - low) / span; }
};

// The bin coordinate, in the operations and the order of `to_bins`: samples on a half have to fall
// in the same bin. NaN becomes the first.
__device__ __forceinline__ REAL bin_of(REAL share) {
  const REAL steps = static_cast<REAL>(kSteps), raw = times(share, steps);
  return (raw > REAL(0) ? (raw < steps ? raw : steps) : REAL(0)) + static_cast<REAL>(kPad);
}

struct Binned {
  int row, first;  // the fixed sample's bin, the first of the moving sample's bins
  REAL frac;       // of the moving sample beyond the lower knot
  REAL share;      // of the moving sample in its range, unclamped
  bool known;      // neither is NaN
};

template <bool Nearest>
__device__ __forceinline__ Binned binned(REAL moving, REAL fixed, const Range& m_range,
                                         const Range& f_range) {
  Binned b;
  const REAL f_share = f_range.share(fixed);
  b.share = m_range.share(moving);
  b.known = b.share == b.share && f_share == f_share;
  b.row = static_cast<int>(rint(bin_of(f_share)));
  const REAL m = bin_of(b.share);
  if (Nearest) {
    b.first = static_cast<int>(rint(m));
    b.frac = REAL(0);
    return b;
  }
  const int knot = WINDOW == kLinear ? min(static_cast<int>(m), BINS - 2) : static_cast<int>(m);
  b.frac = m - static_cast<REAL>(knot);
  b.first = WINDOW == kLinear ? knot : knot - 1;
  return b;
}

// The weights of the bins around a sample, of sum 1. Small ones have few digits wrong, too: their
// logarithms count.
__device__ __forceinline__ void weights_of(REAL f, REAL* tap) {
  if (WINDOW == kBspline) {
    const REAL sixth = REAL(1.0 / 6), g = REAL(1) - f;
    tap[0] = g * g * g * sixth;
    tap[1] = (REAL(4) + f * f * (REAL(3) * f - REAL(6))) * sixth;
    tap[2] = (REAL(4) + g * g * (REAL(3) * g - REAL(6))) * sixth;
    tap[kTaps - 1] = f * f * f * sixth;
  } else if (WINDOW == kGaussian) {
    const REAL e = exp(REAL(4) * f);
    const REAL a = REAL(0.1353352832366127) / e, c = REAL(0.1353352832366127) * e;
    const REAL d = REAL(3.354626279025118e-4) * e * e;
    const REAL whole = REAL(1) / (a + REAL(1) + c + d);
    tap[0] = a * whole;
    tap[1] = whole;
    tap[kTaps - 2] = c * whole;
    tap[kTaps - 1] = d * whole;
  } else {
    tap[0] = REAL(1) - f;
    tap[1] = f;
  }
}

// body(voxel, moving, fixed, weight) for every sample of the thread. A block's samples lie
// together: many follow others of the same bins.
template <class Body>
__device__ __forceinline__ void each_sample(long long voxels, const REAL* moving,
                                            const REAL* fixed, const REAL* weight, Body body) {
  constexpr int kChunk = kThreads * kAhead;
  const long long chunks = (voxels + kChunk - 1) / kChunk;
  const long long first = chunks * blockIdx.x / gridDim.x;
  const long long last = chunks * (blockIdx.x + 1) / gridDim.x;
  for (long long chunk = first; chunk < last; ++chunk) {
    const long long start = chunk * kChunk + threadIdx.x;
    REAL m[kAhead], f[kAhead], w[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const long long at = start + j * kThreads;
      const bool inside = at < voxels;
      m[j] = inside ? moving[at] : REAL(0);
      f[j] = inside ? fixed[at] : REAL(0);
      w[j] = inside && weight ? weight[at] : REAL(1);
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const long long at = start + j * kThreads;
      if (at < voxels) body(at, m[j], f[j], w[j]);
    }
  }
}

// What serves one image, a row's channel.
struct Source {
  const REAL *moving, *fixed, *weight;  // weight: null for 1
  Range m_range, f_range;

  __device__ __forceinline__ Source(const ParzenShape& s, const REAL* m, const REAL* f,
                                    const REAL* w, const REAL* ranges, long long image)
      : moving(m + image * s.voxels),
        fixed(f + image * s.voxels),
        weight(w ? w + (s.weight_rows == 1 ? 0 : image / s.channels) * s.voxels : nullptr),
        m_range(ranges + image / s.channels * 4),
        f_range(ranges + image / s.channels * 4 + 2) {}
};

// ---- sums in fixed point

constexpr int kBits = kWide ? 52 : 29;
constexpr int kCounted = APPROXIMATE ? 1 : kTaps;
constexpr int kWords = kWide ? 3 : 2;   // of 32 bits, of a sum in shared memory
constexpr int kTotals = kWide ? 2 : 1;  // of 64 bits, of a sum in global memory
constexpr int kLongest = 512;           // contributions, of less than 2^(kBits + 1), in 64 bits
constexpr long long kTally = kPadded * kWords * 4;
constexpr bool kTallyFits = kTally <= kRoom;
// Neighbouring threads count in different copies, where those do not keep other blocks away.
constexpr int kCopies = 4 * kTally <= 17 << 10 ? 4 : (2 * kTally <= 17 << 10 ? 2 : 1);
constexpr int kStride = kTallyFits ? kPitch : BINS;

__device__ __forceinline__ REAL largest_weight(const ParzenShape& s, const REAL* unit,
                                               long long image) {
  return unit ? unit[s.weight_rows == 1 ? 0 : image / s.channels] : REAL(1);
}

// Contributions are weights times two to this power, which need not be a REAL itself.
__device__ __forceinline__ int exponent_for(REAL most) {
  if (!(most > REAL(0))) return 0;
  return min(kBits - ilogb(static_cast<double>(most)), 1000);
}

__device__ __forceinline__ int as_integer(float value) { return __float2int_rn(value); }
__device__ __forceinline__ long long as_integer(double value) { return __double2ll_rn(value); }

// Adds to a sum of kWords words, `apart` from each other.
__device__ __forceinline__ void add_words(unsigned* word, long long apart, long long part) {
  unsigned long long more = static_cast<unsigned>(part);
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    unsigned carry = 0;
    if (more) {
      const unsigned before = atomicAdd(word + k * apart, static_cast<unsigned>(more));
      carry = static_cast<unsigned>((more + before) >> 32);
    }
    more = static_cast<unsigned long long>(carry) + static_cast<unsigned>(part >> (k ? 63 : 32));
  }
}

// Adds to a sum of kTotals words.
__device__ __forceinline__ void add_total(unsigned long long* total, unsigned long long low,
                                          long long high) {
  if (!low && !high) return;
  const unsigned long long before = atomicAdd(total, low);
  high += before + low < before;
  if (kWide && high) atomicAdd(total + kCells, static_cast<unsigned long long>(high));
}

// Contributions of a thread to the same bins, one sample after another: the background of an image
// comes to one addition per run, not to as many that wait for each other.
struct Run {
  int cell = 0, length = 0;
  long long parts[kCounted] = {};

  __device__ __forceinline__ void end(unsigned* tally, unsigned long long* totals) {
#pragma unroll
    for (int k = 0; k < kCounted; ++k) {
      if (parts[k] && kTallyFits) {
        const int at = (cell + k) * kCopies + static_cast<int>(threadIdx.x) % kCopies;
        add_words(tally + at, kPadded * kCopies, parts[k]);
      } else if (parts[k]) {
        add_total(totals + cell + k, static_cast<unsigned long long>(parts[k]), parts[k] >> 63);
      }
      parts[k] = 0;
    }
    length = 0;
  }
};

// The block's tally into the image's totals.
__device__ __forceinline__ void hand_over(const unsigned* tally, unsigned long long* totals) {
  constexpr long long kApart = kPadded * kCopies;
  for (int c = threadIdx.x; c < kCells; c += kThreads) {
    const unsigned* word = tally + (c / BINS * kPitch + c % BINS) * kCopies;
    unsigned long long low = 0;
    long long high = 0;
    for (int copy = 0; copy < kCopies; ++copy, ++word) {
      const unsigned long long own =
          word[0] | static_cast<unsigned long long>(word[kApart]) << 32;
      low += own;
      if (kWide) high += static_cast<int>(word[(kWords - 1) * kApart]) + (low < own);
    }
    add_total(totals + c, low, high);
  }
}

// What the samples of a cell look up for the gradient: the coefficients of the powers of f
// (B-splines), the slope at each of the four bins (Gaussian) or between the two (linear).
constexpr int kLooked = WINDOW == kBspline ? 3 : (WINDOW == kGaussian ? 4 : 1);
constexpr long long kTable = kPadded * kLooked * static_cast<int>(sizeof(REAL));
constexpr bool kTableFits = kTable <= kRoom;

// d(sum of slope * joint)/d(moving sample) but for weight, from the looked up numbers.
__device__ __forceinline__ REAL slope_at(REAL f, const REAL* c) {
  if (WINDOW == kBspline) return c[0] + f * (c[1] + f * c[kLooked - 1]);
  if (WINDOW == kLinear) return c[0];
  REAL w[kTaps];
  weights_of(f, w);
  const REAL *up = w + kTaps - 2, *far = c + kLooked - 2;
  const REAL middle = up[0] + REAL(2) * up[1] - w[0];  // B_k' = 4 B_k (k - sum_j B_j j)
  return REAL(4) * (w[0] * c[0] * (REAL(-1) - middle) - w[1] * c[kLooked / 4] * middle +
                    up[0] * far[0] * (REAL(1) - middle) + up[1] * far[1] * (REAL(2) - middle));
}

}  // namespace fireants

using namespace fireants;

// totals (images, kTotals, BINS, BINS) += sums of the weights; spoilt (images) = 1 where a sample
// is no number. ranges (rows, 4): low and high of the moving, then of the fixed image. unit
// (weight_rows): the largest |weight|.
extern "C" __global__ void __launch_bounds__(256)
parzen_joint(ParzenShape s, const REAL* __restrict__ moving, const REAL* __restrict__ fixed,
             const REAL* __restrict__ weight, const REAL* __restrict__ ranges,
             const REAL* __restrict__ unit, unsigned long long* __restrict__ totals,
             int* __restrict__ spoilt) {
  __shared__ unsigned tally[kTallyFits ? kPadded * kCopies * kWords : 1];
  const long long image = blockIdx.y;
  const Source source(s, moving, fixed, weight, ranges, image);
  const REAL most = largest_weight(s, unit, image);
  if (!(most - most == REAL(0))) return;  // `parzen_totals` makes NaN of it
  const int exponent = exponent_for(most), half = exponent / 2;
  const REAL scale = static_cast<REAL>(ldexp(1.0, half));
  const REAL rest = static_cast<REAL>(ldexp(1.0, exponent - half));
  unsigned long long* own = totals + image * kTotals * kCells;
  if (kTallyFits) {
    for (int k = threadIdx.x; k < kPadded * kCopies * kWords; k += kThreads) tally[k] = 0;
    __syncthreads();
  }
  Run run;
  bool known = true;
  each_sample(s.voxels, source.moving, source.fixed, source.weight,
              [&](long long, REAL m, REAL f, REAL w) {
    const Binned b = binned<APPROXIMATE>(m, f, source.m_range, source.f_range);
    known = known && b.known;
    if (!b.known || w == REAL(0)) return;
    const int cell = b.row * kStride + b.first;
    if (cell != run.cell || run.length == kLongest) {
      run.end(tally, own);
      run.cell = cell;
    }
    ++run.length;
    REAL tap[kTaps] = {REAL(1)};
    if (!APPROXIMATE) weights_of(b.frac, tap);
#pragma unroll
    for (int k = 0; k < kCounted; ++k) run.parts[k] += as_integer(w * scale * rest * tap[k]);
  });
  run.end(tally, own);
  if (!known) atomicMax(spoilt + image, 1);
  if (kTallyFits) {
    __syncthreads();
    hand_over(tally, own);
  }
}
FIREANTS_KERNEL(parzen_joint)

// joint (images, BINS, BINS) of the totals.
extern "C" __global__ void __launch_bounds__(256)
parzen_totals(ParzenShape s, const REAL* __restrict__ unit,
              const unsigned long long* __restrict__ totals, const int* __restrict__ spoilt,
              double* __restrict__ joint) {
  const long long image = blockIdx.y;
  const REAL most = largest_weight(s, unit, image);
  const bool known = most - most == REAL(0) && !spoilt[image];
  const double scale = ldexp(1.0, known ? -exponent_for(most) : 0);
  for (long long c = thread_id(); c < kCells; c += thread_count()) {
    const unsigned long long* own = totals + image * kTotals * kCells + c;
    double sum = static_cast<double>(static_cast<long long>(own[0]));
    if (kWide) {
      const double high = static_cast<double>(static_cast<long long>(own[(kTotals - 1) * kCells]));
      sum = high * 18446744073709551616.0 + static_cast<double>(own[0]);
    }
    joint[image * kCells + c] = known ? sum * scale : not_a_number<double>();
  }
}
FIREANTS_KERNEL(parzen_totals)

// slope (images, BINS, BINS) by the joint histogram -> table (images, kLooked, BINS, BINS), of
// the derivative by the moving intensity.
extern "C" __global__ void __launch_bounds__(256)
parzen_table(ParzenShape s, const REAL* __restrict__ ranges, const double* __restrict__ slope,
             REAL* __restrict__ table) {
  const long long image = blockIdx.y;
  const Range range(ranges + image / s.channels * 4);
  const double factor = kSteps / static_cast<double>(range.span);
  for (long long c = thread_id(); c < kCells; c += thread_count()) {
    const int first = static_cast<int>(c % BINS);
    double at[4] = {}, out[4] = {};
    for (int k = 0; k < kTaps && first + k < BINS; ++k)
      at[k] = factor * slope[image * kCells + c + k];
    if (WINDOW == kBspline) {
      out[0] = 0.5 * (at[2] - at[0]);
      out[1] = at[0] - 2 * at[1] + at[2];
      out[2] = 0.5 * (at[3] - at[0]) + 1.5 * (at[1] - at[2]);
    } else if (WINDOW == kGaussian) {
      for (int k = 0; k < 4; ++k) out[k] = at[k];
    } else {
      out[0] = at[1] - at[0];
    }
    for (int k = 0; k < kLooked; ++k)
      table[(image * kLooked + k) * kCells + c] = static_cast<REAL>(out[k]);
  }
}
FIREANTS_KERNEL(parzen_table)

// grad (images, voxels) of sum(slope * joint) by the moving image; zero where it is clamped.
extern "C" __global__ void __launch_bounds__(256)
parzen_grad(ParzenShape s, const REAL* __restrict__ moving, const REAL* __restrict__ fixed,
            const REAL* __restrict__ weight, const REAL* __restrict__ ranges,
            const REAL* __restrict__ table, REAL* __restrict__ grad) {
  __shared__ REAL held[kTableFits ? kPadded * kLooked : 1];
  const long long image = blockIdx.y;
  const Source source(s, moving, fixed, weight, ranges, image);
  const REAL* own = table + image * kLooked * kCells;
  if (kTableFits) {
    for (int k = threadIdx.x; k < kLooked * kCells; k += kThreads)
      held[k / BINS * kPitch + k % BINS] = own[k];
    __syncthreads();
  }
  REAL* out = grad + image * s.voxels;
  each_sample(s.voxels, source.moving, source.fixed, source.weight,
              [&](long long at, REAL m, REAL f, REAL w) {
    const Binned b = binned<false>(m, f, source.m_range, source.f_range);
    REAL c[kLooked];
#pragma unroll
    for (int k = 0; k < kLooked; ++k)
      c[k] = kTableFits ? held[k * kPadded + b.row * kPitch + b.first]
                        : own[k * kCells + static_cast<long long>(b.row) * BINS + b.first];
    const REAL seen = b.known ? slope_at(b.frac, c) * w : not_a_number<REAL>();
    out[at] = b.share < REAL(0) || b.share > REAL(1) ? REAL(0) : seen;
  });
}
FIREANTS_KERNEL(parzen_grad)
