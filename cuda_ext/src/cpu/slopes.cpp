// Slopes of a field along one axis, and fields with bounded slopes.
#include <vector>

#include "cpu/api.h"
#include "cpu/lines.h"

namespace fireants {

namespace {

template <class T, bool Along>
void slope(const LineShape& s, const T* field, T* out) {
  const bool adjoint = s.modulate != 0;
  bundles<Along>(s, [&](int64_t, int64_t start, int lines, int) {
    runs<Along>(s, lines, [&](int64_t i, int64_t offset, int count) {
      differences<Along, false>(s, i, count, adjoint, s.scale, field + start + offset,
                                out + start + offset);
    });
  });
}

// The mean of the envelopes min_k f(k) + limit |i - k| and max_k f(k) - limit |i - k| of every line,
// each by one sweep there and one back; as many lines side by side as a run holds. A NaN stays.
template <class T>
void bounded(const LineShape& s, const T* field, T* out) {
  const int64_t n = s.size, lines = s.before * s.after;
  const T limit = static_cast<T>(s.scale);
  std::vector<std::vector<T>> scratch(std::max(1, s.threads));
  for (auto& own : scratch) own.resize(2 * n * kRun);
  // lines side by side: neighbours after the axis, or along it those of further volumes
  const int64_t group = s.after == 1 ? s.before : s.after, step = s.after == 1 ? n : 1;
  const int64_t strips = (group + kRun - 1) / kRun;
  parallel(lines / group * strips, s.threads, [&](int64_t k, int worker) {
    const int64_t strip = k % strips, x0 = group * strip / strips;
    const int count = static_cast<int>(group * (strip + 1) / strips - x0);
    const int64_t start = k / strips * n * group + x0 * step;
    T *low = scratch[worker].data(), *high = low + n * kRun;
    for (int64_t i = 0; i < n; ++i) {
      const T* from = field + start + i * s.after;
      T *a = low + i * kRun, *b = high + i * kRun;
      for (int l = 0; l < count; ++l) a[l] = b[l] = from[l * step];
      if (i == 0) continue;
#pragma omp simd
      for (int l = 0; l < count; ++l) {
        const T below = a[l - kRun] + limit, above = b[l - kRun] - limit;
        a[l] = a[l] > below ? below : a[l];
        b[l] = b[l] < above ? above : b[l];
      }
    }
    for (int64_t i = n - 1; i >= 0; --i) {
      T *a = low + i * kRun, *b = high + i * kRun;
      if (i + 1 < n) {
#pragma omp simd
        for (int l = 0; l < count; ++l) {
          const T below = a[l + kRun] + limit, above = b[l + kRun] - limit;
          a[l] = a[l] > below ? below : a[l];
          b[l] = b[l] < above ? above : b[l];
        }
      }
      T* to = out + start + i * s.after;
      for (int l = 0; l < count; ++l) to[l * step] = (a[l] + b[l]) / 2;
    }
  });
}

}  // namespace
}  // namespace fireants

using fireants::LineShape;

// slope: `scale` times the differences, or the transpose of them where `modulate` is 1; bounded:
// `scale` is the limit. One row; out is another array.
#define FIREANTS_SLOPES(SUFFIX, T)                                                                \
  FIREANTS_API int fireants_slope_##SUFFIX(const LineShape* s, const T* field, T* out) {          \
    return fireants::guarded([&] {                                                                \
      if (s->after == 1) return fireants::slope<T, true>(*s, field, out);                         \
      return fireants::slope<T, false>(*s, field, out);                                           \
    });                                                                                           \
  }                                                                                               \
  FIREANTS_API int fireants_bounded_slopes_##SUFFIX(const LineShape* s, const T* field, T* out) { \
    return fireants::guarded([&] { fireants::bounded(*s, field, out); });                         \
  }

FIREANTS_SLOPES(f32, float)
FIREANTS_SLOPES(f64, double)
