// Directions of descent, in place of the gradient, with the largest component of each channel.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/api.h"
#include "cpu/pool.h"
#include "descent.h"

namespace fireants {

// The samples as (z, y, x), and windows of `width` samples, odd, along each axis; axes: 2 or 3, of
// which a window's share counts those of one sample too. Mirrored by `native/descent.py`.
struct TileShape {
  int64_t size[3], width, axes;
};

namespace {

constexpr int64_t kSamples = 1 << 15;  // of a piece

// Fixed pieces of every channel: sums and maxima have the same bits for any number of threads.
struct Blocks {
  int64_t samples, each, total;

  explicit Blocks(const DescentShape& s)
      : samples(s.samples), each((s.samples + kSamples - 1) / kSamples),
        total(s.pairs * s.halves * s.channels * each) {}

  int64_t start(int64_t k) const { return k % each * kSamples; }
  int64_t count(int64_t k) const { return std::min(kSamples, samples - start(k)); }
  int64_t channel(int64_t k) const { return k / each; }  // of all rows
};

// Sums of the pieces' parts for each pair.
std::vector<double> per_pair(const DescentShape& s, const Blocks& blocks,
                             const std::vector<double>& parts) {
  std::vector<double> sums(s.pairs, 0.0);
  for (int64_t k = 0; k < blocks.total; ++k)
    sums[blocks.channel(k) / (s.halves * s.channels)] += parts[k];
  return sums;
}

template <class T>
void keep_larger(T& top, T size) {
  if (!(size <= top) && top == top) top = size;  // a NaN stays
}

template <class T>
void collect(const Blocks& blocks, const std::vector<T>& largest, T* peaks) {
  for (int64_t c = 0; c < blocks.total / blocks.each; ++c) {
    peaks[c] = 0;
    for (int64_t k = c * blocks.each; k < (c + 1) * blocks.each; ++k)
      keep_larger(peaks[c], largest[k]);
  }
}

// The largest size in lanes: NaN wherever one was met.
template <class T>
T largest_of(const T* values, int64_t n) {
  T top = 0, poison = 0;
#pragma omp simd reduction(max : top) reduction(+ : poison)
  for (int64_t i = 0; i < n; ++i) {
    const T size = std::abs(values[i]);
    top = size > top ? size : top;
    poison += values[i] * T(0);  // NaN for NaN and infinity
  }
  return poison == poison ? top : std::numeric_limits<T>::quiet_NaN();
}

template <class T>
void adam(const DescentShape& s, T* grad, T* first, T* second, const double* counts, double beta1,
          double beta2, double eps_rel, T* peaks) {
  const Blocks blocks(s);
  std::vector<double> parts(blocks.total);
  const T keep1 = static_cast<T>(beta1), add1 = static_cast<T>(1 - beta1);
  const T keep2 = static_cast<T>(beta2), add2 = static_cast<T>(1 - beta2);
  parallel(blocks.total, static_cast<int>(s.threads), [&](int64_t k, int) {
    const int64_t at = blocks.channel(k) * s.samples + blocks.start(k), n = blocks.count(k);
    const T *g = grad + at, *v = second + at;
    double sum = 0;
    for (int64_t i = 0; i < n; i += 1024) {  // in T within a short run, then in double
      const int64_t stop = std::min(n, i + 1024);
      T part = 0;
#pragma omp simd reduction(+ : part)
      for (int64_t j = i; j < stop; ++j) part += keep2 * v[j] + add2 * g[j] * g[j];
      sum += static_cast<double>(part);
    }
    parts[k] = sum;
  });
  const auto sums = per_pair(s, blocks, parts);
  std::vector<T> largest(blocks.total);
  const double mean = 1.0 / static_cast<double>(s.halves * s.channels * s.samples);
  parallel(blocks.total, static_cast<int>(s.threads), [&](int64_t k, int) {
    const int64_t pair = blocks.channel(k) / (s.halves * s.channels);
    const int64_t at = blocks.channel(k) * s.samples + blocks.start(k), n = blocks.count(k);
    const double unbias1 = 1 - std::pow(beta1, counts[pair]);
    const double unbias2 = 1 - std::pow(beta2, counts[pair]);
    const T floor = static_cast<T>(std::sqrt(sums[pair] * mean / unbias2) * eps_rel) +
                    std::numeric_limits<T>::min();
    const T by1 = static_cast<T>(-1 / unbias1), by2 = static_cast<T>(1 / unbias2);
    T *g = grad + at, *m = first ? first + at : nullptr, *v = second + at;
    if (m) {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) {
        const T now = g[i], mean_now = keep1 * m[i] + add1 * now;
        const T power = keep2 * v[i] + add2 * now * now;
        m[i] = mean_now;
        v[i] = power;
        g[i] = by1 * mean_now / (std::sqrt(power * by2) + floor);
      }
    } else {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) {
        const T now = g[i], power = keep2 * v[i] + add2 * now * now;
        v[i] = power;
        g[i] = by1 * now / (std::sqrt(power * by2) + floor);
      }
    }
    largest[k] = largest_of(g, n);
  });
  collect(blocks, largest, peaks);
}

