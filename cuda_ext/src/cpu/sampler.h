// Rows of samples at `A (x + s u(x)) + t`, a strip of lanes at a time: the coordinates and weights
// of a strip are computed side by side (the compiler makes vectors of them), then all channels are
// gathered with them.
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>

#include "core.h"

namespace fireants {

constexpr int kLanes = 32;

// sizes along array axes 0..D-1 of the sampled image and of the output; strides in samples
template <int D>
struct Extent {
  int n[D];
  int64_t stride[D];
  int64_t voxels;
};

template <int D>
Extent<D> extent_of(const int64_t* sizes3) {
  Extent<D> e;
  int64_t stride = 1;
  for (int a = D - 1; a >= 0; --a) {
    e.n[a] = static_cast<int>(sizes3[a + 3 - D]);
    e.stride[a] = stride;
    stride *= e.n[a];
  }
  e.voxels = stride;
  return e;
}

// A (D x D) and t (D) of one row, from (D, D + 1) doubles
template <class T, int D>
struct Map {
  T a[D][D];
  double t[D];

  explicit Map(const double* m) {
    for (int i = 0; i < D; ++i) {
      for (int k = 0; k < D; ++k) a[i][k] = static_cast<T>(m[i * (D + 1) + k]);
      t[i] = m[i * (D + 1) + D];
    }
  }
};

// Index: int32_t where an image has fewer than 2^31 voxels (twice as many lanes), else int64_t.
template <class T, int D, class Index>
struct Strip {
  Index base[kLanes];  // of the lowest corner
  Index up[D];         // from one corner to the next along each axis
  T w0[D][kLanes], w1[D][kLanes], d0[D][kLanes], d1[D][kLanes];
  T flag[kLanes];  // 0, or NaN where a coordinate is NaN

  // Lanes [0, count) hold the output voxels (index[0..D-2], x0 + lane); u: the row's displacement
  // at x0 with `u_stride` between channels, or null.
  template <bool Border>
  void place(const Map<T, D>& map, const Extent<D>& in, const int* index, int x0, int count,
             const T* u, int64_t u_stride, T scale) {
    T c[D][kLanes];
    for (int i = 0; i < D; ++i) {
      double start = map.t[i];
      for (int k = 0; k + 1 < D; ++k) start += static_cast<double>(map.a[i][k]) * index[k];
      start += static_cast<double>(map.a[i][D - 1]) * x0;
      const T first = static_cast<T>(start), along = map.a[i][D - 1];
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) c[i][l] = first + along * static_cast<T>(l);
      if (u) {
        for (int k = 0; k < D; ++k) {
          const T m = map.a[i][k] * scale;
          if (m == T(0)) continue;
          const T* from = u + k * u_stride;
          if (count == kLanes) {
#pragma omp simd
            for (int l = 0; l < kLanes; ++l) c[i][l] += m * from[l];
          } else {
            for (int l = 0; l < count; ++l) c[i][l] += m * from[l];
          }
        }
      }
    }
    locate<Border>(c, in);
  }

