// Separable smoothing of volumes, all axes in one pass over memory.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/api.h"
#include "cpu/pool.h"

namespace fireants {

// volumes: of (z, y, x) samples each; sigma: voxels, 0 leaves an axis alone. Mirrored by
// `native/smooth.py`.
struct SmoothShape {
  int64_t volumes;
  int64_t size[3];
  double sigma[3];
  double scale;
  int64_t threads;
};

namespace {

constexpr int64_t kLines = 32;   // of a strip: it and what it needs stay in the L2 cache
constexpr int64_t kPlanes = 24;  // of a piece
constexpr int kBlock = 32;

// The taps of one axis, and for each place the inverse of those that lie inside.
template <class T>
struct Taps {
  int radius = 0;
  std::vector<T> weight, inverse;

  Taps(double sigma, int64_t size, double scale) {
    if (sigma > 0 && size > 1) {
      radius = std::max(1, static_cast<int>(std::ceil(3 * sigma - 1e-9)));
      radius = static_cast<int>(std::min<int64_t>(radius, size - 1));
    }
    std::vector<double> exact(2 * radius + 1, 1.0);
    for (int k = -radius; k <= radius && radius; ++k)
      exact[k + radius] = std::exp(-0.5 * (k / sigma) * (k / sigma));
    weight.assign(exact.begin(), exact.end());
    inverse.resize(size);
    for (int64_t i = 0; i < size; ++i) {
      double sum = 0;
      for (int64_t k = low(i); k <= high(i, size); ++k) sum += exact[k + radius];
      inverse[i] = static_cast<T>(scale / sum);
    }
  }

  int64_t low(int64_t i) const { return -std::min<int64_t>(radius, i); }
  int64_t high(int64_t i, int64_t size) const { return std::min<int64_t>(radius, size - 1 - i); }
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

// Along a line: `padded` has `radius` zeros on either side of its n samples.
template <class T>
void along(const T* padded, const Taps<T>& taps, int64_t n, T* out) {
  blend(padded + taps.radius, int64_t(1), taps.weight.data() + taps.radius, -taps.radius,
        taps.radius, T(1), n, out);
#pragma omp simd
  for (int64_t x = 0; x < n; ++x) out[x] *= taps.inverse[x];
}

template <class T>
void smooth(const SmoothShape& s, const T* field, T* out) {
  const int64_t nz = s.size[0], ny = s.size[1], nx = s.size[2];
  const Taps<T> z_taps(s.sigma[0], nz, s.scale), y_taps(s.sigma[1], ny, 1), x_taps(s.sigma[2], nx, 1);
  const int64_t strips = (ny + kLines - 1) / kLines, chunks = (nz + kPlanes - 1) / kPlanes;
  const int rz = z_taps.radius, ry = y_taps.radius, rx = x_taps.radius;
  struct Scratch {
    std::vector<T> plane, line;
  };
  std::vector<Scratch> scratch(std::max<int64_t>(1, s.threads));
  for (auto& own : scratch) {
    own.plane.resize((kLines + 2 * ry) * nx);
    own.line.assign(nx + 2 * rx, T(0));
  }
  parallel(s.volumes * strips * chunks, static_cast<int>(s.threads), [&](int64_t k, int worker) {
    T* plane = scratch[worker].plane.data();
    T* line = scratch[worker].line.data();
    const int64_t chunk = k % chunks, strip = (k / chunks) % strips;
    const T* from = field + k / (chunks * strips) * nz * ny * nx;
    T* to = out + k / (chunks * strips) * nz * ny * nx;
    const int64_t y0 = strip * kLines, y1 = std::min(ny, y0 + kLines);
    const int64_t low = std::max<int64_t>(0, y0 - ry), high = std::min(ny, y1 + ry);
    for (int64_t z = chunk * kPlanes; z < std::min(nz, (chunk + 1) * kPlanes); ++z) {
      blend(from + (z * ny + low) * nx, ny * nx, z_taps.weight.data() + rz, z_taps.low(z),
            z_taps.high(z, nz), z_taps.inverse[z], (high - low) * nx, plane);
      for (int64_t y = y0; y < y1; ++y) {
        T* target = to + (z * ny + y) * nx;
        T* middle = rx ? line + rx : target;
        blend(plane + (y - low) * nx, nx, y_taps.weight.data() + ry, y_taps.low(y),
              y_taps.high(y, ny), y_taps.inverse[y], nx, middle);
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
