// Separable smoothing of volumes, all axes in one pass over memory.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/api.h"
#include "cpu/pool.h"

namespace fireants {

namespace {

constexpr int64_t kLines = 32;   // of a strip: it and what it needs stay in the L2 cache
constexpr int64_t kPlanes = 24;  // of a piece, fewer where there would be fewer pieces than
constexpr int64_t kPieces = 32;  // this
constexpr int kBlock = 32;

// Weights 0, 1, 2, ... samples from the middle, as far as they are not 0.
std::vector<double> half_window(double sigma, bool box, int64_t size) {
  const double square = sigma * sigma;
  double whole = std::max(1.0, std::ceil(3 * sigma - 1e-9));
  if (box) whole = std::floor((std::sqrt(1 + 12 * square) - 1) / 2);
  const int64_t n = static_cast<int64_t>(std::min(whole, static_cast<double>(size - 1)));
  std::vector<double> weight(n + 1, 1.0);
  for (int64_t k = 0; k <= n && !box; ++k) weight[k] = std::exp(-0.5 * (k / sigma) * (k / sigma));
  if (box && n < size - 1) {  // the rest of the variance: a part of one more sample at each end
    const double next = (n + 1.0) * (n + 1.0), own = n * (n + 1.0) * (2 * n + 1.0) / 3;
    weight.push_back(std::max(0.0, (square * (2 * n + 1) - own) / (2 * (next - square))));
  }
  return weight;
}

// The taps of one axis, and for each place the inverse of the sum of those that lie inside.
template <class T>
struct Taps {
  int radius = 0;
  bool adjoint;
  std::vector<T> weight, inverse;

  Taps(const SmoothShape& s, int axis, double scale)
      : adjoint(s.adjoint != 0), weight(1, T(1)), inverse(s.size[axis], static_cast<T>(scale)) {
    const int64_t size = s.size[axis];
    if (s.sigma[axis] <= 0 || size <= 1) return;
    const std::vector<double> half = half_window(s.sigma[axis], s.box != 0, size);
    radius = static_cast<int>(half.size() - 1);
    weight.resize(2 * radius + 1);
    for (int k = -radius; k <= radius; ++k) weight[k + radius] = static_cast<T>(half[std::abs(k)]);
    for (int64_t i = 0; i < size; ++i) {
      double sum = 0;
      for (int64_t k = low(i); k <= high(i); ++k) sum += half[std::abs(k)];
      inverse[i] = static_cast<T>(scale / sum);
    }
  }

  int64_t low(int64_t i) const { return -std::min<int64_t>(radius, i); }
  int64_t high(int64_t i) const {
    return std::min<int64_t>(radius, static_cast<int64_t>(inverse.size()) - 1 - i);
  }

  // The weights around place i, [low, high], and what their sum is multiplied by. In the adjoint
  // every sample has its own factor: `own` takes the products, 2 radius + 1 of them.
  const T* around(int64_t i, T* own, T* factor) const {
    *factor = adjoint ? T(1) : inverse[i];
    if (!adjoint) return weight.data() + radius;
    for (int64_t k = low(i); k <= high(i); ++k) own[k + radius] = weight[k + radius] * inverse[i + k];
    return own + radius;
  }
};

// out[0..n) = inverse * sum_k weight[k] from[k * stride + .], k in [low, high]
template <class T>
void blend(const T* from, int64_t stride, const T* weight, int64_t low, int64_t high, T inverse,
           int64_t n, T* out) {
  int64_t x = 0;
  for (; x + kBlock <= n; x += kBlock) {
    T sum[kBlock] = {};
    for (int64_t k = low; k <= high; ++k) {
      const T w = weight[k];
      const T* p = from + k * stride + x;
#pragma omp simd
      for (int l = 0; l < kBlock; ++l) sum[l] += w * p[l];
    }
#pragma omp simd
    for (int l = 0; l < kBlock; ++l) out[x + l] = sum[l] * inverse;
  }
  for (; x < n; ++x) {
    T sum = 0;
    for (int64_t k = low; k <= high; ++k) sum += weight[k] * from[k * stride + x];
    out[x] = sum * inverse;
  }
}

// Along a line: `padded` has `radius` zeros on either side of its n samples, which it may change.
template <class T>
void along(T* padded, const Taps<T>& taps, int64_t n, T* out) {
  T* scaled = taps.adjoint ? padded + taps.radius : out;
  const auto scale = [&] {
#pragma omp simd
    for (int64_t x = 0; x < n; ++x) scaled[x] *= taps.inverse[x];
  };
  if (taps.adjoint) scale();
  blend(padded + taps.radius, int64_t(1), taps.weight.data() + taps.radius, -taps.radius,
        taps.radius, T(1), n, out);
  if (!taps.adjoint) scale();
}

template <class T>
void smooth(const SmoothShape& s, const T* field, T* out) {
  const int64_t nz = s.size[0], ny = s.size[1], nx = s.size[2];
  const Taps<T> z_taps(s, 0, s.scale), y_taps(s, 1, 1), x_taps(s, 2, 1);
  const int64_t strips = (ny + kLines - 1) / kLines;
  const int64_t planes = std::clamp<int64_t>(nz * s.volumes * strips / kPieces, 1, kPlanes);
  const int64_t chunks = (nz + planes - 1) / planes;
  const int rz = z_taps.radius, ry = y_taps.radius, rx = x_taps.radius;
  struct Scratch {
    std::vector<T> plane, line, taps;
  };
  std::vector<Scratch> scratch(std::max<int64_t>(1, s.threads));
  for (auto& own : scratch) {
    own.plane.resize((kLines + 2 * ry) * nx);
    own.line.assign(nx + 2 * rx, T(0));
    own.taps.resize(2 * std::max(rz, ry) + 1);
  }
  parallel(s.volumes * strips * chunks, static_cast<int>(s.threads), [&](int64_t k, int worker) {
    T* plane = scratch[worker].plane.data();
    T* line = scratch[worker].line.data();
    T* own = scratch[worker].taps.data();
    const int64_t chunk = k % chunks, strip = (k / chunks) % strips;
    const T* from = field + k / (chunks * strips) * nz * ny * nx;
    T* to = out + k / (chunks * strips) * nz * ny * nx;
    const int64_t y0 = strip * kLines, y1 = std::min(ny, y0 + kLines);
    const int64_t low = std::max<int64_t>(0, y0 - ry), high = std::min(ny, y1 + ry);
    T factor;
    for (int64_t z = chunk * planes; z < std::min(nz, (chunk + 1) * planes); ++z) {
      const T* weight = z_taps.around(z, own, &factor);
      blend(from + (z * ny + low) * nx, ny * nx, weight, z_taps.low(z), z_taps.high(z), factor,
            (high - low) * nx, plane);
      for (int64_t y = y0; y < y1; ++y) {
        T* target = to + (z * ny + y) * nx;
        T* middle = rx ? line + rx : target;
        weight = y_taps.around(y, own, &factor);
        blend(plane + (y - low) * nx, nx, weight, y_taps.low(y), y_taps.high(y), factor, nx, middle);
        if (rx) along(line, x_taps, nx, target);
      }
    }
  });
}

}  // namespace
}  // namespace fireants

FIREANTS_API int fireants_smooth_f32(const fireants::SmoothShape* s, const float* field, float* out) {
  return fireants::guarded([&] { fireants::smooth(*s, field, out); });
}

FIREANTS_API int fireants_smooth_f64(const fireants::SmoothShape* s, const double* field, double* out) {
  return fireants::guarded([&] { fireants::smooth(*s, field, out); });
}
