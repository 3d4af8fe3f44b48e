// The composite sampler I(A (x + u(x)) + t) and its gradients.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/api.h"
#include "cpu/strips.h"

namespace fireants {

namespace {

// slopes (rows, D, out) when not null: the gradient of the one channel's value by its coordinate.
template <class T, int D, class Index, bool Border>
void forward(const WarpShape& s, const T* image, const double* matrix, const T* u, T* out,
             T* slopes) {
  const int64_t from = s.in[0] * s.in[1] * s.in[2], to = s.out[0] * s.out[1] * s.out[2];
  strips<T, D, Index, Border>(
      s, matrix, u, nullptr,
      [&](int64_t, int64_t row, int64_t at, int64_t, int count, const Strip<T, D, Index>& strip,
          const int*, const T*) {
        const T* source = image + (s.image_rows == 1 ? 0 : row) * s.channels * from;
        T* target = out + row * s.channels * to + at;
        if (slopes) {
          T slope[D][kLanes] = {};
          strip.slopes(source, nullptr, count, slope, target);
          for (int i = 0; i < D; ++i)
            std::copy_n(slope[i], count, slopes + (row * D + i) * to + at);
          return;
        }
        for (int64_t c = 0; c < s.channels; ++c) strip.values(source + c * from, count, target + c * to);
      });
}

// What the gradients by the coordinates of a strip add to those by u and by the matrices.
template <class T, int D>
struct MapGradient {
  const WarpShape& s;
  T* grad_u;            // (rows, D, out), or null
  double* grad_matrix;  // (rows, D, D + 1), or null
  std::vector<Map<T, D>> maps;
  std::vector<double> parts;  // of every piece
  int64_t to, pieces;
  static constexpr int kTerms = D * (D + 1);

  MapGradient(const WarpShape& shape, const double* matrix, T* by_u, double* by_matrix)
      : s(shape), grad_u(by_u), grad_matrix(by_matrix), maps(maps_of<T, D>(s, matrix)),
        to(s.out[0] * s.out[1] * s.out[2]), pieces(Pieces(s).count(1)) {
    if (grad_matrix) parts.assign(s.rows * pieces * kTerms, 0.0);
  }

  void add(int64_t piece, int64_t row, int64_t at, int64_t x0, int count, const int* index,
           const T* own, const T slope[D][kLanes]) {
    if (grad_u) {
      const Map<T, D>& map = maps[s.matrix_rows == 1 ? 0 : row];
      T* target = grad_u + row * D * to + at;
      T sum[D][kLanes] = {};
      for (int j = 0; j < D; ++j)
        for (int i = 0; i < D; ++i) {
          const T m = map.a[i][j];
#pragma omp simd
          for (int l = 0; l < kLanes; ++l) sum[j][l] += m * slope[i][l];
        }
      for (int j = 0; j < D; ++j) std::copy_n(sum[j], count, target + j * to);
    }
    if (!grad_matrix) return;
    double* part = parts.data() + piece * kTerms;
    for (int i = 0; i < D; ++i) {
      double total = 0, along = 0, moved[D] = {};
      for (int l = 0; l < count; ++l) {
        total += slope[i][l];
        along += slope[i][l] * static_cast<double>(x0 + l);
        if (own && slope[i][l] != T(0))  // u may be no number where there is no slope
          for (int j = 0; j < D; ++j) moved[j] += slope[i][l] * static_cast<double>(own[j * to + l]);
      }
      for (int j = 0; j < D; ++j)
        part[i * (D + 1) + j] += moved[j] + (j + 1 == D ? along : total * index[j]);
      part[i * (D + 1) + D] += total;
    }
  }

