// Joint histograms of two images and the gradient of a score of them; images are binned on the fly.
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "cpu/api.h"
#include "cpu/pool.h"

namespace fireants {

enum ParzenWindow : int32_t { kBspline = 0, kGaussian = 1, kLinear = 2 };

namespace {

constexpr int kStrip = 64;          // samples binned side by side
constexpr int kCopies = 4;          // of a worker's table: the samples that follow each other do
                                    // not wait for one another's sum
constexpr int kPieces = 64;         // of an image, at most: never more for more threads
constexpr int64_t kSmallest = 8192;            // samples of a piece, so that its table pays
constexpr int64_t kMostSums = int64_t(1) << 21;  // doubles of partial sums held at a time

template <int Window>
constexpr int kTaps = Window == kLinear ? 2 : 4;

// One image's range: low + span goes to the last bin. Equal ends make the span infinite: all
// samples fall on the first bin.
template <class T>
struct Range {
  T low, span;

  explicit Range(const T* ends) : low(ends[0]), span(ends[1] - ends[0]) {
    if (span == T(0)) span = std::numeric_limits<T>::infinity();
  }
};

// The bin coordinate of `value`, in the operations and the order of `to_bins`: samples on a half
// have to fall in the same bin. Clamped after the product, not before, which is the same number
// and keeps the compiler from fusing product and sum. NaN becomes `pad`.
template <class T>
inline T bin_of(T share, T steps, T pad) {
  const T raw = share * steps;
  const T inside = raw > T(0) ? (raw < steps ? raw : steps) : T(0);
  return inside + pad;
}

// exp(4 f) for f in [0, 1]: a Taylor series of the 16th part, squared four times.
template <class T>
inline T exp4(T f) {
  constexpr int kDegree = sizeof(T) == 4 ? 6 : 11;
  const T x = (f - T(0.5)) * T(0.25);
  T sum = T(1);
  for (int n = kDegree; n > 0; --n) sum = T(1) + sum * x * (T(1) / T(n));
  sum *= sum;
  sum *= sum;
  sum *= sum;
  sum *= sum;
  return sum * T(7.38905609893065);  // e^2
}

// The weights of the four bins around a sample, of sum 1.
template <class T>
inline void gaussian(T f, T* w0, T* w1, T* w2, T* w3) {
  const T e = exp4(f);
  const T a = T(0.1353352832366127) / e, c = T(0.1353352832366127) * e;
  const T d = T(3.354626279025118e-4) * e * e;
  const T whole = T(1) / (a + T(1) + c + d);
  *w0 = a * whole;
  *w1 = whole;
  *w2 = c * whole;
  *w3 = d * whole;
}

// The samples [at, at + count) of one channel of one pair.
template <class T>
struct Strip {
  int32_t cell[kStrip];  // fixed bin * bins + the window's first bin
  T frac[kStrip];        // of the moving sample beyond the lower knot; NaN where a sample is
  T share[kStrip];       // of the moving sample in its range, unclamped
  T weight[kStrip];
  T padded[2][kStrip];

  static const T* whole(const T* from, int count, T* own) {
    if (count == kStrip) return from;
    std::copy(from, from + count, own);
    std::fill(own + count, own + kStrip, T(0));
    return own;
  }

  template <int Window, bool Nearest>
  void place(const T* moving, const T* fixed, int count, const Range<T>& m_range,
             const Range<T>& f_range, int bins) {
    constexpr int kPad = Window == kLinear ? 0 : 2;
    const T pad = T(kPad), steps = static_cast<T>(bins - 1 - 2 * kPad);
    const T m_low = m_range.low, m_span = m_range.span;
    const T f_low = f_range.low, f_span = f_range.span;
    const int32_t last = bins - 2;
    moving = whole(moving, count, padded[0]);
    fixed = whole(fixed, count, padded[1]);
#pragma omp simd
    for (int l = 0; l < kStrip; ++l) {
      const T m_share = (moving[l] - m_low) / m_span, f_share = (fixed[l] - f_low) / f_span;
      const T m = bin_of(m_share, steps, pad), f = bin_of(f_share, steps, pad);
      const int32_t row = static_cast<int32_t>(std::nearbyint(f));
      const T nan = std::numeric_limits<T>::quiet_NaN();
      const T flag = (m_share == m_share ? T(0) : nan) + (f_share == f_share ? T(0) : nan);
      int32_t at;
      if constexpr (Nearest) {
        at = static_cast<int32_t>(std::nearbyint(m));
        frac[l] = flag;
      } else {
        at = static_cast<int32_t>(m);
        if constexpr (Window == kLinear) at = at < last ? at : last;
        frac[l] = m - static_cast<T>(at) + flag;
        if constexpr (Window != kLinear) at -= 1;
      }
      cell[l] = row * bins + at;
      share[l] = m_share;
    }
  }