template <class T>
std::vector<Damping<T>> dampings(const DescentShape& s, const Blocks& blocks, const T* grad,
                                 const double* damping) {
  std::vector<double> parts(blocks.total);
  parallel(blocks.total, static_cast<int>(s.threads), [&](int64_t k, int) {
    const T* g = grad + blocks.channel(k) * s.samples + blocks.start(k);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < blocks.count(k); ++i) sum += static_cast<double>(g[i]) * g[i];
    parts[k] = sum;
  });
  const auto sums = per_pair(s, blocks, parts);
  const double mean = 1.0 / static_cast<double>(s.halves * s.samples);
  std::vector<Damping<T>> out;
  for (int64_t pair = 0; pair < s.pairs; ++pair)
    out.emplace_back(sums[pair] * mean, damping[pair], std::numeric_limits<T>::min());
  return out;
}

// v = -2 sqrt(l) g / (|g|^2 + l), g in units of its root mean square over the pair.
template <class T>
void levenberg_marquardt(const DescentShape& s, T* grad, const double* damping, T* peaks) {
  const Blocks blocks(s);
  const auto of_pair = dampings(s, blocks, grad, damping);
  std::vector<T> largest(blocks.total);
  parallel(s.pairs * s.halves * blocks.each, static_cast<int>(s.threads), [&](int64_t k, int) {
    const int64_t row = k / blocks.each, block = k % blocks.each, n = blocks.count(block);
    const auto [unit, l, by] = of_pair[row / s.halves];
    T* g = grad + row * s.channels * s.samples + blocks.start(block);
    for (int64_t i = 0; i < n; ++i) {
      T power = 0;
      for (int64_t c = 0; c < s.channels; ++c) {
        const T own = g[c * s.samples + i] * unit;
        power += own * own;
      }
      const T factor = by * unit / (power + l);
      for (int64_t c = 0; c < s.channels; ++c) g[c * s.samples + i] *= factor;
    }
    for (int64_t c = 0; c < s.channels; ++c)
      largest[(row * s.channels + c) * blocks.each + block] = largest_of(g + c * s.samples, n);
  });
  collect(blocks, largest, peaks);
}

// The products of `grad` (D channels, `stride` apart) times `unit`, added to `sums` (N, n).
template <class T, int D, int N>
void add_line_products(const T* grad, int64_t stride, T unit, int64_t n, T* sums) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    T g[D], own[N];
    for (int c = 0; c < D; ++c) g[c] = grad[c * stride + i] * unit;
    for (int e = 0; e < N; ++e) own[e] = sums[e * n + i];
    add_products(g, own);
    for (int e = 0; e < N; ++e) sums[e * n + i] = own[e];
  }
}

// `solve` along a line; A: `sums` (N, n) times `share`, g: `grad` in its units; `stride` lies between
// the channels of `grad` and of `out`.
template <class T, int D, int N>
void solve_line(const T* sums, T share, const T* grad, const Damping<T>& damping, int64_t stride,
                int64_t n, T* out) {
  const T unit = damping.unit, level = damping.level, by = damping.by;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    T a[N], g[D], v[D];
    for (int e = 0; e < N; ++e) a[e] = sums[e * n + i] * share;
    for (int c = 0; c < D; ++c) g[c] = grad[c * stride + i] * unit;
    solve(a, g, level, by, v);
    for (int c = 0; c < D; ++c) out[c * stride + i] = v[c];
  }
}

// to[i] += sum of from[k * stride + i], k in [low, high]
template <class T>
void add_lines(const T* from, int64_t stride, int64_t low, int64_t high, int64_t n, T* to) {
  for (int64_t k = low; k <= high; ++k) {
    const T* p = from + k * stride;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] += p[i];
  }
}

