// The composition of warps.
#include <cmath>

#include "cpu/api.h"
#include "cpu/strips.h"

namespace fireants {
namespace {

// out = s v + u o (id + s v), s one number per row; peaks (rows, D): the largest |component|.
template <class T, int D, class Index>
void compose(const WarpShape& s, const T* u, const T* v, const T* scale, T* out, T* peaks) {
  double eye[D * (D + 1)] = {};
  for (int i = 0; i < D; ++i) eye[i * (D + 1) + i] = 1;
  const int64_t voxels = s.out[0] * s.out[1] * s.out[2];
  const int64_t pieces = Pieces(s).count(s.rows);
  std::vector<T> largest(peaks ? pieces * D : 0, T(0));
  strips<T, D, Index, true>(
      s, eye, v, scale,
      [&](int64_t k, int64_t row, int64_t at, int64_t, int count, const Strip<T, D, Index>& strip,
          const int*, const T* own) {
        const T* source = u + (s.image_rows == 1 ? 0 : row) * D * voxels;
        T* target = out + row * D * voxels + at;
        const T factor = scale ? scale[row] : T(1);
        for (int c = 0; c < D; ++c) {
          T* line = target + c * voxels;
          strip.values(source + c * voxels, count, line);
          if (own)
            for (int l = 0; l < count; ++l) line[l] += factor * own[c * voxels + l];
          if (peaks) {
            T top = largest[k * D + c];
            for (int l = 0; l < count; ++l) {
              const T size = std::abs(line[l]);
              top = size <= top ? top : size;  // NaN stays
            }
            largest[k * D + c] = top;
          }
        }
      });
  if (peaks) {
    const int64_t each = pieces / s.rows;
    std::fill(peaks, peaks + s.rows * D, T(0));
    for (int64_t k = 0; k < pieces; ++k)
      for (int c = 0; c < D; ++c) {
        T& top = peaks[(k / each) * D + c];
        const T size = largest[k * D + c];
        if (!(top != top) && !(size <= top)) top = size;
      }
  }
}

}  // namespace
}  // namespace fireants

using fireants::WarpShape;

#define FIREANTS_COMPOSE(SUFFIX, T)                                                               \
  FIREANTS_API int fireants_compose_##SUFFIX(const WarpShape* s, const T* u, const T* v,          \
                                             const T* scale, T* out, T* peaks) {                  \
    return fireants::guarded([&] {                                                                \
      fireants::dispatch(*s, true, [&](auto d, auto index, auto) {                                \
        fireants::compose<T, d(), decltype(index)>(*s, u, v, scale, out, peaks);                  \
      });                                                                                         \
    });                                                                                           \
  }

FIREANTS_COMPOSE(f32, float)
FIREANTS_COMPOSE(f64, double)