  void finish() {
    if (!grad_matrix) return;
    std::fill(grad_matrix, grad_matrix + s.rows * kTerms, 0.0);
    for (int64_t k = 0; k < s.rows * pieces; ++k)
      for (int i = 0; i < kTerms; ++i) grad_matrix[(k / pieces) * kTerms + i] += parts[k * kTerms + i];
  }
};

template <class T, int D, class Index, bool Border>
void backward_map(const WarpShape& s, const T* grad, const T* image, const double* matrix,
                  const T* u, T* grad_u, double* grad_matrix) {
  MapGradient<T, D> gradient(s, matrix, grad_u, grad_matrix);
  const int64_t from = s.in[0] * s.in[1] * s.in[2], to = gradient.to;
  strips<T, D, Index, Border>(
      s, matrix, u, nullptr,
      [&](int64_t k, int64_t row, int64_t at, int64_t x0, int count,
          const Strip<T, D, Index>& strip, const int* index, const T* own) {
        const T* source = image + (s.image_rows == 1 ? 0 : row) * s.channels * from;
        const T* given = grad + row * s.channels * to + at;
        T slope[D][kLanes] = {};
        for (int64_t c = 0; c < s.channels; ++c)
          strip.slopes(source + c * from, given + c * to, count, slope);
        gradient.add(k, row, at, x0, count, index, own, slope);
      });
  gradient.finish();
}

// The same from the slopes that `forward` left, in whose place comes the gradient by u.
template <class T, int D>
void backward_slopes(const WarpShape& s, const T* grad, const double* matrix, const T* u,
                     T* slopes, double* grad_matrix) {
  MapGradient<T, D> gradient(s, matrix, slopes, grad_matrix);
  const Pieces pieces(s);
  const int64_t width = s.out[2], to = gradient.to;
  parallel(pieces.count(s.rows), s.threads, [&](int64_t k, int) {
    pieces.each(k, [&](int64_t row, int64_t z, int64_t y) {
      int index[D];
      index_of<D>(z, y, index);
      for (int64_t x0 = 0; x0 < width; x0 += kLanes) {
        const int count = static_cast<int>(std::min<int64_t>(kLanes, width - x0));
        const int64_t at = (z * s.out[1] + y) * width + x0;
        const T* own = u ? u + (s.u_rows == 1 ? 0 : row) * D * to + at : nullptr;
        const T *given = grad + row * to + at, *known = slopes + row * D * to + at;
        T slope[D][kLanes] = {};
        for (int i = 0; i < D; ++i)
          for (int l = 0; l < count; ++l)  // 0 where the place was no number, whatever is given
            slope[i][l] = known[i * to + l] == T(0) ? T(0) : known[i * to + l] * given[l];
        gradient.add(k, row, at, x0, count, index, own, slope);
      }
    });
  });
  gradient.finish();
}

// grad_image (image_rows, channels, in): every slab of the image has one owner, which adds what
// lands in it in the order of the output. No atomics, the same bits for any number of threads.
template <class T, int D, class Index, bool Border>
void backward_image(const WarpShape& s, const T* grad, const double* matrix, const T* u,
                    T* grad_image) {
  const auto maps = maps_of<T, D>(s, matrix);
  const auto in = extent_of<D>(s.in);
  const int64_t width = s.out[2], lines = s.out[0] * s.out[1], to = lines * width;
  const int64_t strips_per_line = (width + kLanes - 1) / kLanes;
  const int64_t per_row = lines * strips_per_line;
  struct Span {
    int low, high;
  };
  std::vector<Span> spans(s.rows * per_row);

  auto place = [&](Strip<T, D, Index>& strip, int64_t row, int64_t line, int64_t part) {
    int index[D];
    index_of<D>(line / s.out[1], line % s.out[1], index);
    const int64_t x0 = part * kLanes, at = line * width + x0;
    const int count = static_cast<int>(std::min<int64_t>(kLanes, width - x0));
    const T* own = u ? u + (s.u_rows == 1 ? 0 : row) * D * to + at : nullptr;
    strip.template place<Border>(maps[s.matrix_rows == 1 ? 0 : row], in, index,
                                 static_cast<int>(x0), count, own, to, T(1));
    return count;
  };

  parallel(s.rows * lines, s.threads, [&](int64_t k, int) {
    Strip<T, D, Index> strip;
    for (int64_t part = 0; part < strips_per_line; ++part) {
      const int count = place(strip, k / lines, k % lines, part);
      Span span{in.n[0], -1};
      for (int l = 0; l < count; ++l) {
        const int low = static_cast<int>(strip.base[l] / in.stride[0]);
        const int high = low + (strip.up[0] ? 1 : 0);
        span.low = std::min(span.low, low);
        span.high = std::max(span.high, high);
      }
      spans[(k / lines) * per_row + (k % lines) * strips_per_line + part] = span;
    }
  });

  std::fill(grad_image, grad_image + s.image_rows * s.channels * in.voxels, T(0));
  const int slabs = std::max(1, std::min(in.n[0], 4 * s.threads));
  parallel(s.image_rows * slabs, s.threads, [&](int64_t k, int) {
    Strip<T, D, Index> strip;
    const int64_t owner = k / slabs, slab = k % slabs;
    const int low = static_cast<int>(in.n[0] * slab / slabs);
    const int high = static_cast<int>(in.n[0] * (slab + 1) / slabs);
    for (int64_t row = s.image_rows == 1 ? 0 : owner; row < (s.image_rows == 1 ? s.rows : owner + 1); ++row) {
      for (int64_t line = 0; line < lines; ++line) {
        for (int64_t part = 0; part < strips_per_line; ++part) {
          const Span& span = spans[row * per_row + line * strips_per_line + part];
          if (span.high < low || span.low >= high) continue;
          const int count = place(strip, row, line, part);
          const int64_t at = line * width + part * kLanes;
          for (int64_t c = 0; c < s.channels; ++c) {
            const T* given = grad + (row * s.channels + c) * to + at;
            T* target = grad_image + (owner * s.channels + c) * in.voxels;
            for (int l = 0; l < count; ++l) {
              if (strip.flag[l] != T(0)) continue;
              const int first = static_cast<int>(strip.base[l] / in.stride[0]);
              for (int side = 0; side < 2; ++side) {
                const int plane = first + (side && strip.up[0] ? 1 : 0);
                const T w = (side ? strip.w1 : strip.w0)[0][l] * given[l];
                if (plane < low || plane >= high) continue;
                T* p = target + strip.base[l] + (side ? strip.up[0] : 0);
                if constexpr (D == 3) {
                  const Index y = strip.up[1], x = strip.up[2];
                  const T wy0 = w * strip.w0[1][l], wy1 = w * strip.w1[1][l];
                  p[0] += wy0 * strip.w0[2][l];
                  p[x] += wy0 * strip.w1[2][l];
                  p[y] += wy1 * strip.w0[2][l];
                  p[y + x] += wy1 * strip.w1[2][l];
                } else {
                  p[0] += w * strip.w0[1][l];
                  p[strip.up[1]] += w * strip.w1[1][l];
                }
              }
            }
          }
        }
      }
    }
  });
}

// The value at the nearest sample (halves to the even one, as torch rounds).
template <class T, int D>
void nearest(const WarpShape& s, const T* image, const double* matrix, const T* u, T* out) {
  const auto maps = maps_of<T, D>(s, matrix);
  const auto in = extent_of<D>(s.in);
  const Pieces pieces(s);
  const int64_t width = s.out[2], to = s.out[0] * s.out[1] * width;
  parallel(pieces.count(s.rows), s.threads, [&](int64_t k, int) {
    pieces.each(k, [&](int64_t row, int64_t z, int64_t y) {
      int index[D];
      index_of<D>(z, y, index);
      const Map<T, D>& map = maps[s.matrix_rows == 1 ? 0 : row];
      for (int64_t x = 0; x < width; ++x) {
        const int64_t at = (z * s.out[1] + y) * width + x;
        T point[D];
        for (int j = 0; j < D; ++j) {
          point[j] = static_cast<T>(j + 1 == D ? x : index[j]);
          if (u) point[j] += u[((s.u_rows == 1 ? 0 : row) * D + j) * to + at];
        }
        int64_t where = 0;
        bool inside = true, known = true;
        for (int i = 0; i < D; ++i) {
          T c = static_cast<T>(map.t[i]);
          for (int j = 0; j < D; ++j) c += map.a[i][j] * point[j];
          known = known && c == c;
          const T top = static_cast<T>(in.n[i] - 1);
          if (s.border || !(c == c)) c = c > T(0) ? (c < top ? c : top) : T(0);
          c = std::nearbyint(c);
          inside = inside && c >= T(0) && c <= top;
          if (inside) where += static_cast<int64_t>(c) * in.stride[i];
        }
        for (int64_t c = 0; c < s.channels; ++c) {
          const T* source = image + ((s.image_rows == 1 ? 0 : row) * s.channels + c) * in.voxels;
          const T value = inside ? source[where] : T(0);
          out[(row * s.channels + c) * to + at] = known ? value : std::numeric_limits<T>::quiet_NaN();
        }
      }
    });
  });
}

}  // namespace
}  // namespace fireants

