// Levenberg-Marquardt at one voxel, shared by the CPU library and the CUDA kernels.
#pragma once
#if !defined(__CUDACC_RTC__)
#include <cmath>
#endif

#include "core.h"

namespace fireants {

// Of one pair: what brings its vectors into units of their root mean square, NaN where one of them
// is; the damping l of those; -2 sqrt(l).
template <class T>
struct Damping {
  T unit, level, by;

  FIREANTS_HD Damping(double mean_square, double l, double tiny)
      : level(static_cast<T>(l)), by(static_cast<T>(-2 * sqrt(l))) {
    const double size = sqrt(mean_square);
    unit = static_cast<T>(1 / (size < tiny ? tiny : size));
  }
};

// sums += the upper triangle of g g^T, row by row. No loops: g++ makes vectors of many voxels.
template <class T>
FIREANTS_HD void add_products(const T (&g)[2], T (&sums)[3]) {
  sums[0] += g[0] * g[0];
  sums[1] += g[0] * g[1];
  sums[2] += g[1] * g[1];
}

template <class T>
FIREANTS_HD void add_products(const T (&g)[3], T (&sums)[6]) {
  sums[0] += g[0] * g[0];
  sums[1] += g[0] * g[1];
  sums[2] += g[0] * g[2];
  sums[3] += g[1] * g[1];
  sums[4] += g[1] * g[2];
  sums[5] += g[2] * g[2];
}

// out = by (A + l I)^-1 g, by cofactors; a: the upper triangle of A.
template <class T>
FIREANTS_HD void solve(const T (&a)[3], const T (&g)[2], T l, T by, T (&out)[2]) {
  const T p = a[0] + l, q = a[1], r = a[2] + l;
  const T factor = by / (p * r - q * q);
  out[0] = (r * g[0] - q * g[1]) * factor;
  out[1] = (p * g[1] - q * g[0]) * factor;
}

template <class T>
FIREANTS_HD void solve(const T (&a)[6], const T (&g)[3], T l, T by, T (&out)[3]) {
  const T p = a[0] + l, x = a[1], y = a[2], q = a[3] + l, z = a[4], r = a[5] + l;
  const T c00 = q * r - z * z, c01 = y * z - x * r, c02 = x * z - y * q;
  const T c11 = p * r - y * y, c12 = x * y - p * z, c22 = p * q - x * x;
  const T factor = by / (p * c00 + x * c01 + y * c02);
  out[0] = (c00 * g[0] + c01 * g[1] + c02 * g[2]) * factor;
  out[1] = (c01 * g[0] + c11 * g[1] + c12 * g[2]) * factor;
  out[2] = (c02 * g[0] + c12 * g[1] + c22 * g[2]) * factor;
}

}  // namespace fireants