  // Where the coordinates `c` (voxels of the image) fall.
  template <bool Border>
  void locate(const T c[D][kLanes], const Extent<D>& in) {
    Index at[D][kLanes];
    for (int i = 0; i < D; ++i) {
      const int n = in.n[i];
      const Index stride = static_cast<Index>(in.stride[i]);
      up[i] = n > 1 ? stride : 0;
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) {
        const Place<T> p = Border ? place_border(c[i][l], n) : place_zeros(c[i][l], n);
        at[i][l] = p.at * stride;
        w0[i][l] = p.w0;
        w1[i][l] = p.w1;
        d0[i][l] = p.d0;
        d1[i][l] = p.d1;
      }
    }
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      Index sum = at[D - 2][l] + at[D - 1][l];
      bool known = c[D - 2][l] == c[D - 2][l] && c[D - 1][l] == c[D - 1][l];
      if constexpr (D == 3) {
        sum += at[0][l];
        known = known && c[0][l] == c[0][l];
      }
      base[l] = sum;
      flag[l] = known ? T(0) : std::numeric_limits<T>::quiet_NaN();
    }
  }

  // The corners of every lane, [pair][2 * lane + side]: the two along the last axis lie side by side,
  // bit a of the pair: upper along axis D-2-a.
  void gather(const T* image, int count, T corner[1 << (D - 1)][2 * kLanes]) const {
    const Index z = D == 3 ? up[0] : 0, y = up[D - 2];
    if (up[D - 1] == 0) {
      for (int l = 0; l < count; ++l)
        for (int k = 0; k < (1 << (D - 1)); ++k)
          corner[k][2 * l] = corner[k][2 * l + 1] = image[base[l] + (k & 1) * y + (k >> 1) * z];
      return;
    }
    for (int l = 0; l < count; ++l) {
      const T* p = image + base[l];
      std::memcpy(&corner[0][2 * l], p, 2 * sizeof(T));
      std::memcpy(&corner[1][2 * l], p + y, 2 * sizeof(T));
      if constexpr (D == 3) {
        std::memcpy(&corner[2][2 * l], p + z, 2 * sizeof(T));
        std::memcpy(&corner[3][2 * l], p + z + y, 2 * sizeof(T));
      }
    }
  }

  void values(const T* image, int count, T* out) const {
    T v[1 << (D - 1)][2 * kLanes], result[kLanes];
    gather(image, count, v);
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      const T x0 = w0[D - 1][l], x1 = w1[D - 1][l], y0 = w0[D - 2][l], y1 = w1[D - 2][l];
      const int a = 2 * l, b = 2 * l + 1;
      T s = y0 * (x0 * v[0][a] + x1 * v[0][b]) + y1 * (x0 * v[1][a] + x1 * v[1][b]);
      if constexpr (D == 3) {
        const T high = y0 * (x0 * v[2][a] + x1 * v[2][b]) + y1 * (x0 * v[3][a] + x1 * v[3][b]);
        s = w0[0][l] * s + w1[0][l] * high;
      }
      result[l] = s + flag[l];
    }
    for (int l = 0; l < count; ++l) out[l] = result[l];
  }

  // slope[a][lane] += grad[lane] * d(value)/d(coordinate a), grad 1 where it is null; the values
  // too where `value` is not.
  void slopes(const T* image, const T* grad, int count, T slope[D][kLanes],
              T* value = nullptr) const {
    T v[1 << (D - 1)][2 * kLanes], g[kLanes], result[kLanes];
    gather(image, count, v);
    for (int l = 0; l < kLanes; ++l) g[l] = l < count ? (grad ? grad[l] : T(1)) : T(0);
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      const T x0 = w0[D - 1][l], x1 = w1[D - 1][l], y0 = w0[D - 2][l], y1 = w1[D - 2][l];
      const T ex0 = d0[D - 1][l], ex1 = d1[D - 1][l], ey0 = d0[D - 2][l], ey1 = d1[D - 2][l];
      const int a = 2 * l, b = 2 * l + 1;
      const T a0 = x0 * v[0][a] + x1 * v[0][b], a1 = x0 * v[1][a] + x1 * v[1][b];
      const T b0 = ex0 * v[0][a] + ex1 * v[0][b], b1 = ex0 * v[1][a] + ex1 * v[1][b];
      const T seen = flag[l] == T(0) ? g[l] : T(0);
      T low = y0 * a0 + y1 * a1, low_y = ey0 * a0 + ey1 * a1, low_x = y0 * b0 + y1 * b1;
      if constexpr (D == 3) {
        const T c0 = x0 * v[2][a] + x1 * v[2][b], c1 = x0 * v[3][a] + x1 * v[3][b];
        const T e0 = ex0 * v[2][a] + ex1 * v[2][b], e1 = ex0 * v[3][a] + ex1 * v[3][b];
        const T high = y0 * c0 + y1 * c1, high_y = ey0 * c0 + ey1 * c1, high_x = y0 * e0 + y1 * e1;
        const T z0 = w0[0][l], z1 = w1[0][l];
        slope[0][l] += seen * (d0[0][l] * low + d1[0][l] * high);
        low = z0 * low + z1 * high;
        low_y = z0 * low_y + z1 * high_y;
        low_x = z0 * low_x + z1 * high_x;
      }
      slope[D - 2][l] += seen * low_y;
      slope[D - 1][l] += seen * low_x;
      result[l] = low + flag[l];
    }
    if (value)
      for (int l = 0; l < count; ++l) value[l] = result[l];
  }
};

}  // namespace fireants
