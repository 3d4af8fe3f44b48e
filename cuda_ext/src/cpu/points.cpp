// An image at given coordinates, and the points that a warp takes to given places.
#include <algorithm>
#include <cmath>
#include <utility>

#include "cpu/api.h"
#include "cpu/pool.h"
#include "cpu/sampler.h"

namespace fireants {
namespace {

constexpr int64_t kPointsPerPiece = 64 * kLanes;

template <class T, int D, class Index, bool Border>
void sample(const SampleShape& s, const T* image, const T* coords, T* out) {
  const auto in = extent_of<D>(s.in);
  const int64_t pieces = (s.samples + kPointsPerPiece - 1) / kPointsPerPiece;
  parallel(s.rows * pieces, s.threads, [&](int64_t k, int) {
    const int64_t row = k / pieces, first = k % pieces * kPointsPerPiece;
    const int64_t stop = std::min(s.samples, first + kPointsPerPiece);
    const T* source = image + (s.image_rows == 1 ? 0 : row) * s.channels * in.voxels;
    const T* place = coords + (s.coord_rows == 1 ? 0 : row) * D * s.samples;
    T* target = out + row * s.channels * s.samples;
    Strip<T, D, Index> strip;
    for (int64_t at = first; at < stop; at += kLanes) {
      const int count = static_cast<int>(std::min<int64_t>(kLanes, stop - at));
      T c[D][kLanes] = {};
      for (int a = 0; a < D; ++a) std::copy_n(place + a * s.samples + at, count, c[a]);
      strip.template locate<Border>(c, in);
      for (int64_t n = 0; n < s.channels; ++n)
        strip.values(source + n * in.voxels, count, target + n * s.samples + at);
    }
  });
}

// u(p) and its derivatives slope[c][a] = d u_c / d p_a within the cell of p.
template <class T, int D>
void at_point(const Extent<D>& grid, const T* u, const T p[D], T value[D], T slope[D][D]) {
  Place<T> place[D];
  int64_t base = 0;
  for (int a = 0; a < D; ++a) {
    place[a] = place_border(p[a], grid.n[a]);
    base += place[a].at * grid.stride[a];
  }
  const int64_t x = place[D - 1].up * grid.stride[D - 1], y = place[D - 2].up * grid.stride[D - 2];
  const int64_t z = D == 3 ? place[0].up * grid.stride[0] : 0;
  const Place<T>&px = place[D - 1], &py = place[D - 2];
  for (int c = 0; c < D; ++c) {
    const T* v = u + c * grid.voxels + base;
    T sum[2], by_y[2], by_x[2];
    for (int k = 0; k < D - 1; ++k, v += z) {
      const T a0 = px.w0 * v[0] + px.w1 * v[x], a1 = px.w0 * v[y] + px.w1 * v[y + x];
      const T b0 = px.d0 * v[0] + px.d1 * v[x], b1 = px.d0 * v[y] + px.d1 * v[y + x];
      sum[k] = py.w0 * a0 + py.w1 * a1;
      by_y[k] = py.d0 * a0 + py.d1 * a1;
      by_x[k] = py.w0 * b0 + py.w1 * b1;
    }
    if constexpr (D == 3) {
      const Place<T>& pz = place[0];
      value[c] = pz.w0 * sum[0] + pz.w1 * sum[1];
      slope[c][0] = pz.d0 * sum[0] + pz.d1 * sum[1];
      slope[c][1] = pz.w0 * by_y[0] + pz.w1 * by_y[1];
      slope[c][2] = pz.w0 * by_x[0] + pz.w1 * by_x[1];
    } else {
      value[c] = sum[0];
      slope[c][0] = by_y[0];
      slope[c][1] = by_x[0];
    }
  }
}

// way: the solution of (I + slope) way = gap, at most two voxels long; gap itself where there is
// none. An axis without displacement gets none.
template <class T, int D>
void newton(const T slope[D][D], const T gap[D], T way[D]) {
  T m[D][D + 1];
  for (int i = 0; i < D; ++i) {
    for (int j = 0; j < D; ++j) m[i][j] = slope[i][j] + T(i == j);
    m[i][D] = gap[i];
  }
  for (int i = 0; i < D; ++i) {
    int pivot = i;
    for (int k = i + 1; k < D; ++k)
      if (std::abs(m[k][i]) > std::abs(m[pivot][i])) pivot = k;
    if (!(std::abs(m[pivot][i]) > T(1e-3))) {
      std::copy_n(gap, D, way);
      return;
    }
    if (pivot != i) std::swap(m[i], m[pivot]);
    for (int k = i + 1; k < D; ++k) {
      const T f = m[k][i] / m[i][i];
      for (int j = i; j <= D; ++j) m[k][j] -= f * m[i][j];
    }
  }
  T length = 0;
  for (int i = D - 1; i >= 0; --i) {
    way[i] = m[i][D];
    for (int j = i + 1; j < D; ++j) way[i] -= m[i][j] * way[j];
    way[i] /= m[i][i];
    length += way[i] * way[i];
  }
  const T longest = T(2);
  if (length > longest * longest)
    for (int i = 0; i < D; ++i) way[i] *= longest / std::sqrt(length);
}

// One point: p with p + u(p) = target, searched from `p`; stays at the nearest that was met.
template <class T, int D>
void solve(const PointShape& s, const Extent<D>& grid, const T* u, const T target[D], T p[D]) {
  T value[D], slope[D][D], gap[D];
  auto measure = [&](const T at[D], T far[D]) {
    T sum = 0;
    at_point<T, D>(grid, u, at, value, slope);
    for (int a = 0; a < D; ++a) {
      far[a] = at[a] + value[a] - target[a];
      sum += far[a] * far[a];
    }
    return std::sqrt(sum);
  };
  T size = measure(p, gap);
  for (int step = 0; step < s.steps && size > static_cast<T>(s.tolerance); ++step) {
    T way[D], trial[D], far[D];
    newton<T, D>(slope, gap, way);
    bool better = false;
    for (int k = 0; k < 5 && !better; ++k) {  // the last: a step of the fixed-point iteration
      const T damping[5] = {T(1), T(0.5), T(0.2), T(0.05), T(1)};
      for (int a = 0; a < D; ++a) trial[a] = p[a] - damping[k] * (k < 4 ? way : gap)[a];
      const T now = measure(trial, far);
      better = now < size;
      if (better) size = now;
    }
    if (!better) return;
    std::copy_n(trial, D, p);
    std::copy_n(far, D, gap);
  }
}

template <class T, int D>
void solve_points(const PointShape& s, const T* u, const T* start, const T* target, T* out) {
  const auto grid = extent_of<D>(s.size);
  const int64_t pieces = (s.samples + kPointsPerPiece - 1) / kPointsPerPiece;
  parallel(pieces, s.threads, [&](int64_t k, int) {
    const int64_t stop = std::min(s.samples, (k + 1) * kPointsPerPiece);
    for (int64_t i = k * kPointsPerPiece; i < stop; ++i) {
      T goal[D], p[D];
      for (int a = 0; a < D; ++a) {
        goal[a] = target[a * s.samples + i];
        p[a] = start[a * s.samples + i];
      }
      solve<T, D>(s, grid, u, goal, p);
      for (int a = 0; a < D; ++a) out[a * s.samples + i] = p[a];
    }
  });
}

template <class T, int D>
void sample_in(const SampleShape& s, const T* image, const T* coords, T* out) {
  if (s.in[0] * s.in[1] * s.in[2] >= (int64_t(1) << 31)) {
    if (s.border) return sample<T, D, int64_t, true>(s, image, coords, out);
    return sample<T, D, int64_t, false>(s, image, coords, out);
  }
  if (s.border) return sample<T, D, int32_t, true>(s, image, coords, out);
  return sample<T, D, int32_t, false>(s, image, coords, out);
}

}  // namespace
}  // namespace fireants

#define FIREANTS_POINTS(SUFFIX, T)                                                                \
  FIREANTS_API int fireants_sample_##SUFFIX(const fireants::SampleShape* s, const T* image,       \
                                            const T* coords, T* out) {                            \
    return fireants::guarded([&] {                                                                \
      if (s->dim == 3) return fireants::sample_in<T, 3>(*s, image, coords, out);                  \
      return fireants::sample_in<T, 2>(*s, image, coords, out);                                   \
    });                                                                                           \
  }                                                                                               \
  FIREANTS_API int fireants_solve_points_##SUFFIX(const fireants::PointShape* s, const T* u,      \
                                                  const T* start, const T* target, T* out) {      \
    return fireants::guarded([&] {                                                                \
      if (s->dim == 3) return fireants::solve_points<T, 3>(*s, u, start, target, out);            \
      return fireants::solve_points<T, 2>(*s, u, start, target, out);                             \
    });                                                                                           \
  }

FIREANTS_POINTS(f32, float)
FIREANTS_POINTS(f64, double)
