// The maths of one sample, shared by the CPU library and the CUDA kernels.
//
// Axes are numbered as arrays are: 0 is the slowest. Coordinates are in voxels.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define FIREANTS_HD __host__ __device__ __forceinline__
#else
#define FIREANTS_HD inline
#endif

namespace fireants {

// Where one coordinate falls along an axis of n samples: the samples `at` and `at + up` with the
// weights w0 and w1, whose derivatives by the coordinate are d0 and d1. `up` is 1 wherever there are
// two samples, the same for all coordinates.
template <class T>
struct Place {
  int at, up;
  T w0, w1, d0, d1;
};

// Beyond the samples the border value goes on, without slope. A NaN counts as 0: whoever calls
// makes its result NaN.
template <class T>
FIREANTS_HD Place<T> place_border(T c, int n) {
  const T top = static_cast<T>(n - 1);
  const T inside = c > T(0) ? (c < top ? c : top) : T(0);
  int at = static_cast<int>(inside);
  const int last = n > 1 ? n - 2 : 0;
  at = at < last ? at : last;
  const T f = inside - static_cast<T>(at);
  const T slope = (c > T(0) && c < top) ? T(1) : T(0);
  return {at, n > 1 ? 1 : 0, T(1) - f, f, -slope, slope};
}

// Beyond the samples there are zeros: the value falls to 0 within one voxel.
template <class T>
FIREANTS_HD Place<T> place_zeros(T c, int n) {
  const T end = static_cast<T>(n);
  const T inside = c > T(-1) ? (c < end ? c : end) : T(-1);
  const int low = static_cast<int>(inside + T(1)) - 1;  // floor, for values above -1
  const T f = inside - static_cast<T>(low);
  const int last = n > 1 ? n - 2 : 0;
  const bool in0 = low >= 0 && low < n, in1 = c > T(-1) && low + 1 < n;
  const T a0 = in0 ? T(1) - f : T(0), a1 = in1 ? f : T(0);
  const T e0 = in0 ? T(-1) : T(0), e1 = in1 ? T(1) : T(0);
  // where only one of the two is a sample, the other's place is taken by its inner neighbour
  const bool before = low < 0, beyond = low > last;
  Place<T> p;
  p.at = before ? 0 : (beyond ? last : low);
  p.up = n > 1 ? 1 : 0;
  p.w0 = before ? a1 : (beyond ? T(0) : a0);
  p.w1 = before ? T(0) : (beyond ? a0 : a1);
  p.d0 = before ? e1 : (beyond ? T(0) : e0);
  p.d1 = before ? T(0) : (beyond ? e0 : e1);
  return p;
}

}  // namespace fireants
