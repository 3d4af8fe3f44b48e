// Images bent along one axis seen straight, I(x + s v(x) e) (1 + s dv/de), and the gradient by v.
#include <algorithm>
#include <limits>
#include <vector>

#include "core.h"
#include "cpu/api.h"
#include "cpu/lines.h"

namespace fireants {

namespace {

// Where the voxels of a run show, and how stretched they are. Index: int32_t where a bundle reaches
// over fewer than 2^31 voxels (twice as many lanes), else int64_t.
template <class T, bool Along, class Index>
struct Run {
  Index at[kRun];  // the lower sample, from the beginning of the bundle
  int64_t up;      // from there to the upper one
  T part[kRun], slope[kRun];
  T stretch[kRun];  // NaN where v is

  // v: of the run
  void place(const LineShape& s, const T* v, int64_t i, int count) {
    const T scale = static_cast<T>(s.scale), first = static_cast<T>(i);
    const int n = static_cast<int>(s.size);
    const Index after = static_cast<Index>(s.after);
    up = n > 1 ? after : 0;
#pragma omp simd
    for (int l = 0; l < count; ++l) {
      const T c = first + (Along ? static_cast<T>(l) : T(0)) + scale * v[l];
      const Place<T> p = place_border(c, n);
      at[l] = Along ? Index(p.at) : p.at * after + l;
      part[l] = p.w1;
      slope[l] = p.d1;
      stretch[l] = c == c ? T(1) : std::numeric_limits<T>::quiet_NaN();
    }
    if (s.modulate) differences<Along, true>(s, i, count, false, s.scale, v, stretch);
  }

  // I(y) of one channel, image: of the bundle; `change`: I'(y) too where not null
  void sample(const T* image, int count, T* value, T* change) const {
    T a[kRun], b[kRun];
    for (int l = 0; l < count; ++l) {
      a[l] = image[at[l]];
      b[l] = image[at[l] + up];
    }
#pragma omp simd
    for (int l = 0; l < count; ++l) value[l] = a[l] + part[l] * (b[l] - a[l]);
    if (!change) return;
#pragma omp simd
    for (int l = 0; l < count; ++l) change[l] = slope[l] * (b[l] - a[l]);
  }
};

template <class T, bool Along, class Index>
void forward(const LineShape& s, const T* image, const T* v, T* out) {
  const int64_t voxels = s.before * s.size * s.after;
  bundles<Along>(s, [&](int64_t row, int64_t start, int lines, int) {
    const T* field = v + (s.v_rows == 1 ? 0 : row) * voxels + start;
    const T* source = image + (s.image_rows == 1 ? 0 : row) * s.channels * voxels + start;
    T* target = out + row * s.channels * voxels + start;
    Run<T, Along, Index> run;
    runs<Along>(s, lines, [&](int64_t i, int64_t offset, int count) {
      run.place(s, field + offset, i, count);
      for (int64_t c = 0; c < s.channels; ++c) {
        T value[kRun];
        run.sample(source + c * voxels, count, value, nullptr);
        T* to = target + c * voxels + offset;
#pragma omp simd
        for (int l = 0; l < count; ++l) to[l] = value[l] * run.stretch[l];
      }
    });
  });
}

// grad_v (rows, 1, ...) = s (sum_c g_c I_c'(y) (1 + s dv/de) + D^T sum_c g_c I_c(y)), D the matrix
// of the differences.
template <class T, bool Along, class Index>
void backward(const LineShape& s, const T* grad, const T* image, const T* v, T* grad_v) {
  const int64_t voxels = s.before * s.size * s.after;
  const T scale = static_cast<T>(s.scale);
  LineShape bundle = s;  // as the lines lie in the scratch
  bundle.after = Along ? 1 : kRun;
  std::vector<std::vector<T>> scratch(std::max(1, s.threads));
  for (auto& own : scratch) own.resize(s.size * bundle.after);
  bundles<Along>(s, [&](int64_t row, int64_t start, int lines, int worker) {
    const T* field = v + (s.v_rows == 1 ? 0 : row) * voxels + start;
    const T* source = image + (s.image_rows == 1 ? 0 : row) * s.channels * voxels + start;
    const T* given = grad + row * s.channels * voxels + start;
    T* target = grad_v + row * voxels + start;
    T* seen = scratch[worker].data();  // sum_c g_c I_c(y)
    Run<T, Along, Index> run;
    runs<Along>(s, lines, [&](int64_t i, int64_t offset, int count) {
      run.place(s, field + offset, i, count);
      T moved[kRun], kept[kRun];
      std::fill_n(moved, count, T(0));
      std::fill_n(kept, count, T(0));
      for (int64_t c = 0; c < s.channels; ++c) {
        T value[kRun], change[kRun];
        run.sample(source + c * voxels, count, value, change);
        const T* g = given + c * voxels + offset;
#pragma omp simd
        for (int l = 0; l < count; ++l) {
          moved[l] += g[l] * change[l];
          kept[l] += g[l] * value[l];
        }
      }
      T *to = target + offset, *own = seen + i * bundle.after;
#pragma omp simd
      for (int l = 0; l < count; ++l) {
        to[l] = scale * run.stretch[l] * moved[l];
        own[l] = kept[l];
      }
    });
    if (!s.modulate) return;
    runs<Along>(s, lines, [&](int64_t i, int64_t offset, int count) {
      differences<Along, true>(bundle, i, count, true, s.scale, seen + i * bundle.after,
                               target + offset);
    });
  });
}

// Calls f(Along, Index) as the volume lies.
template <class F>
void dispatch(const LineShape& s, F&& f) {
  if (s.after == 1)
    f(std::true_type{}, int32_t{});
  else if (s.size * s.after < (int64_t(1) << 31))
    f(std::false_type{}, int32_t{});
  else
    f(std::false_type{}, int64_t{});
}

}  // namespace
}  // namespace fireants

using fireants::LineShape;

#define FIREANTS_UNBEND(SUFFIX, T)                                                                \
  FIREANTS_API int fireants_unbend_##SUFFIX(const LineShape* s, const T* image, const T* v,       \
                                            T* out) {                                             \
    return fireants::guarded([&] {                                                                \
      fireants::dispatch(*s, [&](auto along, auto index) {                                        \
        fireants::forward<T, along(), decltype(index)>(*s, image, v, out);                        \
      });                                                                                         \
    });                                                                                           \
  }                                                                                               \
  FIREANTS_API int fireants_unbend_backward_##SUFFIX(const LineShape* s, const T* grad,           \
                                                     const T* image, const T* v, T* grad_v) {     \
    return fireants::guarded([&] {                                                                \
      fireants::dispatch(*s, [&](auto along, auto index) {                                        \
        fireants::backward<T, along(), decltype(index)>(*s, grad, image, v, grad_v);              \
      });                                                                                         \
    });                                                                                           \
  }

FIREANTS_UNBEND(f32, float)
FIREANTS_UNBEND(f64, double)