using fireants::WarpShape;

#define FIREANTS_WARP(SUFFIX, T)                                                                  \
  FIREANTS_API int fireants_warp_##SUFFIX(const WarpShape* s, const T* image,                     \
                                          const double* matrix, const T* u, T* out, T* slopes) {  \
    return fireants::guarded([&] {                                                                \
      if (s->nearest) {                                                                           \
        if (s->dim == 3)                                                                          \
          fireants::nearest<T, 3>(*s, image, matrix, u, out);                                     \
        else                                                                                      \
          fireants::nearest<T, 2>(*s, image, matrix, u, out);                                     \
        return;                                                                                   \
      }                                                                                           \
      fireants::dispatch(*s, s->border, [&](auto d, auto index, auto border) {                    \
        fireants::forward<T, d(), decltype(index), border()>(*s, image, matrix, u, out, slopes);  \
      });                                                                                         \
    });                                                                                           \
  }                                                                                               \
  FIREANTS_API int fireants_warp_backward_##SUFFIX(const WarpShape* s, const T* grad,             \
                                                   const T* image, const double* matrix,          \
                                                   const T* u, T* grad_image, T* grad_u,          \
                                                   double* grad_matrix) {                         \
    return fireants::guarded([&] {                                                                \
      fireants::dispatch(*s, s->border, [&](auto d, auto index, auto border) {                    \
        if (grad_u || grad_matrix)                                                                \
          fireants::backward_map<T, d(), decltype(index), border()>(*s, grad, image, matrix, u,   \
                                                                    grad_u, grad_matrix);         \
        if (grad_image)                                                                           \
          fireants::backward_image<T, d(), decltype(index), border()>(*s, grad, matrix, u,        \
                                                                      grad_image);                \
      });                                                                                         \
    });                                                                                           \
  }                                                                                               \
  FIREANTS_API int fireants_warp_slopes_##SUFFIX(const WarpShape* s, const T* grad,               \
                                                 const double* matrix, const T* u, T* slopes,     \
                                                 double* grad_matrix) {                           \
    return fireants::guarded([&] {                                                                \
      if (s->dim == 3) return fireants::backward_slopes<T, 3>(*s, grad, matrix, u, slopes, grad_matrix); \
      return fireants::backward_slopes<T, 2>(*s, grad, matrix, u, slopes, grad_matrix);           \
    });                                                                                           \
  }

FIREANTS_WARP(f32, float)
FIREANTS_WARP(f64, double)
