// What LNCC does with the means of one window: shared by the kernels of a known radius and those of
// any. Formulas: `kernels/lncc.py`; J is the moving image, I the fixed one.
//
// SQUARED: the score is the correlation squared. MASK: there is one, samples count by their share in it. SLOPES: what is kept of a window for the
// gradients: none (0), a, 2 b_J and a E[I] + 2 b_J E[J] (3), also 2 b_I and a E[J] + 2 b_I E[I] (5,
// where both gradients are wanted). EXACT: these are then summed over windows.
#pragma once
#include "common.cuh"

namespace fireants {

// What windows sum: J, J^2, I, I^2, IJ, each times the mask if there is one, and the mask.
constexpr int kImages = MASK ? 3 : 2, kSums = MASK ? 6 : 5;

constexpr double kCountMin = 1e-3;  // of a masked window

constexpr int kSlopes = SLOPES > 0 ? SLOPES : 1;  // arrays are not empty

// One over the count of a masked window.
__device__ __forceinline__ REAL inverse_count(REAL count) {
  const REAL least = static_cast<REAL>(kCountMin);
  return REAL(1) / (count < least ? least : count);
}

struct Inputs {
  const REAL *moving, *fixed, *mask;
  const double *moving_scaling, *fixed_scaling;  // (rows, 2) of centre and factor, or null
};

__device__ __forceinline__ long long voxels_of(const LnccShape& s) {
  return static_cast<long long>(s.size[0]) * s.size[1] * s.size[2];
}

// The images of one volume (one channel of one row) as LNCC sees them.
struct Volume {
  const REAL* image[3];  // J, I, the mask
  REAL centre[2], factor[2];

  __device__ __forceinline__ Volume(const LnccShape& s, const Inputs& from, long long volume) {
    const long long row = volume / s.channels, voxels = voxels_of(s);
    image[0] = from.moving + volume * voxels;
    image[1] = from.fixed + volume * voxels;
    image[2] = MASK ? from.mask + (s.mask_rows == 1 ? 0 : row) * voxels : nullptr;
    for (int n = 0; n < 2; ++n) {
      const double* scaling = n == 0 ? from.moving_scaling : from.fixed_scaling;
      centre[n] = scaling ? static_cast<REAL>(scaling[2 * row]) : REAL(0);
      factor[n] = scaling ? static_cast<REAL>(scaling[2 * row + 1]) : REAL(1);
    }
  }

  __device__ __forceinline__ REAL at(int n, long long where) const {
    const REAL value = image[n][where];
    return n == 2 ? value : (value - centre[n]) * factor[n];
  }
};

// The weight of a volume's windows: one number or one for each.
struct Weight {
  const REAL* from;
  bool field;

  __device__ __forceinline__ Weight(const LnccShape& s, const REAL* weight, long long volume)
      : field(s.weight_field != 0) {
    const long long row = volume / s.channels, channel = volume % s.channels;
    const long long number = (s.weight_rows == 1 ? 0 : row) * s.weight_channels +
                             (s.weight_channels == 1 ? 0 : channel);
    from = weight + (field ? number * voxels_of(s) : number);
  }

  __device__ __forceinline__ REAL at(long long where) const { return from[field ? where : 0]; }
};

// Number f of what windows sum, of a sample v: J, I and the mask.
__device__ __forceinline__ REAL product(int f, const REAL* v) {
  if (f == 5) return v[kImages - 1];
  const REAL first = f < 2 || f == 4 ? v[0] : v[1];
  const REAL shared = MASK ? v[kImages - 1] * first : first;
  return f == 0 || f == 2 ? shared : shared * (f == 1 ? v[0] : v[1]);
}

// Weighted score of a window from its sums, and its slopes. inverse: one over the count; share: what
// slopes are multiplied by.
__device__ __forceinline__ REAL correlate(const LnccShape& s, const REAL* sum, REAL inverse,
                                          REAL weight, REAL share, REAL* slope) {
  const REAL mj = sum[0] * inverse, mi = sum[2] * inverse;
  const REAL cross = sum[4] * inverse - mi * mj, epsilon = static_cast<REAL>(s.epsilon);
  REAL vj = sum[1] * inverse - mj * mj, vi = sum[3] * inverse - mi * mi;
  vj = (vj < REAL(0) ? REAL(0) : vj) + epsilon;  // a NaN stays
  vi = (vi < REAL(0) ? REAL(0) : vi) + epsilon;
  const REAL both = REAL(1) / (SQUARED ? vi * vj : sqrt(vi * vj));
  const REAL score = cross * (SQUARED ? cross * both : both);
  if (SLOPES > 0) {
    const REAL a = share * (SQUARED ? 2 * cross * both : both);
    const REAL half = SQUARED ? -cross * a * both : -cross * a * both * both;
    const REAL b = half * vi;
    slope[0] = a;
    slope[1] = b;
    slope[2] = a * mi + b * mj;
    if (SLOPES > 3) {
      const REAL c = half * vj;
      slope[SLOPES - 2] = c;
      slope[SLOPES - 1] = a * mj + c * mi;
    }
  }
  return score * weight;
}

// The gradients at a sample from the slopes, summed over the windows around it or its own.
__device__ __forceinline__ void write_gradients(const Volume& own, long long where,
                                                const REAL* slope, REAL* by_moving,
                                                REAL* by_fixed) {
  const REAL j = own.at(0, where), i = own.at(1, where);
  const REAL share = MASK ? own.at(2, where) : REAL(1);
  by_moving[where] = share * own.factor[0] * (slope[0] * i + slope[1] * j - slope[2]);
  if (SLOPES > 3)
    by_fixed[where] = share * own.factor[1] *
                      (slope[0] * j + slope[SLOPES - 2] * i - slope[SLOPES - 1]);
}

}  // namespace fireants
