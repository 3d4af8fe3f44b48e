// Directions of descent, in place of the gradient, with the largest component of each channel.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/api.h"
#include "cpu/pool.h"

namespace fireants {

// A gradient of (pairs x halves, channels, samples). Mirrored by `native/descent.py`.
struct DescentShape {
  int64_t pairs, halves, channels, samples, threads;
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
void collect(const Blocks& blocks, const std::vector<T>& largest, T* peaks) {
  for (int64_t c = 0; c < blocks.total / blocks.each; ++c) {
    T top = 0;
    for (int64_t k = c * blocks.each; k < (c + 1) * blocks.each; ++k)
      if (!(largest[k] <= top) && top == top) top = largest[k];  // a NaN stays
    peaks[c] = top;
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

// v = -2 sqrt(l) g / (|g|^2 + l), g in units of its root mean square over the pair.
template <class T>
void levenberg_marquardt(const DescentShape& s, T* grad, const double* damping, T* peaks) {
  const Blocks blocks(s);
  std::vector<double> parts(blocks.total);
  parallel(blocks.total, static_cast<int>(s.threads), [&](int64_t k, int) {
    const T* g = grad + blocks.channel(k) * s.samples + blocks.start(k);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < blocks.count(k); ++i) sum += static_cast<double>(g[i]) * g[i];
    parts[k] = sum;
  });
  const auto sums = per_pair(s, blocks, parts);
  std::vector<T> largest(blocks.total);
  const double mean = 1.0 / static_cast<double>(s.halves * s.samples);
  parallel(s.pairs * s.halves * blocks.each, static_cast<int>(s.threads), [&](int64_t k, int) {
    const int64_t row = k / blocks.each, block = k % blocks.each, n = blocks.count(block);
    const double size = std::sqrt(sums[row / s.halves] * mean), level = damping[row / s.halves];
    const T unit = static_cast<T>(1 / std::max(size, double(std::numeric_limits<T>::min())));
    const T l = static_cast<T>(level), by = static_cast<T>(-2 * std::sqrt(level));
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
  }

FIREANTS_DESCENT(f32, float)
FIREANTS_DESCENT(f64, double)
