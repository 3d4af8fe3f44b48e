// Determinants of the Jacobian of x + u(x): central differences, and the strict test for folds.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/api.h"
#include "cpu/pool.h"

namespace fireants {

namespace {

constexpr int kStrip = 32;  // voxels along the last axis, computed side by side
constexpr int64_t kLinesPerPiece = 16;

// Products that are rounded before they are subtracted, as torch does it: what the compiler fuses
// has another sign where a determinant is about 0.
struct Rounded {
  template <class T>
  static T times(T a, T b) {
    volatile T product = a * b;
    return product;
  }
};

struct Fused {
  template <class T>
  static T times(T a, T b) {
    return a * b;
  }
};

// d(phi)/d(axis) of one voxel. Members, not arrays: the compiler keeps them in registers of lanes.
template <class T, int D>
struct Row {
  T x, y, z;

  template <int N>
  Row(const T (&component)[D][N], int l)
      : x(component[0][l]), y(component[1][l]), z(component[D - 1][l]) {}

  T size() const { return std::abs(x) + std::abs(y) + (D == 3 ? std::abs(z) : T(0)); }
};

// The determinant of the rows, in the order of `kernels.jacobian`.
template <class P, class T>
inline T determinant(const Row<T, 2>& a, const Row<T, 2>& b) {
  return P::times(a.x, b.y) - P::times(a.y, b.x);
}

template <class P, class T>
inline T determinant(const Row<T, 3>& a, const Row<T, 3>& b, const Row<T, 3>& c) {
  const T x = P::times(b.y, c.z) - P::times(b.z, c.y);
  const T y = P::times(b.x, c.z) - P::times(b.z, c.x);
  const T z = P::times(b.x, c.y) - P::times(b.y, c.x);
  return P::times(a.x, x) - P::times(a.y, y) + P::times(a.z, z);
}

// One line along the last axis: the lines of u before and after it along the other axes. `low` is
// the offset from the line to the earlier, `high` to the later neighbour, 0 at the border.
struct Line {
  int64_t at, low[2], high[2];
};

// line(row, Line) for every line of every row, some at a time.
template <int D, class Body>
void lines(const JacobianShape& s, Body&& body) {
  const int64_t count = s.size[0] * s.size[1], width = s.size[2];
  const int64_t blocks = (count + kLinesPerPiece - 1) / kLinesPerPiece;
  parallel(s.rows * blocks, s.threads, [&](int64_t piece, int) {
    const int64_t row = piece / blocks, first = piece % blocks * kLinesPerPiece;
    for (int64_t k = first; k < std::min(count, first + kLinesPerPiece); ++k) {
      const int64_t index[2] = {k / s.size[1], k % s.size[1]};
      const int64_t stride[2] = {s.size[1] * width, width};
      Line line{k * width, {}, {}};
      for (int a = 3 - D; a < 2; ++a) {
        line.low[a] = index[a] > 0 ? -stride[a] : 0;
        line.high[a] = index[a] + 1 < s.size[a] ? stride[a] : 0;
      }
      body(row, line);
    }
  });
}

// All differences of a strip: [axis][side][component][lane] of phi; side 0 backward, 1 forward, at
// the border both the one that there is.
template <class T, int D>
struct Sides {
  T d[D][2][D][kStrip];
  T along[kStrip + 1];

  // u: the row's field at the line; voxels [x0, x0 + count) of `width`
  void take(const T* u, int64_t channel, const Line& line, int64_t x0, int count, int64_t width) {
    for (int i = 0; i < D; ++i) {
      const T* here = u + i * channel + x0;
      for (int a = 0; a + 1 < D; ++a) {
        const int64_t low = line.low[a + 3 - D], high = line.high[a + 3 - D];
        const T one = i == a ? T(1) : T(0);
        const T *from = here + low, *to = here + high;
        if (low && high) {
          for (int l = 0; l < count; ++l) d[a][0][i][l] = here[l] - from[l] + one;
          for (int l = 0; l < count; ++l) d[a][1][i][l] = to[l] - here[l] + one;
        } else {  // of an axis of one sample: u(x) - u(x) would not be 0 for infinite u
          const bool flat = !low && !high;
          for (int l = 0; l < count; ++l)
            d[a][0][i][l] = d[a][1][i][l] = (flat ? T(0) : to[l] - from[l]) + one;
        }
      }
      // along[l]: from voxel x0 + l - 1 to x0 + l
      const bool starts = x0 == 0, ends = x0 + count == width;
      const T one = i + 1 == D ? T(1) : T(0);
      for (int l = starts; l < count + !ends; ++l) along[l] = here[l] - here[l - 1] + one;
      if (width == 1) {
        along[0] = along[1] = one;
      } else {
        if (starts) along[0] = along[1];
        if (ends) along[count] = along[count - 1];
      }
      for (int l = 0; l < count; ++l) d[D - 1][0][i][l] = along[l];
      for (int l = 0; l < count; ++l) d[D - 1][1][i][l] = along[l + 1];
    }
  }

  void clear() { std::fill(&d[0][0][0][0], &d[0][0][0][0] + 2 * D * D * kStrip, T(0)); }

  Row<T, D> row(int axis, int side, int l) const { return {d[axis][side], l}; }