  void weigh(const T* from, int count) {
    if (from)
      std::copy(from, from + count, weight);
    else
      std::fill(weight, weight + kStrip, T(1));
  }
};

// Adds what a strip weighs to a worker's tables [copy][cell][tap].
template <class T, int Window, bool Nearest, bool Weighted>
inline void scatter(const Strip<T>& strip, int count, double* tables, int64_t each) {
  if constexpr (Nearest) {
    for (int l = 0; l < count; ++l)
      tables[(l % kCopies) * each + strip.cell[l]] +=
          static_cast<double>(strip.weight[l] + strip.frac[l]);
  } else if constexpr (Window == kBspline) {
    constexpr double kSixth = 1.0 / 6;
    constexpr double c0[4] = {kSixth, 4 * kSixth, kSixth, 0}, c1[4] = {-0.5, 0, 0.5, 0};
    constexpr double c2[4] = {0.5, -1, 0.5, 0}, c3[4] = {-kSixth, 0.5, -0.5, kSixth};
    for (int l = 0; l < count; ++l) {
      double* into = tables + (l % kCopies) * each + int64_t(strip.cell[l]) * 4;
      const double f = static_cast<double>(strip.frac[l]);
      const double w = Weighted ? static_cast<double>(strip.weight[l]) : 1.0;
#pragma omp simd
      for (int k = 0; k < 4; ++k) {
        const double tap = c0[k] + f * (c1[k] + f * (c2[k] + f * c3[k]));
        into[k] += Weighted ? w * tap : tap;
      }
    }
  } else if constexpr (Window == kGaussian) {
    T tap[4][kStrip];
#pragma omp simd
    for (int l = 0; l < kStrip; ++l)
      gaussian(strip.frac[l], &tap[0][l], &tap[1][l], &tap[2][l], &tap[3][l]);
    for (int l = 0; l < count; ++l) {
      double* into = tables + (l % kCopies) * each + int64_t(strip.cell[l]) * 4;
      const T w = strip.weight[l];
      for (int k = 0; k < 4; ++k) into[k] += static_cast<double>(w * tap[k][l]);
    }
  } else {
    for (int l = 0; l < count; ++l) {
      double* into = tables + (l % kCopies) * each + int64_t(strip.cell[l]) * 2;
      const double f = static_cast<double>(strip.frac[l]), w = static_cast<double>(strip.weight[l]);
      into[0] += w * (1 - f);
      into[1] += w * f;
    }
  }
}

// The copies' tables as one histogram (bins, bins), each tap in its own bin; clears them.
template <int Taps>
void fold(double* tables, int64_t each, int bins, double* joint) {
  const int64_t cells = int64_t(bins) * bins;
  std::fill(joint, joint + cells, 0.0);
  for (int64_t row = 0; row < bins; ++row) {
    for (int at = 0; at + Taps <= bins; ++at) {
      double* cell = tables + (row * bins + at) * Taps;
      for (int k = 0; k < Taps; ++k) {
        double sum = 0;
        for (int copy = 0; copy < kCopies; ++copy) sum += cell[copy * each + k];
        joint[row * bins + at + k] += sum;
      }
    }
  }
  std::fill(tables, tables + kCopies * each, 0.0);
}

// A cache line: no cell's sums lie on two.
struct alignas(64) Line {
  double sums[8];
};

// The samples of piece k of `pieces`: whole strips but the last.
struct Span {
  int64_t start, stop;