// v = -2 sqrt(l) (A + l I)^-1 g, A the mean of g g^T over a window, zeros outside; g in units of
// its root mean square over the pair. A strip of lines at a time: its sums along z, then y, then x
// stay in cache.
template <class T, int D>
void tiles(const DescentShape& s, const TileShape& t, const T* grad, const double* damping, T* out,
           T* peaks) {
  constexpr int64_t kLines = 16, kPlanes = 16, kEntries = D * (D + 1) / 2;
  const int64_t nz = t.size[0], ny = t.size[1], nx = t.size[2], reach = t.width / 2;
  const int64_t rz = std::min(reach, nz - 1), ry = std::min(reach, ny - 1);
  const int64_t rx = std::min(reach, nx - 1);
  const auto of_pair = dampings(s, Blocks(s), grad, damping);
  const T share = static_cast<T>(std::pow(static_cast<double>(t.width), -double(t.axes)));
  const int64_t strips = (ny + kLines - 1) / kLines, chunks = (nz + kPlanes - 1) / kPlanes;
  const int64_t rows = s.pairs * s.halves, each = strips * chunks;
  struct Scratch {
    std::vector<T> plane, padded, line;
  };
  std::vector<Scratch> scratch(std::max<int64_t>(1, s.threads));
  for (auto& own : scratch) {
    own.plane.resize(kEntries * (kLines + 2 * ry) * nx);
    own.padded.assign(nx + 2 * rx, T(0));
    own.line.resize(kEntries * nx);
  }
  std::vector<T> largest(rows * each * D, T(0));
  parallel(rows * each, static_cast<int>(s.threads), [&](int64_t k, int worker) {
    const int64_t row = k / each, strip = k % each / chunks, chunk = k % chunks;
    const auto& level = of_pair[row / s.halves];
    const T* from = grad + row * D * s.samples;
    T* to = out + row * D * s.samples;
    auto& own = scratch[worker];
    const int64_t y0 = strip * kLines, y1 = std::min(ny, y0 + kLines);
    const int64_t low = std::max<int64_t>(0, y0 - ry), n = (std::min(ny, y1 + ry) - low) * nx;
    for (int64_t z = chunk * kPlanes; z < std::min(nz, (chunk + 1) * kPlanes); ++z) {
      std::fill(own.plane.begin(), own.plane.begin() + kEntries * n, T(0));
      for (int64_t at = std::max<int64_t>(0, z - rz); at <= std::min(nz - 1, z + rz); ++at)
        add_line_products<T, D, kEntries>(from + (at * ny + low) * nx, s.samples, level.unit, n,
                                          own.plane.data());
      for (int64_t y = y0; y < y1; ++y) {
        std::fill(own.line.begin(), own.line.end(), T(0));
        for (int64_t entry = 0; entry < kEntries; ++entry) {
          T *middle = own.padded.data() + rx, *sums = own.line.data() + entry * nx;
          std::fill(middle, middle + nx, T(0));
          add_lines(own.plane.data() + entry * n + (y - low) * nx, nx, -std::min(ry, y),
                    std::min(ry, ny - 1 - y), nx, middle);
          add_lines(middle, int64_t(1), -rx, rx, nx, sums);
        }
        const int64_t place = (z * ny + y) * nx;
        solve_line<T, D, kEntries>(own.line.data(), share, from + place, level, s.samples, nx,
                                   to + place);
        for (int c = 0; c < D; ++c)
          keep_larger(largest[k * D + c], largest_of(to + c * s.samples + place, nx));
      }
    }
  });
  std::fill(peaks, peaks + rows * D, T(0));
  for (int64_t k = 0; k < rows * each; ++k)
    for (int c = 0; c < D; ++c) keep_larger(peaks[k / each * D + c], largest[k * D + c]);
}

}  // namespace
}  // namespace fireants

#define FIREANTS_DESCENT(SUFFIX, T)                                                              \
  FIREANTS_API int fireants_adam_##SUFFIX(const fireants::DescentShape* s, T* grad, T* first,    \
                                          T* second, const double* counts, double beta1,         \
                                          double beta2, double eps_rel, T* peaks) {              \
    return fireants::guarded([&] {                                                               \
      fireants::adam(*s, grad, first, second, counts, beta1, beta2, eps_rel, peaks);             \
    });                                                                                          \
  }                                                                                              \
  FIREANTS_API int fireants_levenberg_marquardt_##SUFFIX(                                        \
      const fireants::DescentShape* s, T* grad, const double* damping, T* peaks) {               \
    return fireants::guarded([&] { fireants::levenberg_marquardt(*s, grad, damping, peaks); });  \
  }                                                                                              \
  FIREANTS_API int fireants_levenberg_marquardt_tiles_##SUFFIX(                                  \
      const fireants::DescentShape* s, const fireants::TileShape* t, const T* grad,              \
      const double* damping, T* out, T* peaks) {                                                 \
    return fireants::guarded([&] {                                                               \
      if (s->channels == 3)                                                                      \
        fireants::tiles<T, 3>(*s, *t, grad, damping, out, peaks);                                \
      else                                                                                       \
        fireants::tiles<T, 2>(*s, *t, grad, damping, out, peaks);                                \
    });                                                                                          \
  }

FIREANTS_DESCENT(f32, float)
FIREANTS_DESCENT(f64, double)