  // The least determinant of lane l (NaN do not count), and what its rounding is relative to:
  // infinite or NaN wherever a determinant can be.
  void least(int l, T* det, T* size) const {
    const auto a0 = row(0, 0, l), a1 = row(0, 1, l), b0 = row(1, 0, l), b1 = row(1, 1, l);
    const auto lower = [](T p, T q) { return p < q ? p : q; };
    T low, scale = b0.size() + b1.size();
    if constexpr (D == 3) {
      const auto c0 = row(2, 0, l), c1 = row(2, 1, l);
      const auto both = [&](const Row<T, 3>& b, const Row<T, 3>& c) {
        return lower(determinant<Fused>(a0, b, c), determinant<Fused>(a1, b, c));
      };
      low = lower(lower(both(b0, c0), both(b0, c1)), lower(both(b1, c0), both(b1, c1)));
      scale = scale * (c0.size() + c1.size());
    } else {
      low = lower(lower(determinant<Fused>(a0, b0), determinant<Fused>(a0, b1)),
                  lower(determinant<Fused>(a1, b0), determinant<Fused>(a1, b1)));
    }
    *det = low;
    *size = (a0.size() + a1.size()) * scale;
  }

  // Each determinant computed exactly as torch does.
  bool folds(int l) const {
    for (int choice = 0; choice < (1 << D); ++choice) {
      const auto a = row(0, choice & 1, l), b = row(1, (choice >> 1) & 1, l);
      T det;
      if constexpr (D == 3)
        det = determinant<Rounded>(a, b, row(2, choice >> 2, l));
      else
        det = determinant<Rounded>(a, b);
      if (!(det > T(0))) return true;
    }
    return false;
  }
};

// mask = 1 where any of the 2^D one-sided determinants is not positive. Signs that no rounding can
// turn are taken from the fused products; the few other voxels are computed as torch does.
template <class T, int D>
void strict(const JacobianShape& s, const T* u, uint8_t* mask) {
  const int64_t width = s.size[2], voxels = s.size[0] * s.size[1] * width;
  // of sums of products of the rows' sizes; some 5 roundings each
  constexpr T kRounding = T(16) * std::numeric_limits<T>::epsilon();
  lines<D>(s, [&](int64_t row, const Line& line) {
    Sides<T, D> sides;
    T least[kStrip], margin[kStrip];
    for (int64_t x0 = 0; x0 < width; x0 += kStrip) {
      const int count = static_cast<int>(std::min<int64_t>(kStrip, width - x0));
      if (count < kStrip) sides.clear();
      sides.take(u + row * D * voxels + line.at, voxels, line, x0, count, width);
#pragma omp simd
      for (int l = 0; l < kStrip; ++l) {
        T size;
        sides.least(l, &least[l], &size);
        margin[l] = kRounding * size + std::numeric_limits<T>::min();
      }
      uint8_t* out = mask + row * voxels + line.at + x0;
      for (int l = 0; l < count; ++l) {
        if (least[l] > margin[l])
          out[l] = 0;
        else
          out[l] = least[l] < -margin[l] || sides.folds(l);
      }
    }
  });
}

// det (rows, voxels) by central differences, one-sided at the border.
template <class T, int D>
void central(const JacobianShape& s, const T* u, T* det) {
  const int64_t width = s.size[2], voxels = s.size[0] * s.size[1] * width;
  lines<D>(s, [&](int64_t row, const Line& line) {
    T d[D][D][kStrip] = {};
    const T* field = u + row * D * voxels + line.at;
    for (int64_t x0 = 0; x0 < width; x0 += kStrip) {
      const int count = static_cast<int>(std::min<int64_t>(kStrip, width - x0));
      for (int i = 0; i < D; ++i) {
        const T* here = field + i * voxels + x0;
        for (int a = 0; a + 1 < D; ++a) {
          const int64_t low = line.low[a + 3 - D], high = line.high[a + 3 - D];
          const T *from = here + low, *to = here + high;
          const T one = i == a ? T(1) : T(0), half = low && high ? T(0.5) : T(1);
          if (low || high)
            for (int l = 0; l < count; ++l) d[a][i][l] = (to[l] - from[l]) * half + one;
          else
            std::fill(d[a][i], d[a][i] + kStrip, one);
        }
        const T one = i + 1 == D ? T(1) : T(0);
        const int first = x0 == 0, last = count - (x0 + count == width);
        T* along = d[D - 1][i];
        for (int l = first; l < last; ++l) along[l] = (here[l + 1] - here[l - 1]) * T(0.5) + one;
        if (first) along[0] = (width > 1 ? here[1] - here[0] : T(0)) + one;
        if (last < count && width > 1) along[last] = here[last] - here[last - 1] + one;
      }
      T values[kStrip];
#pragma omp simd
      for (int l = 0; l < kStrip; ++l) {
        const Row<T, D> a(d[0], l), b(d[1], l);
        if constexpr (D == 3)
          values[l] = determinant<Fused>(a, b, Row<T, D>(d[D - 1], l));
        else
          values[l] = determinant<Fused>(a, b);
      }
      std::copy(values, values + count, det + row * voxels + line.at + x0);
    }
  });
}

}  // namespace
}  // namespace fireants

using fireants::JacobianShape;

// u (rows, dim, z, y, x) in voxels
#define FIREANTS_JACOBIAN(SUFFIX, T)                                                              \
  FIREANTS_API int fireants_jacobian_##SUFFIX(const JacobianShape* s, const T* u, T* det) {       \
    return fireants::guarded([&] {                                                                \
      if (s->dim == 3)                                                                            \
        fireants::central<T, 3>(*s, u, det);                                                      \
      else                                                                                        \
        fireants::central<T, 2>(*s, u, det);                                                      \
    });                                                                                           \
  }                                                                                               \
  FIREANTS_API int fireants_folds_##SUFFIX(const JacobianShape* s, const T* u, uint8_t* mask) {   \
    return fireants::guarded([&] {                                                                \
      if (s->dim == 3)                                                                            \
        fireants::strict<T, 3>(*s, u, mask);                                                      \
      else                                                                                        \
        fireants::strict<T, 2>(*s, u, mask);                                                      \
    });                                                                                           \
  }

FIREANTS_JACOBIAN(f32, float)
FIREANTS_JACOBIAN(f64, double)