  Span(int64_t voxels, int64_t k, int64_t pieces) {
    const int64_t strips = (voxels + kStrip - 1) / kStrip;
    start = std::min(voxels, strips * k / pieces * kStrip);
    stop = std::min(voxels, strips * (k + 1) / pieces * kStrip);
  }
};

int64_t pieces_of(const ParzenShape& s) {
  const int64_t cells = int64_t(s.bins) * s.bins;
  const int64_t fit = std::min<int64_t>(kPieces, kMostSums / cells);
  return std::max<int64_t>(1, std::min(fit, s.voxels / std::max(kSmallest, 4 * cells)));
}

// joint (rows, channels, bins, bins): the sums of the weights, or of the counts' weights where the
// histogram is approximate.
template <class T, int Window, bool Nearest>
void joint_of(const ParzenShape& s, const T* moving, const T* fixed, const T* weight,
              const T* ranges, double* joint) {
  constexpr int kSums = Nearest ? 1 : kTaps<Window>;
  const int64_t cells = int64_t(s.bins) * s.bins, each = cells * kSums;
  const int64_t pieces = pieces_of(s), images = s.rows * s.channels;
  const int64_t group = std::max<int64_t>(1, kMostSums / (pieces * cells));
  const int64_t own_size = (kCopies * each + 7) / 8 * 8;
  std::vector<Line> tables(s.threads * own_size / 8, Line{});
  std::vector<double> parts(std::min(group, images) * pieces * cells);
  for (int64_t first = 0; first < images; first += group) {
    const int64_t some = std::min(group, images - first);
    parallel(some * pieces, s.threads, [&](int64_t job, int worker) {
      const int64_t image = first + job / pieces, row = image / s.channels;
      const T* m = moving + image * s.voxels;
      const T* f = fixed + image * s.voxels;
      const T* w = weight ? weight + (s.weight_rows == 1 ? 0 : row) * s.voxels : nullptr;
      const Range<T> m_range(ranges + row * 4), f_range(ranges + row * 4 + 2);
      double* own = tables.data()->sums + worker * own_size;
      const Span span(s.voxels, job % pieces, pieces);
      Strip<T> strip;
      strip.weigh(nullptr, kStrip);
      for (int64_t at = span.start; at < span.stop; at += kStrip) {
        const int count = static_cast<int>(std::min<int64_t>(kStrip, span.stop - at));
        strip.template place<Window, Nearest>(m + at, f + at, count, m_range, f_range, s.bins);
        if (w) {
          strip.weigh(w + at, count);
          scatter<T, Window, Nearest, true>(strip, count, own, each);
        } else {
          scatter<T, Window, Nearest, false>(strip, count, own, each);
        }
      }
      fold<kSums>(own, each, s.bins, parts.data() + job * cells);
    });
    for (int64_t i = 0; i < some; ++i) {
      double* total = joint + (first + i) * cells;
      std::fill(total, total + cells, 0.0);
      for (int64_t k = 0; k < pieces; ++k) {
        const double* part = parts.data() + (i * pieces + k) * cells;
        for (int64_t c = 0; c < cells; ++c) total[c] += part[c];
      }
    }
  }
}

// What the samples of one image look up: per cell the coefficients of the powers of f (B-splines)
// or the slope at each of the four bins (gaussian), times `factor`.
template <class T, int Window>
void table_of(const double* slope, int bins, double factor, T* table) {
  for (int64_t row = 0; row < bins; ++row) {
    for (int at = 0; at < bins; ++at) {
      double s[4] = {};
      for (int k = 0; k < kTaps<Window> && at + k < bins; ++k)
        s[k] = factor * slope[row * bins + at + k];
      T* cell = table + (row * bins + at) * 4;
      if constexpr (Window == kBspline) {
        cell[0] = static_cast<T>(0.5 * (s[2] - s[0]));
        cell[1] = static_cast<T>(s[0] - 2 * s[1] + s[2]);
        cell[2] = static_cast<T>(0.5 * (s[3] - s[0]) + 1.5 * (s[1] - s[2]));
        cell[3] = T(0);
      } else if constexpr (Window == kGaussian) {
        for (int k = 0; k < 4; ++k) cell[k] = static_cast<T>(s[k]);
      } else {
        cell[0] = static_cast<T>(s[1] - s[0]);
        cell[1] = cell[2] = cell[3] = T(0);
      }
    }
  }
}

// grad (rows, channels, voxels) of sum(slope * joint) by the moving image; zero where clamped.
template <class T, int Window>
void gradient(const ParzenShape& s, const T* moving, const T* fixed, const T* weight,
              const T* ranges, const double* slope, T* grad) {
  const int64_t cells = int64_t(s.bins) * s.bins, images = s.rows * s.channels;
  const int64_t pieces = std::max<int64_t>(1, s.voxels / (1 << 16));
  constexpr int kLooked = Window == kBspline ? 3 : (Window == kGaussian ? 4 : 1);
  const int steps = s.bins - 1 - (Window == kLinear ? 0 : 4);
  std::vector<T> tables(images * cells * 4);
  for (int64_t i = 0; i < images; ++i) {
    const Range<T> m_range(ranges + i / s.channels * 4);
    table_of<T, Window>(slope + i * cells, s.bins, steps / static_cast<double>(m_range.span),
                        tables.data() + i * cells * 4);
  }
  parallel(images * pieces, s.threads, [&](int64_t job, int) {
    const int64_t image = job / pieces, row = image / s.channels;
    const T* m = moving + image * s.voxels;
    const T* f = fixed + image * s.voxels;
    const T* w = weight ? weight + (s.weight_rows == 1 ? 0 : row) * s.voxels : nullptr;
    const Range<T> m_range(ranges + row * 4), f_range(ranges + row * 4 + 2);
    const T* table = tables.data() + image * cells * 4;
    const Span span(s.voxels, job % pieces, pieces);
    Strip<T> strip;
    strip.weigh(nullptr, kStrip);
    T out[kStrip];
    for (int64_t at = span.start; at < span.stop; at += kStrip) {
      const int count = static_cast<int>(std::min<int64_t>(kStrip, span.stop - at));
      strip.template place<Window, false>(m + at, f + at, count, m_range, f_range, s.bins);
      if (w) strip.weigh(w + at, count);
      T c[4][kStrip];  // looked up one by one, computed with side by side
      for (int l = 0; l < kStrip; ++l)
        for (int k = 0; k < kLooked; ++k) c[k][l] = table[strip.cell[l] * 4 + k];
#pragma omp simd
      for (int l = 0; l < kStrip; ++l) {
        const T x = strip.frac[l];
        T value;
        if constexpr (Window == kBspline) {
          value = c[0][l] + x * (c[1][l] + x * c[2][l]);
        } else if constexpr (Window == kGaussian) {
          T w0, w1, w2, w3;
          gaussian(x, &w0, &w1, &w2, &w3);
          const T middle = w2 + T(2) * w3 - w0;  // B_k' = 4 B_k (k - sum_j B_j j)
          value = T(4) * (w0 * c[0][l] * (T(-1) - middle) - w1 * c[1][l] * middle +
                          w2 * c[2][l] * (T(1) - middle) + w3 * c[3][l] * (T(2) - middle));
        } else {
          value = c[0][l] + (x - x);
        }
        const T share = strip.share[l], seen = value * strip.weight[l];
        out[l] = share < T(0) ? T(0) : (share > T(1) ? T(0) : seen);
      }
      std::copy(out, out + count, grad + image * s.voxels + at);
    }
  });
}

// Calls f<Window> as the shape asks.
template <class F>
void with_window(const ParzenShape& s, F&& f) {
  if (s.window == kBspline)
    f(std::integral_constant<int, kBspline>{});
  else if (s.window == kGaussian)
    f(std::integral_constant<int, kGaussian>{});
  else
    f(std::integral_constant<int, kLinear>{});
}

}  // namespace
}  // namespace fireants

using fireants::ParzenShape;

// ranges (rows, 4): low and high of the moving, then of the fixed image.
#define FIREANTS_PARZEN(SUFFIX, T)                                                                \
  FIREANTS_API int fireants_parzen_joint_##SUFFIX(const ParzenShape* s, const T* moving,          \
                                                  const T* fixed, const T* weight,                \
                                                  const T* ranges, double* joint) {               \
    return fireants::guarded([&] {                                                                \
      fireants::with_window(*s, [&](auto window) {                                                \
        if (s->approximate)                                                                       \
          fireants::joint_of<T, window(), true>(*s, moving, fixed, weight, ranges, joint);        \
        else                                                                                      \
          fireants::joint_of<T, window(), false>(*s, moving, fixed, weight, ranges, joint);       \
      });                                                                                         \
    });                                                                                           \
  }                                                                                               \
  FIREANTS_API int fireants_parzen_grad_##SUFFIX(const ParzenShape* s, const T* moving,           \
                                                 const T* fixed, const T* weight,                 \
                                                 const T* ranges, const double* slope, T* grad) { \
    return fireants::guarded([&] {                                                                \
      fireants::with_window(*s, [&](auto window) {                                                \
        fireants::gradient<T, window()>(*s, moving, fixed, weight, ranges, slope, grad);          \
      });                                                                                         \
    });                                                                                           \
  }

FIREANTS_PARZEN(f32, float)
FIREANTS_PARZEN(f64, double)
